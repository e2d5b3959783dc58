"""What experiments write: tables in Markdown, what stands between the marks of a page, how drawings look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.statistics import Estimate

STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "twofold", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888", "axes.labelcolor": "#777",
    "text.color": "#777", "xtick.color": "#888", "ytick.color": "#888",
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
    "grid.color": "#8884", "axes.grid": True, "axes.axisbelow": True,
}  # fmt: skip
"""Of matplotlib: reads on white and on dark pages."""


def marks(command: str, part: str = "") -> tuple[str, str]:
    """The comments of a page between which `command` writes."""
    return f"<!-- begin: written by {command}{part} -->", f"<!-- end{part} -->"


def between(page: Path, marks: tuple[str, str]) -> str:
    """What stands between the marks of `page`."""
    return _parted(page, marks)[1]


def put(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put `text` between the marks of `page`, and leave the rest as it is."""
    before, _, after = _parted(page, marks)
    page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")


def _parted(page: Path, marks: tuple[str, str]) -> tuple[str, str, str]:
    before, begin, rest = page.read_text(encoding="utf-8").partition(marks[0])
    inside, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{page}: no marks {' … '.join(marks)}")
    return before, inside, after


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head."""
    head, *body = lines
    rule = ("---", *(["---:"] * (len(head) - 1)))
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *body))


def rates_table(head: str, scores: Mapping[str, Mapping[str, str]], chosen: Mapping[str, float]) -> str:
    """How learning rates were chosen: the score of every trial, the best in bold."""
    rates = sorted({rate for each in scores.values() for rate in each}, key=float)
    lines: list[tuple[str, ...]] = [(head, *rates)]
    for name, each in scores.items():
        best = f"{chosen[name]:g}"
        lines.append((name, *(f"**{each[r]}**" if r == best else each.get(r, "–") for r in rates)))
    return markdown(lines)


def points(estimate: Estimate | None) -> str:
    """A difference in points with its interval."""
    if estimate is None:
        return "–"
    return f"{estimate.value * 100:+.1f} [{estimate.low * 100:+.1f}, {estimate.high * 100:+.1f}]"


def percent(estimate: Estimate, digits: int = 1) -> str:
    """A share with its interval."""
    return f"{estimate.value:.{digits}%} [{estimate.low:.{digits}%}, {estimate.high:.{digits}%}]"


def typeset(line: Sequence[str]) -> tuple[str, ...]:
    """True minus signs."""
    return tuple(re.sub(r"(^|[ \[])-(?=\d)", r"\1−", cell) for cell in line)
