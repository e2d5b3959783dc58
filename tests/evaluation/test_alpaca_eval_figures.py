"""Figures of AlpacaEval by hand: standard errors, discrete rates, lengths of one sign."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.evaluation import alpaca_eval as module
from twofold.evaluation.answer_style import NAMES, _style
from twofold.evaluation.benchmark_matches import MeanScore


def row(share: float | None, own: int = 3, other: int = 2, **more: Any) -> dict[str, Any]:
    return {"share": share, "own": "a" * own, "other": "b" * other, "index": 0, "subset": "s", "cut": False,
            "other_cut": False, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("longer", "shorter", "equal", "one"),
    [
        (96, 4, 0, True), (95, 5, 0, False), (4, 96, 0, True), (5, 95, 0, False), (0, 0, 100, False),
        (6, 4, 90, True), (5, 4, 91, False), (4, 5, 91, False), (4, 6, 90, True), (20, 20, 60, False),
    ],
)  # fmt: skip
def test_almost_all_differences_have_one_sign(longer: int, shorter: int, equal: int, one: bool) -> None:
    """Fewer than 5% of the answers have the other sign, more than 5% have this one."""
    rows = [row(1.0, 3, 2)] * longer + [row(1.0, 2, 3)] * shorter + [row(1.0, 2, 2)] * equal
    assert module._one_sided(rows) is one


def test_an_entry_by_hand() -> None:
    """Of 1, ½, ¼ the variance is 7/48; a missing one counts nowhere but in the lengths."""
    rows = [
        row(1.0, 4, index=0),
        row(0.5, 6, index=1),
        row(1.0, 2, index=2, probability=0.25),
        row(None, 8, 6, index=3),
    ]
    made = module._entry("m", rows, {"sampling": {"kind": "file"}}, None)
    assert made.about["standard_error"] == pytest.approx((7 / 48 / 3) ** 0.5)
    assert made.about["discrete_win_rate"] == pytest.approx(0.5)
    assert (made.about["length"], made.about["other_length"]) == (5.0, 3.0)
    assert made.about["sampling"] == {"kind": "file"}
    assert made.measures == {"win_rate": MeanScore([1.0, 0.5, 0.25, None], [0, 1, 2, 3])}
    assert (made.counts["missing"], made.rows) == (1, rows)
    assert "length_control" not in made.about
    alone = module._entry("m", rows[:1], {"sampling": {}}, None)
    assert (alone.about["standard_error"], alone.about["discrete_win_rate"]) == (0.0, 1.0)
    pair = module._entry("m", [row(1.0), row(0.0, index=1)], {"sampling": {}}, None)
    assert pair.about["standard_error"] == pytest.approx(0.5)


class Counter:
    """Counts words, or nothing."""

    def __init__(self, *, counts: bool = True) -> None:
        self.counts = counts

    def count(self, text: str) -> int | None:
        return len(text.split()) if self.counts else None


@pytest.mark.parametrize(
    ("known", "counts", "style"),
    [
        ({}, True, [6, 1, 2, 1]), ({"token_len": 9}, True, [9, 1, 2, 1]), ({"token_len": 0}, False, [0, 1, 2, 1]),
        ({"list_count": 7, "bold_count": 0}, True, [6, 1, 7, 0]), ({"header_count": 3}, False, None),
    ],
)  # fmt: skip
def test_a_style_is_read_where_it_is_known(known: dict[str, int], counts: bool, style: list[int] | None) -> None:
    counter: Any = Counter(counts=counts)
    assert _style("# A\n- b\n- **c**", known, counter) == style
    assert len(NAMES) == 4
