"""A method's curves on held-out pairs as one small SVG file that reads in dark and in light, DPO's in grey beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, GAP = 216, 120, 44
LEFT, TOP = 40, 40
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #444 } .title { font-weight: 600 } .grid { stroke: #8884 }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round } .dpo { stroke: #9a9a9a; stroke-dasharray: 4 3 }
.all { stroke: #7a4fd0 } .chosen { stroke: #0b7d5e } .rejected { stroke: #c2410c }
text.chosen { fill: #0b7d5e; stroke: none } text.rejected { fill: #c2410c; stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .all { stroke: #b79cff } .chosen { stroke: #4fd1a5 }
.rejected { stroke: #ff9d6b } text.chosen { fill: #4fd1a5 } text.rejected { fill: #ff9d6b } }
"""


@dataclass(frozen=True)
class Panel:
    """A drawing's title and its lines: the name of a figure and the class by which it is coloured."""

    title: str
    lines: Mapping[str, str]
    low: float | None = None
    high: float | None = None


PANELS = (
    Panel("preference accuracy", {"accuracy": "all"}, 0.5, 1.0),
    Panel("margin, nats", {"margin": "all"}, 0.0),
    Panel("log π/π_ref, nats", {"chosen": "chosen", "rejected": "rejected"}),
)
Looks = Sequence[Mapping[str, float]]


def curve(kind: str, found: Looks, dpo: Looks, learning_rate: float) -> str:
    """The SVG file of one method: `found` and `dpo` hold a step's figures each, in order."""
    width = LEFT + len(PANELS) * (WIDTH + GAP)
    title = f"{kind} at learning rate {learning_rate:g}, 96 held-out pairs of the demo task" + (
        "; dashed grey: dpo at its best" if kind != "dpo" else ""
    )
    parts = [f'<text x="{LEFT}" y="14">{escape(title)}</text>']
    for place, panel in enumerate(PANELS):
        parts += _panel(panel, LEFT + place * (WIDTH + GAP), found, dpo if kind != "dpo" else ())
    size = f'viewBox="0 0 {width} {TOP + HEIGHT + 26}" width="{width}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _panel(panel: Panel, left: int, found: Looks, dpo: Looks) -> list[str]:
    values = [float(look[name]) for looks in (found, dpo) for look in looks for name in panel.lines]
    values += [bound for bound in (panel.low, panel.high) if bound is not None]
    low, high = min(values), max(values)
    high = high if high > low else low + 1
    end = found[-1]["step"]

    def line(looks: Looks, name: str, look: str) -> str:
        points = " ".join(
            f"{left + WIDTH * s['step'] / end:.1f},{TOP + HEIGHT * (high - s[name]) / (high - low):.1f}" for s in looks
        )
        return f'<polyline class="{look}" points="{points}"/>'

    parts = [f'<text class="title" x="{left}" y="{TOP - 8}">{panel.title}</text>']
    for value in (low, (low + high) / 2, high):
        y = TOP + HEIGHT * (high - value) / (high - low)
        shown = f"{value:.3g}".replace("-", "−")
        parts.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>')
    parts.append(f'<text x="{left}" y="{TOP + HEIGHT + 16}">0</text>')
    parts.append(f'<text x="{left + WIDTH}" y="{TOP + HEIGHT + 16}" text-anchor="end">step {end}</text>')
    if len(panel.lines) > 1:
        for i, look in enumerate(panel.lines.values()):
            parts.append(f'<text class="{look}" x="{left + 110 + 56 * i}" y="{TOP - 8}">{look}</text>')
    parts += [line(dpo, name, "dpo") for name in panel.lines if dpo]
    return [*parts, *(line(found, name, look) for name, look in panel.lines.items())]
