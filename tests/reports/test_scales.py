"""What a chart holds: its lines, its bands, its scale and its legend."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from matplotlib.figure import Figure

from support.frozen import refuse_changes
from support.made_up_runs import run_data
from twofold.reports import charts, drawing
from twofold.reports.charts import Chart, Curve, Spec, calibration_chart, draw, looks
from twofold.reports.drawing import LOOKS, Frame, Line, binned, svg
from twofold.reports.figure_data import Drawn, encoded
from twofold.reports.run import RewardResult
from twofold.statistics import wilson

ONE = Spec("Title", "note", (Curve("a"),))
TWO = Spec("Both", "note", (Curve("a", "first", "chosen"), Curve("b", "second")))
SHARE = Spec("Share", "note", (Curve("x/v"),), "evaluation", share=True, count="x/n")


def framed(spec: Spec, *lines: Line) -> tuple[float, float, float, float | None, bool]:
    frame = charts._frame(lines, spec)
    assert (frame.title, frame.begin, frame.shares, frame.whole) == (spec.title, 0.0, False, True)
    return frame.end, frame.low, frame.high, frame.level, frame.percent


def close(*values: Any) -> Any:
    return tuple(pytest.approx(v) if isinstance(v, float) else v for v in values)


def test_a_scale_holds_all_lines_bands_and_the_level() -> None:
    spec = Spec("t", "", ())
    assert framed(spec, Line([0, 9], [1.0, 2.0], "ink")) == close(9, 0.94, 2.06, None, False)
    assert framed(spec, Line([0, 9], [1, 2], "ink", [0.0, 1], [2, 3.0])) == close(9, -0.18, 3.18, None, False)
    assert framed(Spec("t", "", (), level=3.0), Line([5], [2.0], "ink")) == close(5, 1.94, 3.06, 3.0, False)
    assert framed(spec, Line([0], [-4.0], "ink")) == close(1, -4.4, -3.6, None, False)
    assert framed(spec, Line([0], [0.0], "ink")) == close(1, -1.0, 1.0, None, False)
    assert framed(spec, Line([1], [0.0], "ink"), Line([4], [1.0], "ink"))[0] == 4


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.5, 0.5], 0.45, 0.55), ([0.2, 0.8], 0.164, 0.836), ([0.0, 1.0], 0.0, 1.0), ([0.98, 1.0], 0.94, 1.0),
     ([0.01, 0.02], 0.0, 0.065), ([-0.5, 1.5], -0.5, 1.5)],
)  # fmt: skip
def test_shares_stay_within_0_and_1_and_take_a_tenth_of_that(values: list[float], low: float, high: float) -> None:
    spec = Spec("t", "", (), share=True)
    assert framed(spec, Line([0, 1], values, "ink")) == close(1, low, high, None, True)


def test_a_band_needs_counts_at_the_same_steps() -> None:
    def band(values: list[float], counts: list[float], count: str = "x/n") -> Any:
        return charts._band(run_data(evaluations={"x/v": values, "x/n": counts}), "x/v", count)

    known = [wilson(2, 4), wilson(1, 1)]
    assert band([0.5, 1.0], [4, 1]) == ([e.low for e in known], [e.high for e in known])
    assert band([0.6, 0.0], [4, 1])[0] == [wilson(2, 4).low, 0.0]
    for values, counts in (([0.5, 1.0], [4]), ([0.5, 1.1], [4, 4]), ([-0.1, 1.0], [4, 4]), ([0.5, 1.0], [4, 0.5])):
        assert band(values, counts) == ([], [])
    assert band([0.5, 1.0], [4, 1], "") == ([], [])
    assert band([], []) == ([], [])


def test_evaluations_have_markers_and_training_is_binned() -> None:
    run = run_data(train={"a": [float(i) for i in range(40)]}, evaluations={"x/v": [0.5], "x/n": [4]})
    line = charts._line(run, Curve("x/v"), SHARE, "ink", 30)
    assert line == Line([0], [0.5], "ink", [wilson(2, 4).low], [wilson(2, 4).high], markers=True)
    line = charts._line(run, Curve("a"), ONE, "run-1", 30)
    assert line == Line(*binned(list(range(40)), [float(i) for i in range(40)], 30), "run-1")
    assert charts._line(run, Curve("none"), ONE, "ink", 30) is None
    assert [charts._points(n) for n in (1, 2, 3, 16, 17, 100)] == [240, 240, 160, 30, 30, 30]


def test_a_chart_has_a_line_for_each_run_that_tells() -> None:
    runs = [run_data(train={"a": [1.0]}), run_data(), run_data(train={"a": [2.0]}), run_data(train={"a": [3.0]})]
    labels = list(zip("pqrs", ("run-0", "run-1", "run-0", "run-2"), strict=True))
    (chart,) = draw([ONE], runs, labels)
    assert (chart.title, chart.note, chart.keys, chart.axis) == ("Title", "note", ("a",), "step")
    assert chart.legend == (("p", "run-0"), ("s", "run-2"))
    assert draw([ONE], runs[1:2], labels[1:2]) == []
    (alone,) = draw([ONE], runs[:1], labels[:1])
    assert alone.legend == ()
    assert 'aria-label="Title"' in alone.svg
    with pytest.raises(ValueError):
        draw([ONE], runs, labels[:2])
    refuse_changes(chart, ONE, ONE.curves[0], Line([], [], "ink"), Frame("t", 1, 0, 1), slots=True)


def test_several_curves_have_a_panel_for_each_method_on_one_scale() -> None:
    runs = [run_data(train={"a": [float(i)], "b": [2.0]}) for i in range(9)]
    labels = [(f"r{i}", f"run-{i % 8}") for i in range(9)]
    found = draw([TWO], runs, labels)
    assert [(c.title, c.run) for c in found] == [("Both", f"r{i}") for i in range(6)]  # as many as there are colours
    assert found[0].legend == (("first", "chosen"), ("second", "ink"))
    assert found[0].keys == ("a", "b")
    ticks = [c.svg.count("</text>") for c in found]
    assert len(set(ticks)) == 1
    (alone,) = draw([TWO], runs[:1], labels[:1])
    assert (alone.title, alone.run) == ("Both", "")
    part = draw([TWO], [run_data(), run_data(train={"b": [1.0]})], labels[:2])
    assert [(c.title, c.run, c.keys) for c in part] == [("Both", "r1", ("b",))]


def test_colours_go_by_method_and_come_again_after_six() -> None:
    assert looks([0, 1, 0, 3]) == ["run-0", "run-1", "run-0", "run-2"]
    assert looks(list(range(8)))[5:] == ["run-5", "run-0", "run-1"]
    assert looks([]) == []


def test_calibration_has_a_point_for_each_bin() -> None:
    half = wilson(1, 2)
    result = RewardResult(half, half, (), 0.1, 0.1, ((0.6, 0.5, 2), (0.9, 1.0, 4)))
    chart = calibration_chart("m", "run-1", result)
    assert (chart.title, chart.run, chart.legend, chart.keys, chart.axis) == (
        "Calibration", "m", (), (), "predicted probability",
    )  # fmt: skip
    assert chart.note == "Accuracy by the model's confidence. Band: 95% Wilson."
    told = [wilson(1, 2), wilson(4, 4)]
    line = Line([0.6, 0.9], [0.5, 1.0], "run-1", [e.low for e in told], [e.high for e in told], markers=True)
    frame = Frame("Calibration: m", 1.0, half.low - 0.02, 1.02, percent=True, begin=0.5, shares=True)
    data = encoded([Drawn("accuracy", line)], frame)
    assert chart == Chart(chart.title, chart.note, svg([line], frame), (), (), chart.axis, data, "m")
    sure = calibration_chart("m", "run-1", RewardResult(half, half, (), 0, 0, ((0.9, 1.0, 900),)))
    low = Frame("Calibration: m", 1.0, 0.48, 1.02, percent=True, begin=0.5, shares=True)
    e = wilson(900, 900)
    assert sure.svg == svg([Line([0.9], [1.0], "run-1", [e.low], [e.high], markers=True)], low)


def axes_of(frame: Frame, *lines: Line) -> Any:
    axes = Figure().add_axes((0, 0, 1, 1))
    drawing._furnish(axes, frame)
    for line in lines:
        drawing._draw_line(axes, line)
    return axes


def points(drawn: Any) -> list[list[float]]:
    return [list(map(float, drawn.get_xdata())), list(map(float, drawn.get_ydata()))]


def test_axes_show_the_frame() -> None:
    axes = axes_of(Frame("t", 10.0, 1.0, 2.0, level=1.5, begin=5.0))
    assert (axes.get_xlim(), axes.get_ylim()) == ((pytest.approx(4.9), pytest.approx(10.1)), (1.0, 2.0))
    (level,) = axes.get_lines()
    assert points(level)[1] == [1.5, 1.5]
    assert {side for side, spine in axes.spines.items() if spine.get_visible()} == {"bottom"}
    assert axes.get_xticks().tolist() == [4.0, 6.0, 8.0, 10.0, 12.0]
    assert next(label.get_text() for label in axes.get_xticklabels()) == "4"
    assert axes_of(Frame("t", 1.0, 0.0, 1.0)).get_lines() == []
    (even,) = axes_of(Frame("t", 1.0, 0.0, 1.0, begin=0.5, shares=True)).get_lines()
    assert points(even) == [[0.5, 1.0], [0.5, 1.0]]


@pytest.mark.parametrize(
    ("frame", "x", "y"),
    [
        (Frame("t", 1.0, 0.0, 1.0, begin=0.5, shares=True, percent=True), "60%", "20%"),
        (Frame("t", 1.0, 0.0, 1.0, whole=False), "0.25", "0.2"),
        (Frame("t", 1.0, 0.0, 1.0), "1", "0.2"),
    ],
)
def test_ticks(frame: Frame, x: str, y: str) -> None:
    axes = axes_of(frame)
    labels = [[t.get_text() for t in side.get_ticklabels()] for side in (axes.xaxis, axes.yaxis)]
    assert x in labels[0]
    assert y in labels[1]
    assert len(labels[0]) <= 8


@pytest.mark.parametrize(
    ("value", "short", "across"),
    [(0.0, "0", "0"), (0.00099, "9.9e−4", "0"), (0.001, "0.001", "0"),
     (1234567.0, "1.23457e+06", "1,234,567"),
     (1234.5, "1,234.5", "1,234"), (-2.5, "−2.5", "-2")],
)  # fmt: skip
def test_tick_labels(value: float, short: str, across: str) -> None:
    assert drawing._short(value) == short
    assert drawing._across(value, Frame("t", 1, 0, 1)) == across
    assert drawing._across(value, Frame("t", 1, 0, 1, whole=False)) == short
    assert drawing._across(0.55555, Frame("t", 1, 0, 1, shares=True)) == "55.6%"


def test_a_curve_is_drawn_with_its_running_mean() -> None:
    y = [float(i % 2) for i in range(40)]
    raw, mean = axes_of(Frame("t", 40, 0, 1), Line(range(40), y, "draft")).get_lines()
    assert points(raw) == [list(range(40)), y]
    assert points(mean)[1] == drawing._smooth(y)
    assert (raw.get_linewidth() < mean.get_linewidth(), raw.get_alpha() < 1, mean.get_alpha()) == (True, True, None)
    assert {raw.get_color(), mean.get_color()} == {LOOKS["draft"]}
    (few,) = axes_of(Frame("t", 9, 0, 1), Line(range(9), y[:9], "ink")).get_lines()
    assert (points(few)[1], few.get_marker()) == (y[:9], "None")
    (one,) = axes_of(Frame("t", 9, 0, 1), Line([3], [0.5], "ink")).get_lines()
    assert one.get_marker() == "o"
    (marked,) = axes_of(Frame("t", 9, 0, 1), Line(range(40), y, "ink", markers=True)).get_lines()
    assert (points(marked)[1], marked.get_marker()) == (y, "o")


def test_a_running_mean_is_over_a_tenth() -> None:
    assert drawing._smooth([1.0] * 19 + [5.0]) == [1.0] * 18 + [pytest.approx(7 / 3), 3.0]
    assert drawing._smooth([0.0, 9.0] * 9) == [0.0, 9.0] * 9  # 18 points: nothing to smooth
    assert drawing._smooth(list(range(40))) == [1.0, 1.5, *map(float, range(2, 38)), 37.5, 38.0]


def test_bands_are_areas_or_whiskers() -> None:
    low, high = [0.1, 0.2], [0.3, 0.4]
    band = axes_of(Frame("t", 1, 0, 1), Line([0, 1], [0.2, 0.3], "truth", low, high))
    (area,) = band.collections
    assert area.get_paths()[0].get_extents().bounds == pytest.approx((0, 0.1, 1, 0.3))
    upright = axes_of(Frame("t", 1, 0, 1), Line([0, 1], [0.2, 0.3], "truth", low, high, whiskers=True)).collections
    assert [s.tolist() for s in upright[0].get_segments()] == [[[0, 0.1], [0, 0.3]], [[1, 0.2], [1, 0.4]]]
    assert axes_of(Frame("t", 1, 0, 1), Line([0], [0.2], "ink", whiskers=True)).collections[:] == []


@pytest.mark.parametrize(
    ("count", "points", "sizes"),
    [(10, 5, [2] * 5), (11, 5, [3, 3, 3, 2]), (4, 5, [1] * 4), (5, 5, [1] * 5), (6, 5, [2] * 3)],
)
def test_bins_are_equal_stretches(count: int, points: int, sizes: list[int]) -> None:
    x, y = binned(list(range(count)), [2.0 * i for i in range(count)], points)
    ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    assert x == [(a + b - 1) / 2 for a, b in pairwise(ends)]
    assert y == [2 * v for v in x]


def test_drawings_take_their_colours_from_the_page() -> None:
    found = svg([Line([0, 1], [0.0, 1.0], "chosen", [0.0, 0.5], [0.5, 1.0])], Frame('a "b"', 1, 0, 1))
    assert found.startswith('<svg viewBox="0 0 316.8 180" role="img" aria-label="a &quot;b&quot;">')
    assert "var(--chosen)" in found
    assert "currentColor" in found
    assert not any(colour in found for colour in LOOKS.values())
    assert math.isclose(drawing.WIDTH / drawing.HEIGHT, 1.76)
