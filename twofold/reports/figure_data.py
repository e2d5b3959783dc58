"""A figure's numbers as the page's script reads them: values under the pointer, other axes, smoothing, CSV.

Along steps a page has one clock per run, which takes a step to seconds and tokens, instead of three scales per line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from twofold.reports.drawing import AXES, HEIGHT, WIDTH, Frame, Line
from twofold.reports.run import RunData

DIGITS = 5
TICKS = 120
"""Points of a clock."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line with its name. `run` is the place of its run among the page's clocks; None if it is not along steps."""

    label: str
    line: Line
    run: int | None = None


def encoded(drawn: Sequence[Drawn], frame: Frame) -> str:
    """The figure as JSON: where its axes are in the drawing, their limits, and all lines."""
    left, bottom, width, height = AXES
    box = [72 * WIDTH * left, 72 * HEIGHT * (1 - bottom - height), 72 * WIDTH * width, 72 * HEIGHT * height]
    figure: dict[str, Any] = {"box": _short(box), "x": _short(frame.across), "y": _short((frame.low, frame.high))}
    figure |= {"percent": frame.percent} if frame.percent else {}
    return json.dumps({**figure, "lines": [_line(each) for each in drawn]}, separators=(",", ":"), ensure_ascii=False)


def clock(run: RunData) -> dict[str, list[float]]:
    """Seconds and tokens of training before each of at most TICKS steps; what the run did not record is left out."""
    known = {key: run.series(key, "timing") for key in ("seconds", "tokens")}
    steps = known["seconds"][0]
    if not steps:
        return {}
    ends = [*steps[1:], steps[-1] + 1]
    places = sorted({*range(0, len(steps) + 1, -(-(len(steps) + 1) // TICKS)), len(steps)})
    told = {"steps": [[*steps, ends[-1]][place] for place in places]}
    for key, (own, values) in known.items():
        if own == steps:
            widths = [b - a for a, b in zip(steps, ends, strict=True)]  # of long logs not every step
            spent = [0.0, *accumulate(value * width for value, width in zip(values, widths, strict=True))]
            told[key] = _short([spent[place] for place in places], 7)
    return told


def _line(drawn: Drawn) -> dict[str, Any]:
    line = drawn.line
    told: dict[str, Any] = {"label": drawn.label[:120], "look": line.look, "x": _short(line.x), "y": _short(line.y)}
    told |= {"low": _short(line.low), "high": _short(line.high)} if line.low else {}
    told |= {"x": _short(_centers(line.edges)), "edges": _short(line.edges), "markers": True} if line.edges else {}
    told |= {name: True for name in ("markers", "whiskers") if getattr(line, name)}
    return told if drawn.run is None else {**told, "run": drawn.run}


def _centers(edges: Sequence[float]) -> list[float]:
    return [(low + high) / 2 for low, high in pairwise(edges)]


def _short(values: Sequence[float], digits: int = DIGITS) -> list[float]:
    rounded = [float(f"{value:.{digits}g}") for value in values]
    return [int(value) if value.is_integer() else value for value in rounded]
