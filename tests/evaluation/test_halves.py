"""Measurements of an evaluation: in batches, recorded, by shards, and together again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from twofold.evaluation.parts import WHOLE, Line, Part, facts_of, grain_of, lines_of, measured_of
from twofold.ledger import Ledger


class Bar:
    """What a progress bar was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, task: str, total: int) -> None:
        self.calls.append(("begin", task, total))

    def advance(self, task: str, done: int = 1) -> None:
        self.calls.append(("advance", task, done))

    def end(self, task: str) -> None:
        self.calls.append(("end", task))


def measured(part: Part, items: Sequence[int], size: int, bar: Bar | None = None) -> tuple[list[Any], list[list[int]]]:
    """The rows, and the batches that were measured."""
    batches: list[list[int]] = []

    def work(batch: Sequence[int]) -> list[dict[str, Any]]:
        batches.append(list(batch))
        return [{"twice": 2 * item} for item in batch]

    return part.rows(["a", "b"], items, size, work, ("measure", bar or Bar())), batches  # type: ignore[arg-type]


def test_items_are_measured_in_batches_with_progress() -> None:
    bar = Bar()
    found, batches = measured(WHOLE, range(5), 2, bar)
    assert found == [{"twice": 2 * i} for i in range(5)]
    assert batches == [[0, 1], [2, 3], [4]]
    steps = [("advance", "measure", n) for n in (2, 2, 1)]
    assert bar.calls == [("begin", "measure", 5), *steps, ("end", "measure")]


def test_a_part_measures_its_items_only() -> None:
    bar, part = Bar(), Part(first=1, end=4)
    assert measured(part, range(6), 2, bar) == ([{"twice": 2}, {"twice": 4}, {"twice": 6}], [[1, 2], [3]])
    assert bar.calls[0] == ("begin", "measure", 3)
    assert list(part.of(range(6))) == [1, 2, 3]
    assert list(Part(first=4).of(range(6))) == [4, 5]


def test_what_is_recorded_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        once = measured(Part(end=4, ledger=ledger, request="e"), range(6), 2)
        again = measured(Part(ledger=ledger, request="e"), range(6), 2)
        other = measured(Part(ledger=ledger, request="f"), range(6), 2)
        request = {"evaluation": "e", "of": ["a", "b"], "items": [2, 4]}
        assert ledger.get(request) == [{"twice": 4}, {"twice": 6}]
    assert once[1] == [[0, 1], [2, 3]]
    assert again == ([{"twice": 2 * i} for i in range(6)], [[4, 5]])
    assert other[1] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("total", "most", "size"), [(0, 8, 1), (1, 8, 1), (16, 8, 1), (17, 8, 2), (32, 8, 2), (33, 8, 3), (1000, 8, 8)]
)
def test_there_are_at_least_sixteen_batches(total: int, most: int, size: int) -> None:
    assert grain_of(total, most) == size


def test_shards_of_an_evaluation_come_together_in_order() -> None:
    whole = {"a": Line([{"x": 1}, {"x": 2}], {"judge": "j"}, "w"), "b": Line([{"x": 3}])}
    facts, lines = facts_of(whole), list(lines_of(whole))
    assert facts == {"a": {"about": {"judge": "j"}, "weights": "w"}, "b": {"about": {}, "weights": ""}}
    assert lines == [{"line": "a", "row": {"x": 1}}, {"line": "a", "row": {"x": 2}}, {"line": "b", "row": {"x": 3}}]
    assert measured_of(facts, lines) == whole
    assert list(measured_of(facts, [])) == ["a", "b"]
