"""What a drawing leaves out: a background, points that no one can see apart, and anything about its maker."""

from __future__ import annotations

import math
import re

import pytest

from twofold.reports.drawing import HEIGHT, LOOKS, WIDTH, Frame, Line, binned, svg


def test_a_drawing_has_no_background_and_no_color_of_its_own() -> None:
    """So that it is right on a light and on a dark page."""
    line = Line([0, 1, 2], [0.0, 1.0, 0.5], "run-0", [0.0, 0.5, 0.4], [0.5, 1.0, 0.6], markers=True)
    drawing = svg([line], Frame("t", 2, 0, 1, level=0.5))
    background = re.findall(r'<path d="M 0 180 L 316.8 180 L 316.8 0 L 0 0 L 0 180 z ?" style="([^"]*)"', drawing)
    assert background == ["fill: none"]
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", drawing.replace('href="#', ""))
    assert not re.search(r"matplotlib|dc:|cc:|rdf|<title|date", drawing, re.IGNORECASE)


def test_points_on_a_straight_line_are_left_out() -> None:
    many = [i / 400 for i in range(401)]
    drawing = svg([Line(range(401), many, "run-0")], Frame("t", 400, 0, 1))
    assert drawing.count(" L ") < 60
    crooked = [0.5 + 0.4 * math.sin(2 * i) for i in range(401)]
    assert svg([Line(range(401), crooked, "run-0")], Frame("t", 400, 0, 1)).count(" L ") > 300


@pytest.mark.parametrize(
    ("line", "curves"),
    [
        (Line([0, 1], [0.0, 1.0], "ink"), 1), (Line([0, 1], [0.0, 1.0], "ink", markers=True), 1),
        (Line([0, 1], [0.0, 1.0], "ink", [0.0, 0.5], [0.5, 1.0]), 2),
        (Line([0, 1], [0.0, 1.0], "ink", [0.0, 0.5], [0.5, 1.0], markers=True, whiskers=True), 2),
        (Line(range(40), [float(i % 2) for i in range(40)], "ink"), 2),
        (Line([], [0.5, 1.0], "ink", edges=[0, 1, 2]), 2),
    ],
    ids=["line", "markers", "band", "whiskers", "mean", "bars"],
)  # fmt: skip
def test_what_the_script_draws_again_is_marked(line: Line, curves: int) -> None:
    drawing = svg([line], Frame("t", 40, 0, 1, level=0.5))
    assert drawing.count('class="curve"') == curves
    assert drawing.count('class="across"') == 1
    assert "<g id=" not in drawing


def test_colors_are_of_the_page_by_name() -> None:
    assert len({*LOOKS.values()}) == len(LOOKS) == 11
    for look in LOOKS:
        drawing = svg([Line([0, 1], [0.0, 1.0], look)], Frame("t", 1, 0, 1))
        names = set(re.findall(r"var\(--([\w-]+)\)", drawing))
        assert names == (set() if look == "ink" else {look})


@pytest.mark.parametrize(
    ("low", "high", "percent", "labels"),
    [
        (0.0, 0.5, True, ["0%", "10%", "20%", "30%", "40%", "50%"]),
        (0.12345, 0.12365, True, ["12.3%", "12.4%"]),
        (0.0, 4e-4, False, ["0", "8.0e−5", "1.6e−4", "2.4e−4", "3.2e−4", "4.0e−4"]),
        (-2.0, 2.0, False, ["−1.6", "−0.8", "0", "0.8", "1.6"]),
        (0.0, 2_000_000.0, False, ["0", "400,000", "800,000", "1.2e+06", "1.6e+06", "2e+06"]),
    ],
)  # fmt: skip
def test_labels_of_the_y_axis(low: float, high: float, percent: bool, labels: list[str]) -> None:
    drawing = svg([], Frame("t", 1, low, high, percent=percent))
    result = re.findall(r"text-anchor: end[^>]*>([^<]*)<", drawing)
    assert list(dict.fromkeys(result)) == labels


def test_sizes_are_those_of_the_box() -> None:
    drawing = svg([], Frame("t", 1, 0, 1))
    assert drawing.startswith('<svg viewBox="0 0 316.8 180"')
    assert (WIDTH, HEIGHT) == (4.4, 2.5)
    assert binned([1, 2, 3], [3.0, 5.0, 7.0], 2) == ([1.5, 3], [4.0, 7.0])
