"""Figures of a reward model, on comparisons small enough to count by hand."""

from __future__ import annotations

import math

import pytest

from twofold.evaluation.reward import Comparison, Scored, calibration, comparisons, judge


def pair(prompt: str, better: float, worse: float, lengths: tuple[int, int] = (4, 4)) -> Scored:
    return Scored(prompt, [0, 1], [better, worse], lengths)


def test_tied_completions_are_not_compared() -> None:
    found = comparisons(Scored("p", [0, 1, 1, 0], [3.0, 1.0, 2.0, 0.0], [10, 5, 20, 10]))
    assert sorted((c.lead, c.longer) for c in found) == [(-2, -0.5), (-1, 0.5), (1, -0.5), (2, 0.5)]


def test_accuracy_is_strict_and_counts_comparisons() -> None:
    """Right, tied, and a ranking of three with one of its three pairs wrong: 3 of 5."""
    report = judge([pair("a", 1, 0), pair("b", 1, 1), Scored("c", [0, 1, 2], [3.0, 1.0, 2.0], [1, 1, 1])])
    assert (report.accuracy.count, report.accuracy.n, report.prompts) == (3, 5, 3)
    assert (report.test.only_b, report.test.only_a, report.test.p_value) == (2, 1, 1.0)


def test_what_repeats_a_prompt_is_no_new_evidence() -> None:
    """Ten prompts once, and each of them twenty times: the same share, and nearly the same interval."""
    once = judge([pair(str(i), i % 3, 1) for i in range(10)]).accuracy
    often = judge([pair(str(i), i % 3, 1) for i in range(10) for _ in range(20)]).accuracy
    assert often.value == once.value
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.06)


def test_calibration_by_hand() -> None:
    """Leads of ±ln 4 mean a confidence of 0.8: right three times of four is 0.75, an error of 0.05 there; a lead of 0
    is a confidence of ½, right by half."""
    found = [Comparison(i, lead, 0.0) for i, lead in enumerate([math.log(4)] * 3 + [-math.log(4), 0.0])]
    low, high = calibration(found)
    assert (low.n, low.predicted, low.observed) == (1, 0.5, 0.5)
    assert (high.n, high.observed) == (4, 0.75)
    assert high.predicted == pytest.approx(0.8)
    report = judge([pair(str(i), c.lead, 0) for i, c in enumerate(found)])
    assert report.calibration_error == pytest.approx(4 / 5 * 0.05)
    assert calibration([Comparison(0, 1e6, 0.0)])[0].high == 1.0


def test_length_has_buckets_and_a_canary() -> None:
    """Two of three unequal pairs have the longer as the better; the equal one says nothing of it."""
    groups = [pair("a", 1, 0, (9, 3)), pair("b", 0, 1, (5, 4)), pair("c", 1, 0, (2, 8)), pair("d", 1, 0, (5, 5))]
    report = judge(groups)
    assert (report.longer_wins.count, report.longer_wins.n) == (2, 3)
    told = {name: (e.count, e.n) for name, e in report.by_length}
    assert told == {
        "less than half as long": (1, 1),
        "about as long (±10%)": (1, 1),
        "longer": (0, 1),
        "more than twice as long": (1, 1),
    }
    assert report.figures["longer_wins"] == pytest.approx(2 / 3)
    assert report.as_dict()["by_length"][2] == {"better": "longer", **report.by_length[2][1].as_dict()}


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        judge([Scored("a", [0, 0], [1.0, 2.0], [1, 1])])
