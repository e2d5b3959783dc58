"""A drawing by value: where its lines are, how wide, and in which color."""

from __future__ import annotations

import re

from twofold.reports.drawing import Frame, Line, svg

INK = "currentColor"


def path(drawing: str) -> list[tuple[str, dict[str, str]]]:
    """The paths and their styles, in the order in which they are drawn."""
    found = re.findall(r'<path (?:id="\w+" )?d="([^"]*)"(?: clip-path="[^"]*")? style="([^"]*)"', drawing)
    return [(place.strip(), dict(part.split(": ") for part in style.split("; "))) for place, style in found]


def drawn(line: Line) -> list[tuple[str, dict[str, str]]]:
    """What a line adds to an empty drawing."""
    frame = Frame("t", 4, 0, 1)
    empty = path(svg([], frame))
    return [each for each in path(svg([line], frame)) if each not in empty]


def wide(color: str, width: str, **more: str) -> dict[str, str]:
    return {"fill": "none", **more, "stroke": f"var(--{color})", "stroke-width": width, "stroke-linecap": "square"}


def test_the_frame() -> None:
    drawing = svg([], Frame("t", 1, 0, 1, level=0.5, percent=True))
    assert drawing.startswith('<svg viewBox="0 0 316.8 180" role="img" aria-label="t">')
    texts = re.findall(r'<text style="([^"]*)" x="([\d.]+)" y="([\d.]+)">([^<]*)</text>', drawing)
    assert {style for style, *_ in texts} == {
        f"font-size: 8.5px; text-anchor: {side}; fill: {INK}" for side in ("middle", "end")
    }
    assert [(x, text) for _, x, y, text in texts if y == "167.95"] == [("41.70", "0"), ("305.19", "1")]
    heights = ["160.72", "130.12", "99.52", "68.92", "38.32", "7.72"]
    assert [(y, text) for _, x, y, text in texts if x == "32.43"] == [
        (y, f"{n}%") for n, y in zip(range(0, 101, 20), heights, strict=True)
    ]
    grid = {"fill": "none", "stroke": INK, "stroke-opacity": "0.15", "stroke-width": "0.7", "stroke-linecap": "square"}
    level = {
        "fill": "none", "stroke-dasharray": "1,2", "stroke-dashoffset": "0", "stroke": INK, "stroke-opacity": "0.55",
    }  # fmt: skip
    bottom = {
        "fill": "none", "opacity": "0.4", "stroke": INK, "stroke-width": "0.8", "stroke-linejoin": "miter",
        "stroke-linecap": "square",
    }  # fmt: skip
    across = [(f"M 36.43 {y} L 310.46 {y}", grid) for y in ("157.5", "126.9", "96.3", "65.7", "35.1", "4.5")]
    assert path(drawing)[2:] == [*across, ("M 36.43 81 L 310.46 81", level), ("M 36.43 157.5 L 310.46 157.5", bottom)]


def test_of_shares_the_dotted_line_is_the_diagonal() -> None:
    drawing = svg([], Frame("t", 1, 0, 1, shares=True))
    dotted = [place for place, style in path(drawing) if "stroke-dasharray" in style]
    assert dotted == ["M 41.70 157.5 L 305.19 4.5"]
    assert re.findall(r'y="167.95">([^<]*)<', drawing) == ["0%", "25%", "50%", "75%", "100%"]


def test_numbers_that_are_no_steps_may_lie_between_whole_ones() -> None:
    drawing = svg([], Frame("t", 1.0, 0, 1, begin=-0.5, whole=False))
    assert re.findall(r'y="167.95">([^<]*)<', drawing) == ["−0.4", "0", "0.4", "0.8"]


def test_a_line_with_a_band() -> None:
    line = Line([0, 2, 4], [0.0, 0.5, 1.0], "chosen", low=[0, 0.4, 0.8], high=[0.2, 0.6, 1])
    assert drawn(line) == [("M 41.70 157.5 L 173.44 81 L 305.19 4.5", wide("chosen", "1.9"))]
    band = re.findall(r'<use href="#\w+" x="0" y="180" style="([^"]*)"', svg([line], Frame("t", 4, 0, 1)))
    assert band == ["fill: var(--chosen); fill-opacity: 0.16"]


def test_markers_and_whiskers() -> None:
    line = Line([0, 4], [0.5, 1.0], "run-1", markers=True, low=[0.0, 0.5], high=[1.0, 1.0], whiskers=True)
    whisker = {"fill": "none", "stroke": "var(--run-1)", "stroke-opacity": "0.45", "stroke-width": "1.4"}
    *lines, (marker, style) = drawn(line)
    assert lines == [
        ("M 41.70 157.5 L 41.70 4.5", whisker),
        ("M 305.19 81 L 305.19 4.5", whisker),
        ("M 41.70 81 L 305.19 4.5", wide("run-1", "1.8")),
    ]
    assert marker.startswith("M 0 1.8 C ")
    assert style == {"stroke": "var(--run-1)"}


def test_a_single_point_has_a_marker() -> None:
    (place, style), (marker, _) = drawn(Line([4], [1.0], "draft"))
    assert (place, style) == ("M 305.19 4.5", wide("draft", "1.9"))
    assert marker.startswith("M 0 2 C ")


def test_behind_a_running_mean_is_the_line_itself() -> None:
    """Over forty points the mean is of five, of fewer at both ends."""
    line = Line([i / 10 for i in range(40)], [0.0] * 20 + [1.0] * 20, "truth")
    (itself, thin), (smooth, style) = drawn(line)
    assert thin == wide("truth", "0.8", **{"stroke-opacity": "0.3"})
    assert style == wide("truth", "1.9")
    assert "157.5 L 173.44 4.5" in itself
    heights = [each.split()[-1] for each in smooth.split(" L ")]
    assert [h for h in heights if h not in ("157.5", "4.5")] == ["126.9", "96.3", "65.7", "35.1"]


def test_a_histogram_is_bars_with_an_outline() -> None:
    outline = "M 41.70 157.5 L 41.70 81 L 173.44 81 L 173.44 4.5 L 305.19 4.5 L 305.19 157.5"
    assert drawn(Line([], [0.5, 1.0], "run-0", edges=[0, 2, 4])) == [
        (outline, {"fill": "var(--run-0)", "opacity": "0.16"}),
        (outline, {"fill": "none", "stroke": "var(--run-0)", "stroke-width": "1.6", "stroke-linejoin": "miter"}),
    ]
