"""A mixture of experts through a run: the load-balancing loss in the metrics, the use of experts in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from twofold.demo.build import character_tokenizer
from twofold.models.adapters import LoRA
from twofold.models.load import ModelSettings, load_policy
from twofold.models.model_size import model_size
from twofold.reports.run import read_run
from twofold.runs.train import train

ROWS = [{"prompt": f"{n}+1?", "chosen": f"{n + 1}", "rejected": "no"} for n in range(6)]


@pytest.fixture
def mixture(tmp_path: Path) -> str:
    tokenizer = character_tokenizer()
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_the_loss_is_learned_from_and_the_use_is_shown(mixture: str, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    sections = {"training": {"steps": 6, "batch_size": 4}, "optimizer": {"learning_rate": 3e-3}}
    result = train(mixture, str(data), run=str(tmp_path / "run"), model={"router_aux_loss_coef": 5.0}, **sections)
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    for line in steps:
        assert line["loss"] == pytest.approx(line["loss/dpo"] + 5 * line["loss/load_balancing"], abs=1e-6)
        assert 0 <= line["experts/smallest_share"] <= 0.25 <= line["experts/largest_share"] <= 1
    assert steps[-1]["loss/load_balancing"] < steps[0]["loss/load_balancing"]
    experts = json.loads((result.folder / "results.json").read_text("utf-8"))["experts"]
    assert [len(row) for row in experts["share"]] == [4, 4]
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in experts["share"])
    assert 0 < experts["evenness"] <= 1
    page = (result.folder / "report.html").read_text("utf-8")
    assert "Use of experts" in page
    assert f"Evenness {experts['evenness']:.3f}" in page
    assert read_run(result.folder).results.experts == experts


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj",), ("experts",), ("q_proj", "w2")])
@pytest.mark.filterwarnings("ignore:.*target_parameters.*")
def test_a_dry_run_counts_what_the_adapter_has(mixture: str, targets: str | tuple[str, ...]) -> None:
    settings = ModelSettings(path=mixture, lora=LoRA(rank=2, targets=targets))
    policy, _ = load_policy(settings)
    assert model_size(settings).trainable == sum(p.numel() for p in policy.trainable().values())
