"""Every way to train, on a real pretrained model: where it begins, and that it goes the right way."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import twofold
from support.real_model import QUESTIONS, ROUNDED, Independent, rms, steps_of, verb
from twofold.batch import Branch, Group, Role
from twofold.models.adapters import LoRA
from twofold.models.load import ModelSettings, load_policy, save_policy

pytestmark = pytest.mark.real
BEGIN = math.log(2)
EXACTLY = 1e-6
PRECISIONS = pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
"""`test_first_step.py` and its neighbors test every choice on tiny models; `make slow` tests all on the real one."""


@pytest.mark.parametrize(
    ("tuning", "reference", "precision", "bound"),
    [
        ("lora", "cached", "float32", EXACTLY),
        pytest.param("lora", "live", "bfloat16", EXACTLY, marks=pytest.mark.slow),
        pytest.param("lora", "cached", "bfloat16", EXACTLY, marks=pytest.mark.slow),
        pytest.param("full", "cached", "float32", EXACTLY, marks=pytest.mark.slow),
        ("full", "live", "bfloat16", EXACTLY),
    ],
)
def test_dpo_begins_at_ln_2_and_learns_its_rows(
    recipe: Path, tmp_path: Path, tuning: str, reference: str, precision: str, bound: float
) -> None:
    run = tmp_path / "run"
    full = ["model.lora=null", "optimizer.learning_rate=2e-5"] if tuning == "full" else []
    how = [f"model.precision={precision}", f"reference.kind={reference}", "training.batch_size=2", "training.steps=3"]
    verb("train", recipe, f"run={run}", *how, *full)
    first, _, third = steps_of(run)  # the rows of the first step, then the other two, then two that were met
    assert first["loss"] == pytest.approx(BEGIN, abs=bound)
    assert first["margin"] == pytest.approx(0, abs=2 * bound)
    assert third["loss"] < BEGIN - 0.05
    assert third["accuracy"] == 1
    if tuning == "full":
        stored = AutoModelForCausalLM.from_pretrained(run / "model", dtype="auto")
        assert str(stored.dtype) == "torch.bfloat16"  # as its base is


@pytest.mark.slow  # `test_quantized_runs.py` and `test_quantized.py` test tiny models so
def test_a_base_in_4_bits_begins_as_its_reference_and_is_exported_as_it_was_trained(
    real_model: Path, base: Independent, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    question, answer, _ = QUESTIONS[0]
    tokens, prompt = torch.tensor(base.answer(answer)), torch.tensor(base.prompt(question))
    groups = [Group("row", prompt, (Branch(tokens, Role.DRAFT),))]
    settings = ModelSettings(path=str(real_model), precision="float32", quantize="nf4", lora=LoRA(rank=4))
    policy, loaded = load_policy(settings)
    outputs, _ = policy(groups)
    outputs.logp_S.sum().backward()
    with policy.as_reference():
        assert torch.equal(policy.logps(groups)[0][0], outputs.logp_S.detach())
    with torch.no_grad():
        for parameter in policy.trainable().values():
            assert parameter.grad is not None
            parameter += 0.001 * parameter.grad.sign()
    ((trained,),) = policy.logps(groups)
    assert (trained - outputs.logp_S.detach()).abs().max() > 0.5
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    verb("export", tmp_path / "adapter", tmp_path / "whole")
    whole = Independent.of(tmp_path / "whole")
    assert rms(whole.logps(question, answer), trained) < ROUNDED  # its weights are in bfloat16


@PRECISIONS
def test_pdpo_begins_with_every_gap_at_0(recipe: Path, tmp_path: Path, precision: str) -> None:
    run = tmp_path / "run"
    how = ["data.generator.count=2", "algorithm.kind=pdpo", "algorithm.prompts=2", "algorithm.samples=2"]
    how += ["algorithm.warmup=0", "algorithm.drop_truncated=false", "sampling.max_new_tokens=10"]
    verb("train", recipe, f"run={run}", f"model.precision={precision}", "training.batch_size=2", *how)
    first, second = steps_of(run)
    assert [(s["drafts"], s["drafts_kept"]) for s in (first, second)] == [(4, 4), (4, 4)]
    assert (first["gap"], first["loss/pdpo"], first["draft_reward"], first["truth_reward"]) == (0, 0, 0, 0)
    assert first["draft_logp"] < -5  # of a model that can write, at temperature 1
    assert second["gap"] != 0
    gamma = 0.1
    assert second["loss"] == pytest.approx(second["loss/dpo"] + gamma * second["loss/pdpo"], rel=1e-5)


@PRECISIONS
def test_grpo_learns_from_the_reward_of_its_own_drafts(
    real_model: Path, pairs: Path, tmp_path: Path, precision: str
) -> None:
    heard: list[tuple[str, str]] = []

    def brief(prompt: str, completion: str, truth: str | None) -> float:
        heard.append((prompt, completion))
        return -float(len(completion))

    run = tmp_path / "run"
    twofold.train(
        str(real_model), str(pairs), run=str(run), objective=twofold.GRPO(beta=0.1),
        model={"precision": precision, "lora": {"rank": 4}},
        algorithm={"kind": "policy_gradient", "reward": brief, "samples": 3},
        sampling={"max_new_tokens": 10}, training={"steps": 1, "batch_size": 2},
    )  # fmt: skip
    (step,) = steps_of(run)
    assert len(heard) == step["drafts"] == 6
    assert all(prompt.startswith("[user]") and "<|im" not in text for prompt, text in heard)
    assert step["reward"] == pytest.approx(-sum(len(text) for _, text in heard) / 6, rel=1e-6)
    assert step["ratio"] == pytest.approx(1, abs=EXACTLY)  # on-policy
    assert step["loss/kl"] == pytest.approx(0, abs=EXACTLY)  # the policy is its reference
    assert step["grad_norm"] > 0
