"""Before the first update the policy is the reference, to the last bit, in every precision: the loss is ln 2 and every
margin 0, also of the held-out rows."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from twofold.records import Pair, Source
from twofold.runs.train import train

WORDS = ("one", "two", "three", "four and", "five of the", "six", "seventeen", "a", "none at all", "b")


def rows(num: int) -> list[Pair]:
    """Of many lengths, so that what shares a pack differs from step to step."""
    said = [f"{WORDS[i % 10]} {WORDS[i * 7 % 10]} {i}" for i in range(3 * num)]
    return [
        Pair(
            prompt=f"say {said[i]}: ",
            chosen=f" {said[i + num]}",
            rejected=f" {said[i + 2 * num]} {i}",
            source=Source("rows", i),
        )
        for i in range(num)
    ]


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


TUNED: dict[str, dict[str, Any] | None] = {
    "full": None,
    "lora": {"rank": 2},
    "dora": {"rank": 2, "dora": True, "rslora": True, "modules_to_save": ["lm_head"]},
}
EACH = list(product(["bfloat16", "float32"], ["cached", "live"], [*TUNED], ["auto", "rows"]))
HALF = [row for row in EACH if sum(row.count(name) for name in ("float32", "live", "lora", "rows")) % 2 == 0]
"""Any three of the four settings in all their combinations; `slow` has the others."""


@pytest.mark.parametrize(
    ("precision", "kind", "tuned", "sharing"),
    [pytest.param(*row, marks=[] if row in HALF else pytest.mark.slow) for row in EACH],
)
def test_the_first_loss_is_ln_2_and_first_margins_are_0(
    precision: str, kind: str, tuned: str, sharing: str, base: Path, tmp_path: Path
) -> None:
    """None is above 0 and none differs from the others, so that 0 is no mean."""
    lora = TUNED[tuned]
    train(
        str(base), rows(23),
        model={"precision": precision, "lora": lora, "sharing": sharing}, reference={"kind": kind},
        data={"heldout": {"count": 6}}, training={"batch_size": 5, "steps": 2, "packing": {"tokens": 120}},
        optimizer={"learning_rate": 1e-2, "warmup": 0.0}, run=str(tmp_path / "run"),
    )  # fmt: skip
    before, first, second, _ = logged(tmp_path / "run")
    for figures, name in ((before, "heldout/"), (first, "")):
        assert figures[f"{name}loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert [figures[f"{name}{figure}"] for figure in ("margin", "accuracy", "gradient_weight_std")] == [0, 0, 0]
    assert second["margin"] != 0
