"""Which points a frontier has, how far they are from the reference, and the frame that they are drawn in."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from support.made_up_runs import run_data
from twofold.reports import frontier
from twofold.reports.drawing import Frame
from twofold.reports.frontier import frontier_charts, win_rate_charts
from twofold.reports.run import RunData
from twofold.statistics import Estimate, wilson

LABELS = [("a", "run-0"), ("b", "run-0"), ("c", "run-1")]


def points(**parts: Any) -> list[tuple[str, list[tuple[float, float, float, float, int]]]]:
    return [
        (words, [(x, e.value, e.low, e.high, e.n) for x, e in found])
        for words, found in frontier._frontiers(run_data(**parts))
    ]


def alone(x: float, value: float, n: int = 0) -> tuple[float, float, float, float, int]:
    """A point without an interval."""
    return x, value, value, value, n


def test_what_a_frontier_measured_stands_by_what_it_measured() -> None:
    told = [
        {"of": "b", "kl": {"value": 2}, "reward": wilson(1, 2).as_dict()}, {"kl": 1, "reward": 3},
        {"of": "b", "kl": 0.5, "reward": 0.25}, {"of": "b", "kl": "x", "reward": 1},
        {"of": "b", "kl": math.nan, "reward": 1},
        {"of": "b", "kl": 1, "reward": None}, 7,
    ]  # fmt: skip
    half = wilson(1, 2)
    assert points(extra={"frontier": told}, evaluations={"heldout/reward": [1.0, 2.0], "heldout/kl": [0.0, 1.0]}) == [
        ("b", [(2.0, 0.5, half.low, half.high, 2), alone(0.5, 0.25)]), ("reward", [alone(1.0, 3.0)]),
    ]  # fmt: skip
    many = [{"kl": i, "reward": i} for i in range(50)]
    assert [len(found) for _, found in points(extra={"frontier": many})] == [40]


def test_the_first_gain_that_is_told_with_a_distance_counts() -> None:
    kl = {"heldout/kl": [0.0, 1.0, 2.0]}
    assert points(evaluations={"exact_match/strict": [0.5, 0.75], "exact_match/n": [4, 4]}) == []  # no KL
    assert points(evaluations={"heldout/reward": [1.0], **kl}) == []  # one point is no frontier
    assert points(evaluations={"heldout/reward": [1.0, 2.0], "heldout/kl": [0.0, 0.0]}) == []  # nothing moved
    assert points(evaluations={"heldout/reward": [1.0, 2.0, math.nan], **kl}) == [
        ("held-out reward", [alone(0.0, 1.0), alone(1.0, 2.0)])
    ]
    assert (
        points(evaluations={"heldout/reward": [1.0, 2.0], "heldout/n": [8, 9], "heldout/kl": [0.5, math.inf, 1]}) == []
    )


@pytest.mark.parametrize(("key", "words"), frontier.GAINS.items())
def test_gains_in_their_order_and_words(key: str, words: str) -> None:
    rows = [{"step": 0, "exact_match/kl": 0.0, key: 0.25}, {"step": 1, "exact_match/kl": 3.0, key: 0.5}]
    (found,) = frontier._frontiers(_with(rows))
    assert (found[0], [x for x, _ in found[1]]) == (words, [0.0, 3.0])
    assert list(frontier.GAINS.values()) == ["problems solved", "problems solved, flexible", "held-out reward"]


def _with(rows: list[dict[str, float]], **parts: Any) -> RunData:
    return replace(run_data(**parts), evaluations=tuple(rows))


def test_an_evaluation_stands_at_the_kl_of_the_ten_steps_before_it() -> None:
    kl = [float(i) for i in range(30)]
    rows = [{"step": s, "heldout/reward": 1.0} for s in (0, 1, 12, 30)]
    (found,) = frontier._frontiers(_with(rows, train={"draft_kl": kl}))
    assert [x for x, _ in found[1]] == [0.0, 0.0, 6.5, 24.5]
    (found,) = frontier._frontiers(_with(rows, train={"kl": kl}))
    assert [x for x, _ in found[1]] == [0.0, 0.0, 6.5, 24.5]
    (found,) = frontier._frontiers(_with(rows, train={"draft_kl": kl, "kl": [9.0] * 30}))
    assert [x for x, _ in found[1]] == [0.0, 0.0, 6.5, 24.5]
    mixed = [{"step": 0, "heldout/reward": 1.0, "exact_match/kl": 5.0},
             {"step": 3, "heldout/reward": 1.0, "heldout/kl": 6.0},
             {"step": 3, "heldout/reward": 1.0, "heldout/kl": 7.0, "exact_match/kl": 8.0}]  # fmt: skip
    (found,) = frontier._frontiers(_with(mixed, train={"kl": kl}))
    assert [x for x, _ in found[1]] == [5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("line", "gain"),
    [
        ({"exact_match/strict": 0.5, "exact_match/n": 4}, wilson(2, 4)),
        ({"exact_match/strict": 0.6, "exact_match/n": 4}, wilson(2, 4)),
        ({"exact_match/strict": 1.0, "exact_match/n": 1}, wilson(1, 1)),
        ({"exact_match/strict": 0.0, "exact_match/n": 2}, wilson(0, 2)),
        ({"exact_match/strict": 0.5, "exact_match/n": 0.5}, Estimate(0.5, 0.5, 0.5, 0, None, "")),
        ({"exact_match/strict": 1.5, "exact_match/n": 4}, Estimate(1.5, 1.5, 1.5, 4, None, "")),
        ({"exact_match/strict": -0.5, "exact_match/n": 4}, Estimate(-0.5, -0.5, -0.5, 4, None, "")),
        ({"heldout/reward": 0.5, "heldout/n": 4}, Estimate(0.5, 0.5, 0.5, 4, None, "")),
        ({"heldout/reward": math.inf}, None),
    ],
)
def test_gains_that_are_shares_have_intervals(line: dict[str, float], gain: Estimate | None) -> None:
    assert frontier._gain(line, next(iter(line))) == gain


def test_frames_hold_what_is_drawn() -> None:
    line = frontier._line(
        [(2.0, Estimate(0.5, 0.25, 0.75, 1, None, "")), (4.0, Estimate(0.6, 0.5, 0.7, 1, None, ""))], "ink"
    )
    assert (list(line.x), list(line.y), list(line.low), list(line.high)) == (
        [2, 4],
        [0.5, 0.6],
        [0.25, 0.5],
        [0.75, 0.7],
    )
    assert (line.markers, line.whiskers, line.look) == (True, True, "ink")
    frame = frontier._frame("t", [line], percent=True)
    assert frame == Frame(
        "t", 4.0, pytest.approx(0.22), pytest.approx(0.78), None, percent=True, begin=0.0, whole=False
    )
    assert frontier._frame("t", [line], False, level=1.25).high == pytest.approx(1.31)
    bare = frontier._line([(-1.0, Estimate(0.5, -math.inf, math.inf, 1, None, ""))], "ink")
    assert (bare.low, bare.high) == ((), ())
    frame = frontier._frame("t", [bare], percent=False)
    assert (frame.begin, frame.end, frame.low, frame.high) == (-1.0, 0.0, pytest.approx(0.45), pytest.approx(0.55))
    apart = frontier._frame("t", [frontier._line([(0.0, Estimate(0.5, 0.5, 0.5, 1, None, ""))], "ink")], percent=False)
    assert (apart.begin, apart.end) == (0.0, 1.0)


def rates(*temperatures: float, against: str = "x", value: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"against": against, "temperature": t, "value": value, "low": 0.25, "high": 0.75, "n": 9} for t in temperatures
    ]


def test_charts_say_what_they_show() -> None:
    told = [{"kl": k, "reward": 0.5, "of": "taste"} for k in (0, 1)]
    runs = [run_data(extra={"frontier": told, "win_rates": rates(1.0, 0.0)}) for _ in range(3)]
    (alone,) = frontier_charts(runs[:1], LABELS[:1])
    assert (alone.title, alone.legend, alone.keys, alone.axis) == (
        "Taste against KL", (), ("frontier",), "KL from the reference, nats",
    )  # fmt: skip
    assert alone.note == (
        "Up and to the left is better: more gained, less far from the reference. Points in the order of the steps."
    )
    (several,) = frontier_charts(runs, LABELS)
    assert several.legend == (("a", "run-0"), ("c", "run-1"))
    (won,) = win_rate_charts(runs, LABELS)
    assert (won.title, won.legend, won.keys, won.axis) == (
        "Win rate by temperature", (("a", "run-0"), ("c", "run-1")), ("win_rates",), "temperature",
    )  # fmt: skip
    assert won.note == (
        "Share of comparisons won against x, by sampling temperature. Whiskers: 95%. Dotted: evenly matched."
    )
    assert "%</text>" in won.svg
    (nobody,) = win_rate_charts([run_data(extra={"win_rates": rates(1.0, against="")})], LABELS[:1])
    assert nobody.note.startswith("Share of comparisons won against its opponent, by")
    assert nobody.legend == ()


@pytest.mark.parametrize(
    ("of", "reward", "percent"),
    [("taste", 0.5, True), ("taste", 1.5, False), ("taste", -0.5, False), ("reward", 0.5, False),
     ("held-out reward", 0.5, False), ("taste", 1, True), ("taste", 0, True)],
)  # fmt: skip
def test_only_shares_are_told_in_percent(of: str, reward: float, percent: bool) -> None:
    (chart,) = frontier_charts([run_data(extra={"frontier": [{"of": of, "kl": 1, "reward": reward}]})], LABELS[:1])
    assert ("%</text>" in chart.svg) is percent


def test_each_opponent_has_its_chart() -> None:
    told = [*rates(1.0), *rates(0.0, against="y"), *rates(2.0, value=math.nan), {"temperature": None, **rates(1.0)[0]}]
    charts = win_rate_charts(
        [run_data(extra={"win_rates": [*told, {**rates(1.0)[0], "temperature": "hot"}]})], LABELS[:1]
    )
    assert [c.note.partition(" won ")[2].partition(",")[0] for c in charts] == ["against x", "against y"]
