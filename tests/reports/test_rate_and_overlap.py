"""Learning rates that are unusual for what is tuned, and rows to measure on that were trained on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.frozen import refuse_changes
from support.made_up_runs import run_data
from twofold.reports import checks
from twofold.reports.checks import CHECKS, Check
from twofold.reports.findings import review
from twofold.reports.run import RunData

LORA, FULL, SFT = {"lora": {"rank": 8}}, {}, "sft"
LOW = "the learning rate is low, {:g} for {}: {} are usual, and little may have been learned"
HIGH = "the learning rate is high, {:g} for {}: {} are usual, and the model may have been damaged"
ADAPTER, WEIGHTS, LIKELY = "1e-05 to 0.001", "1e-07 to 1e-05", "1e-07 to 0.0001"


@pytest.mark.parametrize(
    ("value", "model", "kind", "parameters", "told"),
    [
        (5e-6, LORA, "dpo", 10**9, ""), (4.9e-6, LORA, "dpo", 10**9, LOW.format(4.9e-6, "an adapter", ADAPTER)),
        (1e-2, LORA, "dpo", 10**9, ""), (1.1e-2, LORA, "dpo", 10**9, HIGH.format(1.1e-2, "an adapter", ADAPTER)),
        (1.1e-2, {"adapter": "x"}, SFT, 0, HIGH.format(1.1e-2, "an adapter", ADAPTER)),
        (4.9e-8, FULL, "dpo", 10**9, LOW.format(4.9e-8, "all weights", WEIGHTS)), (5e-8, FULL, "dpo", 10**9, ""),
        (1e-4, FULL, "dpo", 10**9, ""), (1.1e-4, FULL, "dpo", 10**9, HIGH.format(1.1e-4, "all weights", WEIGHTS)),
        (1e-3, FULL, SFT, 10**9, ""), (1.1e-3, FULL, SFT, 10**9, HIGH.format(1.1e-3, "all weights", LIKELY)),
        (1e-3, FULL, "bradley_terry", 10**9, ""), (1.1e-4, FULL, "dpo", 49_999_999, ""),
        (1.1e-4, FULL, "dpo", 50_000_000, HIGH.format(1.1e-4, "all weights", WEIGHTS)),
        (1.1e-4, FULL, "dpo", 0, HIGH.format(1.1e-4, "all weights", WEIGHTS)), (1.1e-4, FULL, "dpo", 1, ""),
        (2e-3, FULL, "dpo", 10**6, ""), (2.1e-3, FULL, "dpo", 10**6, HIGH.format(2.1e-3, "all weights", WEIGHTS)),
    ],
)  # fmt: skip
def test_rates(value: float, model: dict[str, Any], kind: str, parameters: int, told: str) -> None:
    settings = {"optimizer": {"learning_rate": value}, "model": model, "objective": {"kind": kind}}
    run = run_data(settings=settings, environment={"parameters": parameters})
    assert checks.rate(run) == ([told] if told else [])


@pytest.mark.parametrize("value", [None, "1e-5", 0, 0.0, -1e-5, math.inf, math.nan])
def test_what_is_no_rate_is_not_looked_at(value: object) -> None:
    assert checks.rate(run_data(settings={"optimizer": {"learning_rate": value}})) is None
    assert checks.rate(run_data(settings={"optimizer": {"learning_rate": 1}})) != []


def tables(**digests: str) -> dict[str, Any]:
    return {"data": {name: {"sha256": digest} for name, digest in digests.items()}}


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A first stage that was trained on file b, and left rows of it out by a split."""
    folder = tmp_path / "stage"
    (folder / "model").mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps(tables(train="b", heldout="c")))
    (folder / "resolved.yaml").write_text(yaml.safe_dump({"data": {"heldout": 0.1, "split": "rows"}, "seed": 3}))
    return folder


def later(stage: Path, environment: dict[str, Any], **data: Any) -> RunData:
    settings = {"model": {"path": str(stage / "model")}, "data": data, "seed": 3}
    return run_data(settings=settings, environment=environment)


HERE = "the {} rows come from a file that was trained on"
BEFORE = "the base (stage) was trained on the file that the {} rows come from"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, None),
        ({"data": {"train": {"sha256": 3}}}, None),
        (tables(train="a"), []),
        (tables(train="a", heldout="a"), [HERE.format("heldout")]),
        (tables(generator="a", tasks="a"), [HERE.format("tasks")]),
        (tables(other="a", tasks="a"), []),
        (tables(train="a", heldout="a", tasks="a"), [HERE.format("heldout"), HERE.format("tasks")]),
    ],
)
def test_rows_that_were_trained_on_here(environment: dict[str, Any], told: list[str] | None) -> None:
    assert checks.overlap(run_data(environment=environment)) == told


def test_rows_that_the_base_was_trained_on(stage: Path) -> None:
    assert checks.overlap(later(stage, tables(train="a", heldout="b", tasks="b"))) == [
        BEFORE.format("heldout"), BEFORE.format("tasks"),
    ]  # fmt: skip
    assert checks.overlap(later(stage, tables(train="a", heldout="c"))) == []  # measured on there, not trained on
    elsewhere = run_data(settings={"model": {"path": "no such folder"}}, environment=tables(train="a", tasks="b"))
    assert checks.overlap(elsewhere) == []


def test_a_split_of_the_same_file_must_be_the_same_split(stage: Path) -> None:
    same = {"heldout": 0.1, "split": "rows"}
    assert checks.overlap(later(stage, tables(train="b"), **same)) == []
    assert checks.overlap(later(stage, tables(train="b"), heldout=0.2, split="rows")) == [BEFORE.format("heldout")]
    assert checks.overlap(later(stage, tables(train="b"), **same, limit=9)) == [BEFORE.format("heldout")]
    assert checks.overlap(later(stage, tables(train="b", tasks="b"), **same)) == [
        HERE.format("tasks"), BEFORE.format("tasks"),
    ]  # fmt: skip
    assert checks.overlap(later(stage, tables(train="b"))) == []  # nothing is held out of it
    (stage / "resolved.yaml").write_text("a: [")
    assert checks.overlap(later(stage, tables(train="b"), **same)) == [BEFORE.format("heldout")]
    (stage / "resolved.yaml").unlink()
    assert checks.overlap(later(stage, tables(train="b"), **same)) == [BEFORE.format("heldout")]


@pytest.mark.parametrize("broken", ["", "[1]", "{", "[" * 100_000])
def test_a_stage_that_tells_nothing_is_no_overlap(stage: Path, broken: str) -> None:
    (stage / "environment.json").write_text(broken)
    assert checks.overlap(later(stage, tables(train="a", tasks="b"))) == []
    (stage / "environment.json").unlink()
    assert checks.overlap(later(stage, tables(train="a", tasks="b"))) == []


def test_what_could_be_looked_at_is_named_in_this_order() -> None:
    """And only rows that were left out must be known: a run that tells nothing of them is not known to be sound."""
    empty = review([run_data()], [""])
    assert (empty.looked, empty.unseen) == (("final results",), ("rows left out or cut",))
    assert [check.name for check in CHECKS] == [
        "final results", "rows left out or cut", "size of what was measured on", "falls on the way",
        "log-probability of chosen", "completions cut off", "length of samples", "shut gates", "repetition",
        "form without skill", "pairs too easy", "length only", "learning rate", "overlap with training",
    ]  # fmt: skip
    refuse_changes(Check("a", checks.rate))
