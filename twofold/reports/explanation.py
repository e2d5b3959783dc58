"""`twofold explain` as one page: self-contained and offline, every text escaped, its one script named by its hash.

Colours run from blue (credited) over none to orange (blamed), which the common forms of colour blindness tell apart;
strong tokens are underlined too, whole or dashed by sign, and every number can be read on hover, tap or focus.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twofold.data.view import visible
from twofold.reports import charts, tables
from twofold.reports.displacement import Fall, fall_in
from twofold.reports.html import clip
from twofold.reports.run import RunData, estimate
from twofold.statistics import Estimate

LEVELS = 5
MOST_TOKENS = 9000  # on one page
WEIGHTS = ("gradient_weight", "gradient_weight_std")
LIKELY = {
    "near-equal": "chosen and rejected are nearly equal",
    "pattern": "on patterns that other pairs reject",
    "shared": "on tokens that rejected says too",
    "opening": "on the opening",
    "length": "many tokens that lost little each",
    "elsewhere": "no one kind of token",
}
PARTS = {
    "opening": "before the sides part",
    "first": "the first token that differs",
    "middle": "between",
    "ending": "what both end with",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is shown: its text, its number, and `look` of its colour (`p1` … `p5`, `m1` … `m5`, or none)."""

    text: str
    credit: float
    logp: float
    look: str


@dataclass(frozen=True, slots=True)
class Said:
    """A completion; `hidden` tokens are left out of the page."""

    label: str
    reward: float
    tokens: Sequence[Token]
    hidden: int


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with its completions and a line of facts."""

    name: str
    prompt: str
    facts: str
    said: Sequence[Said]


def write_explanation(
    told: Mapping[str, Any], out: Path, *, title: str, facts: Sequence[str], run: RunData | None = None
) -> Path:
    """Write the page of what `Explanation.as_dict` told, with the gradient weights of `run`'s training where given."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = explanation_page(told, title=title, facts=facts, run=run)
    out.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return out


def explanation_page(told: Mapping[str, Any], *, title: str, facts: Sequence[str], run: RunData | None = None) -> str:
    """The page as text."""
    script = files("twofold.reports").joinpath("templates", "explain.js").read_text(encoding="utf-8").strip()
    scale = scale_of(told["rows"])
    return _environment().get_template("explain.html.jinja").render(
        title=title,
        facts=facts,
        told=told,
        scale=scale,
        rows=rows_of(told["rows"], scale),
        fall=fall_of(told),
        likely=likely_of(told),
        parts=PARTS,
        weights=weights_of(run) if run else [],
        script=Markup(script),
        digest=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


def scale_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """The credit that is drawn in the strongest colour: the 98th percentile of the sizes of all that are shown."""
    sizes = sorted(abs(t["credit"]) for row in rows for c in row["completions"] for t in c["tokens"])
    return sizes[min(len(sizes) - 1, int(0.98 * len(sizes)))] if sizes else 0.0


def level(credit: float, scale: float) -> int:
    """How strongly a credit is drawn: 0 (not at all) to LEVELS, below 0 for blame."""
    if not (scale > 0 and isfinite(credit)):
        return 0
    size = min(LEVELS, ceil(LEVELS * abs(credit) / scale - 0.25))
    return size if credit > 0 else -size


def rows_of(rows: Sequence[Mapping[str, Any]], scale: float) -> list[Row]:
    """The rows with a colour for each token; completions are cut alike where the page would be too large."""
    completions = sum(len(row["completions"]) for row in rows)
    most = max(40, MOST_TOKENS // max(1, completions))
    return [
        Row(row["name"], visible(row["prompt"]), _facts(row), [_said(c, scale, most) for c in row["completions"]])
        for row in rows
    ]


def _said(told: Mapping[str, Any], scale: float, most: int) -> Said:
    tokens = [
        Token(shown(t["text"]), t["credit"], t["logp"], _look(level(t["credit"], scale))) for t in told["tokens"][:most]
    ]
    return Said(told["label"], told["reward"], tokens, told["length"] - len(tokens))


def shown(text: str) -> str:
    """A token's text so that nothing of it is invisible: a line's end has a sign, a part of a character is a dot."""
    return visible(text).replace("\n", "↵\n") if text else "·"


def _look(strength: int) -> str:
    return f"{'p' if strength > 0 else 'm'}{abs(strength)}" if strength else ""


def _facts(row: Mapping[str, Any]) -> str:
    if "margin" not in row:
        return ""
    opening = row["opening"]
    same = f"; both begin with the same {opening} token{'s' if opening != 1 else ''}" if opening else ""
    change, cause = row.get("chosen_change", 0.0), row.get("likely")
    fell = f"; chosen fell {tables.number(-change)} nats, likely cause: {LIKELY[cause]}" if cause else ""
    return f"margin {signed(row['margin'])}{same}{fell}"


def signed(value: float) -> str:
    """A figure with its sign and three digits."""
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def fall_of(told: Mapping[str, Any]) -> Fall | None:
    """The section on likelihood displacement; None without pairs."""
    return fall_in(told.get("displacement", {}), "")


def likely_of(told: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The likely causes of single pairs in words, with how many pairs each explains."""
    counts: Mapping[str, int] = told.get("displacement", {}).get("likely", {})
    return [(LIKELY[name], n) for name, n in counts.items()]


def weights_of(run: RunData) -> list[charts.Chart]:
    """The gradient weights σ(−margin) over the run's training: their mean, and their spread over a step's pairs."""
    specs = [spec for spec in charts.FURTHER if spec.curves[0].key in WEIGHTS]
    return charts.draw(specs, [run], [(run.name, "run-0")])


def _estimate(told: Mapping[str, Any]) -> Estimate:
    return estimate(told) or Estimate(float("nan"), float("nan"), float("nan"), 0, None, "")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("twofold.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clip": clip,
        "drawing": lambda chart: Markup(chart.svg),
        "estimate": _estimate,
        "interval": tables.interval,
        "number": tables.number,
        "percent": tables.percent,
        "shown": shown,
        "signed": signed,
        "zip": zip,
    }
    return environment
