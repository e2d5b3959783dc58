"""Encoder–decoders through whole runs: what is learned is what transformers' own losses of labels teach."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
import transformers as tr
from peft import PeftModel
from torch import Tensor

from support import seq2seq
from twofold.models.adapters import LoRA
from twofold.models.export import export_model
from twofold.models.load import ModelSettings, load_model, load_policy
from twofold.models.model_size import model_size
from twofold.objectives import OnPairs
from twofold.records import Demonstration, Labelled, Pair, Ranking, Source
from twofold.runs.train import train

PAIRS = [
    Pair(prompt=f"what is {i}?", chosen=f"it is {i}.", rejected=f"no {7 * i % 24} idea", source=Source("rows", i))
    for i in range(8)
]
AT_LN_2 = {"dpo", "robust_dpo", "f_dpo", "ln_dpo", "ld_dpo", "dpo_shift", "dpop", "aot"}
AT_TWICE_LN_2 = {"nca", "bco_pair"}


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def labels_logp(model: tr.PreTrainedModel, tokenizer: Any, prompt: Any, answer: str) -> Tensor:
    labels = tokenizer(text_target=answer, return_tensors="pt")["input_ids"]
    loss = model(input_ids=tokenizer(prompt, return_tensors="pt")["input_ids"], labels=labels).loss
    return -loss * labels.shape[1]


@pytest.mark.parametrize("kind", seq2seq.MAKERS)
def test_steps_are_those_of_a_loop_by_hand(kind: str, tmp_path: Path) -> None:
    """Three steps of DPO on all rows, and gradient descent."""
    model, tokenizer = seq2seq.MAKERS[kind]().double(), seq2seq.tokenizer(kind)
    mine, reference = deepcopy(model), deepcopy(model)
    for _ in range(3):
        mine.zero_grad()
        losses: list[Tensor] = []
        for row in PAIRS:
            chosen, rejected = (
                labels_logp(mine, tokenizer, row.prompt, answer)
                - labels_logp(reference, tokenizer, row.prompt, answer).detach()
                for answer in (row.chosen, row.rejected)
            )
            losses.append(-torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)))
        torch.stack(losses).mean().backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
    train(
        (model, tokenizer), PAIRS, run=str(tmp_path / "run"), training={"steps": 3, "batch_size": 8},
        optimizer={"kind": "sgd", "learning_rate": 0.05, "momentum": 0.0, "schedule": "constant", "warmup": 0,
                   "clip": None},
    )  # fmt: skip
    limit = 1e-10 if kind == "bart" else 1e-8  # T5's norms are computed in float32
    moved = 0.0
    for (name, parameter), expected in zip(model.named_parameters(), mine.parameters(), strict=True):
        assert (parameter - expected).abs().max() <= limit, name
        moved = max(moved, float((parameter - dict(reference.named_parameters())[name]).detach().abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("objective", [c.__dataclass_fields__["kind"].default for c in get_args(OnPairs)])
def test_every_objective_on_pairs_learns_from_its_first_step(objective: str, tmp_path: Path) -> None:
    train(
        (seq2seq.t5().double(), seq2seq.tokenizer("t5")), PAIRS[:4], run=str(tmp_path),
        objective=cast("Any", {"kind": objective}), training={"steps": 2, "batch_size": 4},
        optimizer={"learning_rate": 1e-3, "warmup": 0},
    )  # fmt: skip
    first, second = logged(tmp_path)
    expected = {**dict.fromkeys(AT_LN_2, 1), **dict.fromkeys(AT_TWICE_LN_2, 2)}.get(objective)
    if expected is not None:
        assert first["loss"] == pytest.approx(expected * math.log(2), abs=1e-12)
    assert first["grad_norm"] > 0
    assert second["margin"] > first["margin"] or objective == "discopop"  # which is not monotone about 0


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["full", "lora"])
@pytest.mark.parametrize("reference", ["cached", "live"])
@pytest.mark.parametrize("kind", seq2seq.MAKERS)
def test_the_first_loss_is_ln_2_whatever_is_trained(
    kind: str, reference: str, lora: dict[str, int] | None, tmp_path: Path
) -> None:
    base = str(seq2seq.folder(kind, tmp_path / "base"))
    train(
        base, PAIRS, model={"lora": lora}, reference={"kind": reference}, run=str(tmp_path / "run"),
        training={"steps": 2, "batch_size": 4}, optimizer={"learning_rate": 1e-3, "warmup": 0},
    )  # fmt: skip
    first, second = logged(tmp_path / "run")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["margin"] == 0
    assert second["margin"] != 0


@pytest.mark.parametrize(
    ("rows", "objective"),
    [
        ([Demonstration(prompt=p.prompt, completion=p.chosen, source=p.source) for p in PAIRS], "sft"),
        ([Labelled(prompt=p.prompt, completion=p.chosen, desirable=i % 2 == 0, source=p.source)
          for i, p in enumerate(PAIRS)], "kto"),
        ([Ranking(prompt=p.prompt, completions=(p.chosen, "so", p.rejected), source=p.source) for p in PAIRS],
         "plackett_luce"),
    ],
)  # fmt: skip
def test_other_kinds_of_rows_are_learned_from(rows: list[Any], objective: str, tmp_path: Path) -> None:
    train(
        (seq2seq.bart(), seq2seq.tokenizer("bart")), rows, run=str(tmp_path),
        objective=cast("Any", {"kind": objective}), training={"steps": 6, "batch_size": 8},
        optimizer={"learning_rate": 1e-3, "warmup": 0, "schedule": "constant"},
    )  # fmt: skip
    lines = logged(tmp_path)
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize(
    "algorithm",
    [
        {"kind": "pdpo", "warmup": 0.0, "prompts": 2, "samples": 4},
        {"kind": "online", "judge": lambda p, c, t: float(len(c))},
    ],
    ids=["pdpo", "online"],
)
def test_drafts_of_its_own_are_learned_from(algorithm: dict[str, Any], tmp_path: Path) -> None:
    data = {"generator": {"fraction": 0.5}} if algorithm["kind"] == "pdpo" else {}
    model: Any = seq2seq.bart()
    model.final_logits_bias[0, 2] += 6  # answers end soon
    train(
        (model, seq2seq.tokenizer("bart")), PAIRS, algorithm=algorithm, data=data, run=str(tmp_path),
        sampling={"max_new_tokens": 30}, training={"steps": 4, "batch_size": 4},
        optimizer={"learning_rate": 1e-3, "warmup": 0},
    )  # fmt: skip
    steps = logged(tmp_path)
    if algorithm["kind"] == "pdpo":
        assert [steps[0]["gap"], steps[0]["loss/pdpo"]] == [0, 0]
        assert all(step["drafts_kept"] > 0 for step in steps)
        assert steps[1]["loss/pdpo"] > 0
    else:
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert steps[0]["grad_norm"] > 0


def test_lora_counts_trains_and_comes_back_merged(tmp_path: Path) -> None:
    base = str(seq2seq.folder("bart", tmp_path / "base"))
    settings = ModelSettings(path=base, lora=LoRA(rank=2))
    trainable = sum(p.numel() for p in load_policy(settings)[0].trainable().values())
    assert model_size(settings).trainable == trainable > 0
    result = train(
        base, PAIRS, model={"lora": {"rank": 2}}, run=str(tmp_path / "run"), training={"steps": 2, "batch_size": 8}
    )
    export_model(result.folder / "model", tmp_path / "merged")
    plain = tr.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged")
    adapted = PeftModel.from_pretrained(tr.AutoModelForSeq2SeqLM.from_pretrained(base), str(result.folder / "model"))
    assert adapted.peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    tokenizer = tr.AutoTokenizer.from_pretrained(tmp_path / "merged")
    row = tokenizer("what is 3?", text_target="it is 3.", return_tensors="pt")
    with torch.no_grad():
        assert float(plain(**row).loss) == pytest.approx(float(adapted(**row).loss), abs=1e-5)
    loaded = load_model(ModelSettings(path=str(result.folder / "model")))
    assert type(loaded.model) is type(plain)
