"""Numbers that JSON of Python's may hold and no figure can be made of, and files that nest too deeply."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from twofold.reports import frontier, run
from twofold.reports.run import SampleRow, estimate, typed
from twofold.statistics import Estimate, wilson

WHOLE = {"value": 0.5, "low": 0.25, "high": 1.0, "n": 4}


def test_an_estimate_has_a_number_of_observations() -> None:
    assert estimate(WHOLE) == Estimate(0.5, 0.25, 1.0, 4, None, "")
    assert [estimate({**WHOLE, "n": n}) for n in (math.inf, math.nan, "x", None)] == [None] * 4
    assert [estimate(data) for data in ({**WHOLE, "clusters": math.inf}, [], None, {})] == [None] * 4


@pytest.mark.parametrize("step", [math.inf, math.nan, "x", [1]])
def test_a_row_without_a_whole_step_is_none(step: object) -> None:
    assert typed(SampleRow, {"step": step}) is None
    assert typed(SampleRow, {"step": 3.0}) == SampleRow(3)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "3"])
def test_a_file_that_is_no_object_is_left_out(text: str, tmp_path: Path) -> None:
    path, faults = tmp_path / "environment.json", list[str]()
    path.write_text(text, encoding="utf-8")
    assert run._object(path, faults) == {}
    assert faults == ["environment.json is not a JSON object and was left out"]


@pytest.mark.parametrize(
    ("value", "n", "gain"),
    [
        (0.5, 4.0, wilson(2, 4)), (0.5, 0.0, Estimate(0.5, 0.5, 0.5, 0, None, "")), (math.nan, 4.0, None),
        (0.5, math.nan, None), (0.5, math.inf, None), (1.5, 4.0, Estimate(1.5, 1.5, 1.5, 4, None, "")),
        (0.0, 1.0, wilson(0, 1)), (1.0, 1.0, wilson(1, 1)),
    ],
)  # fmt: skip
def test_a_gain_needs_finite_numbers(value: float, n: float, gain: Estimate | None) -> None:
    assert frontier._gain({"exact_match/strict": value, "exact_match/n": n}, "exact_match/strict") == gain
    plain = None if gain is None else Estimate(value, value, value, round(n), None, "")
    assert frontier._gain({"reward/mean": value, "reward/n": n}, "reward/mean") == plain
