"""Figures of a reward model, on comparisons small enough to count by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from support.frozen import refuse_changes
from twofold.batch import Branch, Group, Role
from twofold.evaluation.reward import Comparison, Scored, calibration, comparisons, judge, scored
from twofold.objectives.comparisons import LEVEL
from twofold.statistics import clustered_share, sign_test


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


def test_comparisons_of_equal_length_have_no_figure_of_the_longer() -> None:
    """0 of 0 is no number, and a line of metrics takes none."""
    assert judge([pair("a", 1, 0)]).figures.keys() == {"accuracy", "calibration_error"}
    assert judge([pair("a", 1, 0, (4, 3))]).figures["longer_wins"] == 1.0


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


def test_a_report_is_all_its_figures() -> None:
    report = judge([pair("a", 1, 0, (9, 3)), pair("b", 0, 1, (5, 4)), pair("c", 1, 0, (2, 8))])
    assert report.figures == {
        "accuracy": report.accuracy.value, "longer_wins": report.longer_wins.value,
        "calibration_error": report.calibration_error,
    }  # fmt: skip
    assert report.as_dict() == {
        "accuracy": report.accuracy.as_dict(), "test": report.test.as_dict(),
        "longer_wins": report.longer_wins.as_dict(),
        "by_length": [{"better": name, **e.as_dict()} for name, e in report.by_length],
        "calibration_error": report.calibration_error,
        "bins": [{"low": b.low, "high": b.high, "n": b.n, "predicted": b.predicted, "observed": b.observed}
                 for b in report.bins],
        "prompts": 3,
    }  # fmt: skip
    assert report.accuracy == clustered_share([1, 0, 1], [1, 1, 1])
    assert report.test == sign_test([1, 0, 1], [1, 1, 1])
    refuse_changes(report, report.bins[0], pair("a", 1, 0), Comparison("a", 1.0, 0.0))


def test_pairs_of_one_prompt_are_counted_together() -> None:
    groups = [pair("a", 1, 0, (9, 3)), pair("a", 0, 1, (1, 3)), pair("a", 1, 0), pair("b", 1, 0, (9, 3))]
    report = judge(groups)
    assert report.accuracy == clustered_share([2, 1], [3, 1])
    assert report.test == sign_test([2, 1], [3, 1])
    assert report.longer_wins == clustered_share([1, 1], [2, 1])
    assert report.prompts == 2


@pytest.mark.parametrize(
    ("lengths", "name"),
    [
        ((1, 2), "less than half as long"), ((5, 9), "shorter"), ((9, 10), "shorter"),
        ((10, 11), "about as long (±10%)"), ((10, 9), "about as long (±10%)"), ((9, 8), "longer"), ((2, 1), "longer"),
        ((9, 4), "more than twice as long"), ((0, 0), "about as long (±10%)"), ((1, 0), "more than twice as long"),
    ],
)  # fmt: skip
def test_the_better_is_longer_or_shorter(lengths: tuple[int, int], name: str) -> None:
    """By the difference over the longer of the two: half as long is the end of the first bucket, and so on."""
    assert [told for told, _ in judge([pair("a", 1, 0, lengths)]).by_length] == [name]


def test_bins_are_twentieths_of_confidence_from_a_half() -> None:
    """A lead of 0 is sure by ½, ln 3 by ¾ (the beginning of the sixth bin), 100 by 1 (in the last)."""
    found = calibration([Comparison(0, lead, 0.0) for lead in (0.0, math.log(3) + 1e-9, -100.0)])
    assert [(b.low, b.high, b.n, b.observed) for b in found] == [
        (0.5, pytest.approx(0.55), 1, 0.5), (0.75, pytest.approx(0.8), 1, 1.0), (pytest.approx(0.95), 1.0, 1, 0.0),
    ]  # fmt: skip
    assert [b.predicted for b in found] == pytest.approx([0.5, 0.75, 1.0])
    assert calibration([Comparison(0, -1e9, 0.0)])[0].predicted == 1.0  # e^-700 is nothing, and no overflow


def test_groups_are_best_first_unless_a_column_tells_levels() -> None:
    tokens, prompt = [torch.tensor([4, 5]), torch.tensor([6])], torch.tensor([1])
    told = [Branch(t, Role.DRAFT, columns={LEVEL: level}) for t, level in zip(tokens, (1.0, 0.0), strict=True)]
    plain = Group("a", prompt, tuple(Branch(t, Role.DRAFT) for t in tokens))
    groups = [plain, Group("b", prompt, tuple(told))]
    assert scored(groups, [[0.1, 0.2], [0.3, 0.4]]) == [
        Scored(prompt.numpy().tobytes(), [0.0, 1.0], [0.1, 0.2], [2, 1]),
        Scored(prompt.numpy().tobytes(), [1.0, 0.0], [0.3, 0.4], [2, 1]),
    ]
    for broken in (lambda: scored(groups, [[0.1, 0.2]]), lambda: comparisons(Scored("p", [0, 1], [1.0], [1, 1]))):
        with pytest.raises(ValueError):
            broken()


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        judge([Scored("a", [0, 0], [1.0, 2.0], [1, 1])])


def test_a_row_of_weight_2_counts_as_the_row_twice() -> None:
    """Right, wrong, right with weights 2, 1 and 3: 5/6. Kish: 6²/14 comparisons of equal weight."""
    rows = [pair("a", 1, 0, (9, 3)), pair("b", 0, 1, (9, 3)), pair("c", 2, 0, (3, 9))]
    mine = judge([replace(row, weight=w) for row, w in zip(rows, (2.0, 1.0, 3.0), strict=True)])
    twice = judge([rows[0]] * 2 + [rows[1]] + [rows[2]] * 3)
    assert mine.figures == pytest.approx(twice.figures, rel=1e-12)
    assert [(n, e.value) for n, e in mine.by_length] == [(n, e.value) for n, e in twice.by_length]
    assert [(b.predicted, b.observed) for b in mine.bins] == [
        (pytest.approx(b.predicted), pytest.approx(b.observed)) for b in twice.bins
    ]
    assert (mine.accuracy.value, mine.accuracy.n, mine.effective) == (pytest.approx(5 / 6), 3, pytest.approx(36 / 14))
    assert (mine.test.only_a, mine.test.only_b) == (1, 2)
    scaled = judge([replace(row, weight=10 * w) for row, w in zip(rows, (2.0, 1.0, 3.0), strict=True)])
    assert (scaled.accuracy.low, scaled.accuracy.high) == pytest.approx((mine.accuracy.low, mine.accuracy.high))


def test_a_row_in_doubt_is_both_orders_by_their_share() -> None:
    """Right with p = 0.8 and wrong with p = 0.6: (0.8 + 0.4) / 2, as 8 + 4 of 20 rows whose orders are known."""
    right, wrong = pair("a", 1, 0, (9, 3)), pair("b", 0, 2, (9, 3))
    mine = judge([replace(right, probability=0.8), replace(wrong, probability=0.6)])
    other = [replace(g, scores=g.scores[::-1], lengths=g.lengths[::-1]) for g in (right, wrong)]
    known = judge([right] * 8 + [other[0]] * 2 + [wrong] * 6 + [other[1]] * 4)
    assert mine.figures == pytest.approx(known.figures, rel=1e-12)
    assert (mine.accuracy.value, mine.accuracy.n, mine.effective) == (pytest.approx(0.6), 2, 2)
    assert {n: pytest.approx(e.value) for n, e in mine.by_length} == {n: e.value for n, e in known.by_length}
    tied = judge([replace(pair("a", 1, 1), probability=0.9), pair("b", 1, 0)])
    assert tied.accuracy.value == pytest.approx(0.5)  # a tie is no success in either order


def test_what_counts_for_nothing_changes_nothing() -> None:
    rows = [pair("a", 1, 0, (9, 3)), pair("b", 0, 1, (4, 3))]
    with_more = judge([*rows, replace(pair("c", 0, 5, (1, 9)), weight=0.0)])
    assert with_more.figures == pytest.approx(judge(rows).figures)
    with pytest.raises(ValueError, match="nothing to compare"):
        judge([replace(row, weight=0.0) for row in rows])


def test_groups_tell_their_weight_and_probability() -> None:
    columns = {"weight": 2.0, "probability": 0.75, "margin": 1.0}
    sides = (Role.CHOSEN, Role.REJECTED)
    group = Group("a", torch.tensor([1]), tuple(Branch(torch.tensor([4]), r, columns=columns) for r in sides))
    (row,) = scored([group], [[0.5, 0.0]])
    assert (row.weight, row.probability) == (2.0, 0.75)
    bins = judge([row]).as_dict()["bins"]
    assert [b["effective"] for b in bins] == [pytest.approx(1.0)]
    assert [b["observed"] for b in bins] == [0.75]
