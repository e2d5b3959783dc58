"""Verdicts of a person are kept one by one and taken back one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.errors import DataError
from twofold.judges.people import HumanVerdicts, swapped


def test_verdicts_survive_the_process_and_undoing_does_too(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    with HumanVerdicts(path) as verdicts:
        verdicts.give("a", "first")
        verdicts.give("b", "tie")
        verdicts.give("c", "second", seconds=1.5)
        assert verdicts.undo() == "c"
    with HumanVerdicts(path) as verdicts:
        assert [verdicts.get(name) for name in "abc"] == ["first", "tie", None]
        assert [verdicts.undo() for _ in range(3)] == ["b", "a", None]
    assert len(path.read_text().splitlines()) == 6


def test_a_line_that_is_no_verdict_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"key": "a", "choice": "first"}\n{"key": "b", "choice": "left"}\n')
    with pytest.raises(DataError, match=r"v\.jsonl:2: is no verdict"):
        HumanVerdicts(path)


def test_the_order_is_a_fair_coin_of_seed_and_row() -> None:
    orders = [[swapped(seed, row) for row in range(1, 2001)] for seed in (0, 1)]
    assert orders[0] == [swapped(0, row) for row in range(1, 2001)]
    assert all(abs(sum(order) - 1000) < 100 for order in orders)
    assert abs(sum(a == b for a, b in zip(*orders, strict=True)) - 1000) < 100
