"""Draws lines as a small inline SVG without script, fonts or text except numbers. The page defines the colors.

matplotlib draws with placeholder colors, which are then replaced by CSS variables, so that one drawing works in light
mode, dark mode and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

LOOKS = {
    "chosen": "#0a0001", "rejected": "#0a0002", "draft": "#0a0003", "truth": "#0a0004", "ink": "#0a0005",
    **{f"run-{i}": f"#0b000{i}" for i in range(6)},
}  # fmt: skip
WIDTH, HEIGHT = 4.4, 2.5
AXES = (0.115, 0.125, 0.865, 0.85)
"""Left, bottom, width and height of the axes as shares of the drawing."""
MOVING = {"matplotlib.axis_1": "across", "curve": "curve"}
"""Groups of a drawing that the page's script draws again, by matplotlib's id: their class on the page."""
LEAN = (
    (re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL), ""),
    (re.compile(r"<style[^>]*>\*\{[^<]*</style>\s*"), ""),
    *((re.compile(f'<g id="{re.escape(name)}"'), f'<g class="{kind}"') for name, kind in MOVING.items()),
    (re.compile(r'<g id="[^"]*"'), "<g"),
    (re.compile(r"font-family: [^;\"]*; ?"), ""),
    (re.compile(r' transform="rotate\(-0 [^"]*"'), ""),
    (re.compile("xlink:href"), "href"),
    (re.compile(r"(\d\.\d\d)\d+(?=[^<>]*>)"), r"\1"),  # of coordinates, not of what is read
    (re.compile(r"\s*\n\s*"), " "),
    (re.compile(r"<g ?/>|<defs> ?</defs>|> (?=<)"), lambda found: ">" if found.group() == "> " else ""),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line: points, color name, band (or, with `whiskers`, a vertical line at each point). With `edges` it is a
    histogram: bar i is `y[i]` high, from `edges[i]` to `edges[i + 1]`."""

    x: Sequence[float]
    y: Sequence[float]
    look: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    markers: bool = False
    whiskers: bool = False
    edges: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """The scale, steps from `begin` to `end` and y from `low` to `high`, and its name; `level` draws a dotted line.

    Of `shares` the x axis has probabilities instead of steps, and the dotted line is where y is x; if not `whole`, it
    has any numbers.
    """

    title: str
    end: float
    low: float
    high: float
    level: float | None = None
    percent: bool = False
    begin: float = 0.0
    shares: bool = False
    whole: bool = True

    @property
    def across(self) -> tuple[float, float]:
        """Where the x axis begins and ends."""
        pad = 0.02 * (self.end - self.begin)
        return self.begin - pad, self.end + pad


def binned(x: Sequence[float], y: Sequence[float], points: int) -> tuple[list[float], list[float]]:
    """At most `points` points: means over consecutive stretches of steps."""
    size = -(-len(x) // points)
    stretches = [slice(i, i + size) for i in range(0, len(x), size)]
    return [fmean(x[s]) for s in stretches], [fmean(y[s]) for s in stretches]


def _smooth(y: Sequence[float]) -> list[float]:
    """Centered running mean over a tenth of the points, with a shorter window at both ends."""
    reach = len(y) // 20
    return [fmean(y[max(0, i - reach) : i + reach + 1]) for i in range(len(y))]


def svg(lines: Sequence[Line], frame: Frame) -> str:
    """The drawing as an `<svg>` element, by matplotlib's object interface: no global figure, no display."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "twofold", "path.simplify": True}):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_axes(AXES)
        _furnish(axes, frame)
        for line in lines:
            _draw_line(axes, line)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return _inline(buffer.getvalue(), frame.title)


def _furnish(axes: Axes, frame: Frame) -> None:
    ink = LOOKS["ink"]
    axes.set_xlim(*frame.across)
    axes.set_ylim(frame.low, frame.high)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=frame.whole and not frame.shares))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _across(v, frame)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g}%" if frame.percent else _short(v)))
    axes.grid(axis="y", color=ink, alpha=0.15, linewidth=0.7)
    axes.tick_params(colors=ink, labelsize=8.5, length=0, pad=4)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_edgecolor(ink)
        spine.set_alpha(0.4)
    dotted: dict[str, Any] = {"color": ink, "alpha": 0.55, "linewidth": 1, "linestyle": (0, (1, 2))}
    if frame.shares:
        axes.plot((frame.begin, frame.end), (frame.begin, frame.end), **dotted)
    if frame.level is not None:
        axes.axhline(frame.level, **dotted)


def _draw_line(axes: Axes, line: Line) -> None:
    colour: dict[str, Any] = {"color": LOOKS[line.look], "solid_joinstyle": "round", "gid": "curve"}
    if line.edges:
        bars: dict[str, Any] = {"color": LOOKS[line.look], "gid": "curve"}
        axes.stairs(line.y, line.edges, fill=True, alpha=0.16, **bars)
        axes.stairs(line.y, line.edges, linewidth=1.6, **bars)
        return
    if line.low and line.whiskers:
        axes.vlines(line.x, line.low, line.high, color=LOOKS[line.look], alpha=0.45, linewidth=1.4, gid="curve")
    elif line.low:
        band: dict[str, Any] = {"color": LOOKS[line.look], "alpha": 0.16, "linewidth": 0, "gid": "curve"}
        axes.fill_between(line.x, line.low, line.high, **band)
    if line.markers:
        axes.plot(line.x, line.y, linewidth=1.8, marker="o", markersize=3.6, **colour)
        return
    smooth = _smooth(line.y)
    if smooth != list(line.y):
        axes.plot(line.x, line.y, linewidth=0.8, alpha=0.3, **colour)
    axes.plot(line.x, smooth, linewidth=1.9, marker="o" if len(line.x) == 1 else None, markersize=4, **colour)


def _across(value: float, frame: Frame) -> str:
    if frame.shares:
        return f"{100 * value:.3g}%"
    return f"{value:,.0f}" if frame.whole else _short(value)


def _short(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", "\u2212")
    return f"{value:,.6g}".replace("-", "\u2212")


def _inline(drawing: str, title: str) -> str:
    """An SVG file as an element of a page, without prolog, schema names, fonts or unused ids, and with the page's
    colors."""
    drawing = drawing[drawing.index("<svg") :]
    body = drawing[drawing.index(">") + 1 :]
    for pattern, new in LEAN:
        body = pattern.sub(new, body)
    for name, stand_in in LOOKS.items():
        body = body.replace(stand_in, "currentColor" if name == "ink" else f"var(--{name})")
    return f'<svg viewBox="0 0 {72 * WIDTH:g} {72 * HEIGHT:g}" role="img" aria-label="{escape(title)}">{body}'
