"""How long rows are, and whether length tells chosen from rejected."""

from __future__ import annotations

import pytest

from twofold.data.lengths import Histogram, LengthBias, bias_fault
from twofold.data.values import Values


def test_lengths_are_counted_between_powers_of_two() -> None:
    """Of (0, 2], (2, 4], (4, 8] and (8, 16]: a length on an edge belongs below it."""
    found = Histogram.of(Values.of([2, 3, 4, 5, 8, 9, 9]))
    assert found == Histogram((0, 2, 4, 8, 16), (1, 2, 2, 2), 40 / 7, 5.0, 9.0, 9)
    assert found.as_dict() == {
        "edges": (0, 2, 4, 8, 16), "counts": (1, 2, 2, 2), "mean": 40 / 7, "median": 5.0, "p99": 9.0, "max": 9,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "edges", "counts"),
    [([1], (0, 1), (1,)), ([5], (0, 8), (1,)), ([8, 8], (0, 8), (2,)), ([1, 2], (0, 1, 2), (1, 1)),
     ([3, 20], (0, 4, 8, 16, 32), (1, 0, 0, 1))],
)  # fmt: skip
def test_edges_span_the_lengths_that_there_are(
    lengths: list[int], edges: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    found = Histogram.of(Values.of(lengths))
    assert (found.edges, found.counts) == (edges, counts)


def test_the_median_and_the_99th_percentile_are_between_lengths() -> None:
    found = Histogram.of(Values.of(range(1, 102)))
    assert (found.mean, found.median, found.p99, found.max) == (51.0, 51.0, 100.0, 101)
    assert Histogram.of(Values.of([1, 2])).p99 == pytest.approx(1.99)


def bias(chosen: int, rejected: int, same: int = 0) -> LengthBias:
    made = LengthBias()
    for a, b, times in ((2, 1, chosen), (1, 2, rejected), (1, 1, same)):
        for _ in range(times):
            made.add(a, b)
    return made


def test_pairs_are_counted_on_the_side_of_the_longer_answer() -> None:
    made = bias(3, 1, 2)
    assert made == LengthBias(3, 1, 2)
    assert (made.pairs, made.share.value, made.share.n) == (6, 0.75, 4)
    assert LengthBias() == LengthBias(0, 0, 0)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (bias(0, 0, 3), "chosen and rejected are equally long"),
        (bias(3, 1), "the longer answer is chosen in 75.0% of 4 pairs [30.1%, 95.4%]: no bias that these pairs could "
                     "show"),
        (bias(90, 10), "the longer answer is chosen in 90.0% of 100 pairs [82.6%, 94.5%]: longer answers are "
                       "preferred"),
        (bias(10, 90), "the longer answer is chosen in 10.0% of 100 pairs [5.5%, 17.4%]: shorter answers are "
                       "preferred"),
    ],
)  # fmt: skip
def test_the_share_is_said_with_its_interval(made: LengthBias, words: str) -> None:
    assert made.words() == words
    share = made.share.as_dict() if made.chosen + made.rejected else None
    assert made.as_dict() == {
        "longer_chosen": made.chosen, "longer_rejected": made.rejected, "same_length": made.same, "share": share,
        "words": words,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "warned"),
    [
        (bias(99, 0, 50), False),  # too few that differ
        (bias(100, 0), True),
        (bias(0, 100), True),
        (bias(78, 22), False),  # Wilson's interval begins at 68.9%, and of 79 at 70.01%
        (bias(79, 21), True),
        (bias(21, 79), True),
        (bias(22, 78), False),
        (LengthBias(), False),
    ],
)
def test_length_is_warned_of_where_it_would_tell_the_sides_apart(made: LengthBias, warned: bool) -> None:
    found = list(bias_fault(made, "rows.jsonl"))
    assert len(found) == warned
    if found:
        (fault,) = found
        assert (fault.file, fault.row, fault.field) == ("rows.jsonl", 0, "")
        assert (fault.severity, fault.check, fault.reason) == ("warning", "length bias", made.words())
        assert "simpo, ln_dpo, ld_dpo" in fault.remedy
