"""The AUCs of `experiments.credit` as one small SVG file that reads in dark and in light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LEFT, WIDTH, TOP, ROW, GAP, RIGHT = 150, 420, 52, 17, 14, 30
LABELS = {
    "demo": "credit, DPO on the demo's pairs",
    "facts": "credit, DPO on pairs that differ in such a digit",
    "reference": "log π_ref alone",
}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-weight: 600 } .grid { stroke: #8884 }
.chance { stroke: #888; stroke-dasharray: 3 3 } line.bar { stroke-width: 2 } circle { stroke-width: 2 }
.demo { stroke: #1b5a9c; fill: #1b5a9c } .facts { stroke: #a4540a; fill: #a4540a }
.reference { stroke: #777; fill: #777 } circle.control { fill: #fff } text[class] { stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .demo { stroke: #8fc3f7; fill: #8fc3f7 }
.facts { stroke: #f6b064; fill: #f6b064 } .reference { stroke: #aaa; fill: #aaa } circle.control { fill: #222 } }
"""


Rows = Sequence[Mapping[str, Any]]


def draw(rows: Rows, looks: Mapping[tuple[str, str], str], path: Path) -> None:
    """Write the figure: for each place the AUC of the planted token and, hollow, of the control, with intervals, by the
    pairs and scores of `looks`."""
    places = list(dict.fromkeys(row["place"] for row in rows))
    top = TOP + 18 * len(looks)
    height = top + len(places) * (len(looks) * ROW + GAP) + 30
    parts = [
        f'<text class="title" x="{LEFT}" y="16">Share of its answer\'s other tokens above the changed one (AUC)</text>',
        f'<text x="{LEFT}" y="34">filled: changed; hollow: the same token as it was; 95% over problems</text>',
    ]
    for i, look in enumerate(looks.values()):
        parts.append(f'<text class="{look}" x="{LEFT}" y="{54 + 18 * i}">● {LABELS[look]}</text>')
    for tick in (0, 0.25, 0.5, 0.75, 1):
        look, x = ("chance" if tick == 0.5 else "grid"), _x(tick)
        parts.append(f'<line class="{look}" x1="{x}" x2="{x}" y1="{top - 6}" y2="{height - 22}"/>')
        parts.append(f'<text x="{x}" y="{height - 6}" text-anchor="middle">{tick:g}</text>')
    for i, place in enumerate(places):
        begin = top + i * (len(looks) * ROW + GAP)
        here = {(row["pairs"], row["score"]): row for row in rows if row["place"] == place}
        n = next(iter(here.values()))["n"]
        middle = begin + ROW * len(looks) / 2 + 4
        parts.append(f'<text x="{LEFT - 14}" y="{middle:.0f}" text-anchor="end">{place} (n {n})</text>')
        for j, (which, look) in enumerate(looks.items()):
            parts += _dots(here[which], look, begin + ROW * j + ROW / 2)
    size = f'viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" width="{LEFT + WIDTH + RIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="AUC of planted errors by score">'
    path.write_text("\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"]), encoding="utf-8")


def _dots(row: Mapping[str, Any], look: str, y: float) -> list[str]:
    parts: list[str] = []
    for kind in ("control", "planted"):
        e = row[kind]
        parts.append(f'<line class="bar {look}" x1="{_x(e.low)}" x2="{_x(e.high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="{look} {kind}" cx="{_x(e.value)}" cy="{y}" r="4"/>')
    return parts


def _x(share: float) -> str:
    return f"{LEFT + WIDTH * share:.1f}"
