"""Whole runs on a base in few bits: where they begin, what they write, what a dry run says of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import transformers as tr

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.models.export import export_model
from twofold.models.quantized import BYTES_PER_WEIGHT
from twofold.records import Pair, Source
from twofold.runs.dry_run import dry_run
from twofold.runs.train import train

pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")


def rows(num: int) -> list[Pair]:
    return [Pair(f"say {i}: ", f" {i}!" * (1 + i % 3), f" {i * 7} no", Source("rows", i)) for i in range(num)]


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["cached", "live"])
@pytest.mark.parametrize(("quantize", "precision"), [("nf4", "float32"), ("nf4", "bfloat16"), ("int8", "float32")])
def test_the_first_loss_is_ln_2_and_the_end_is_a_plain_model(
    quantize: str, precision: str, kind: str, base: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(
        str(base), rows(14),
        model={"precision": precision, "quantize": quantize, "lora": {"rank": 2}}, reference={"kind": kind},
        data={"heldout": {"count": 4}}, training={"batch_size": 5, "steps": 2, "packing": {"tokens": 120}},
        optimizer={"learning_rate": 1e-2, "warmup": 0.0}, run=str(run),
    )  # fmt: skip
    before, first, second, _ = logged(run)
    for figures, name in ((before, "heldout/"), (first, "")):
        assert figures[f"{name}loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert [figures[f"{name}{figure}"] for figure in ("margin", "accuracy")] == [0, 0]
    assert second["margin"] != 0
    export_model(run / "model", tmp_path / "whole", "bfloat16")
    whole = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert not getattr(whole, "is_quantized", False)


def recipe(tmp_path: Path, base: Path, **model: Any) -> Recipe:
    train = tmp_path / "pairs.jsonl"
    train.write_text('{"prompt": "1+1?", "chosen": "2", "rejected": "3"}\n' * 4, encoding="utf-8")
    given = {"model": {"path": str(base), "precision": "float32", **model}, "data": {"train": str(train)}}
    return validate(Recipe, Document("test", given, {}))


@pytest.mark.filterwarnings("ignore")
def test_a_dry_run_counts_the_bits(tmp_path: Path, base: Path) -> None:
    lora = {"rank": 2}
    plain = dry_run(recipe(tmp_path, base, lora=lora))
    for quantize, bytes_each in BYTES_PER_WEIGHT.items():
        planned = dry_run(recipe(tmp_path, base, lora=lora, quantize=quantize))
        assert (planned.parameters, planned.trainable) == (plain.parameters, plain.trainable)
        quantized = (plain.memory.weights - planned.memory.weights) / (4 - bytes_each)
        assert 0.2 * plain.parameters < quantized < plain.parameters
    assert BYTES_PER_WEIGHT["nf4"] == pytest.approx(0.5159, abs=1e-4)


def test_all_weights_of_a_quantized_base_cannot_be_trained(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.quantize holds a frozen base in few bits: set model\.lora"):
        recipe(tmp_path, base, quantize="nf4")
    with pytest.raises(RecipeError, match="quantize"):
        recipe(tmp_path, base, quantize="nf5", lora={})
