"""The HTML page of `twofold explain`: self-contained and offline, every text escaped, in English and Chinese.

Colors range from blue (positive credit) over none to orange (negative credit), which people with common color blindness
can distinguish. Strong tokens are also underlined, solid or dashed by sign. Every number is available on hover, tap or
focus.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.reports import charts
from twofold.reports.displacement import fall_in
from twofold.reports.figure_data import clock
from twofold.reports.guide import EXPLAIN_TERMS, Step, glossary
from twofold.reports.heat import LIKELY, rows_of, scale_of, shown
from twofold.reports.pages import environment, page_of, write_page
from twofold.reports.run import RunData, estimate
from twofold.statistics import Estimate

MOST_TOKENS = 9000  # on one page
WEIGHTS = ("gradient_weight", "gradient_weight_std")
PARTS = {
    "opening": "before the sides part",
    "first": "the first token that differs",
    "middle": "between",
    "ending": "what both end with",
}


def write_explanation(
    told: Mapping[str, Any],
    out: Path,
    *,
    title: str,
    facts: Sequence[str],
    run: RunData | None = None,
    steps: Sequence[Step] = (),
) -> Path:
    """Write the page of an `Explanation.as_dict`, with the gradient weights of `run`'s training if given, and `steps`
    to do next."""
    return write_page(out, explanation_page(told, title=title, facts=facts, run=run, steps=steps))


def explanation_page(
    told: Mapping[str, Any], *, title: str, facts: Sequence[str], run: RunData | None = None, steps: Sequence[Step] = ()
) -> str:
    """The page as text."""
    scale, fell = scale_of(told["rows"]), told.get("displacement", {})
    clocks = [clock(run)] if run else []
    environment().filters |= {"estimate": _estimate, "shown": shown, "zip": zip}
    return page_of(
        "explain.html.jinja",
        title=title,
        facts=facts,
        steps=steps,
        glossary=glossary(EXPLAIN_TERMS),
        told=told,
        scale=scale,
        rows=rows_of(told["rows"], scale, most_of(told["rows"])),
        fall=fall_in(fell, ""),
        likely=[(LIKELY[name], n) for name, n in fell.get("likely", {}).items()],
        parts=PARTS,
        weights=weights_of(run) if run else [],
        clocks=json.dumps(clocks, separators=(",", ":")),
        has_tokens=any("tokens" in each for each in clocks),
    )  # fmt: skip


def most_of(rows: Sequence[Mapping[str, Any]]) -> int:
    """Number of tokens shown of each completion. All are truncated equally if the page would be too large."""
    return max(40, MOST_TOKENS // max(1, sum(len(row["completions"]) for row in rows)))


def weights_of(run: RunData) -> list[charts.Chart]:
    """The gradient weights σ(−margin) over the run's training: their mean, and their spread over a step's pairs."""
    specs = [spec for spec in charts.FURTHER if spec.curves[0].key in WEIGHTS]
    return charts.draw(specs, [run], [(run.name, "run-0")])


def _estimate(told: Mapping[str, Any]) -> Estimate:
    return estimate(told) or Estimate(float("nan"), float("nan"), float("nan"), 0, None, "")
