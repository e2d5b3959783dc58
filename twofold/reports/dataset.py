"""The HTML page of `twofold data report`: distributions of a data set and what its check found. Self-contained and
offline, every text escaped, its one script (tables on narrow screens) allowed by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.reports import tables
from twofold.reports.charts import Chart
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.pages import environment, script_of

if TYPE_CHECKING:
    from twofold.data.profile import Profile
    from twofold.data.report import Kind, Report

BINS, FAR = 24, 0.99
MOST_NAMES = 12
LOOKS = {"prompt": "run-0", "chosen": "chosen", "rejected": "rejected", "gold": "truth"}
Series = tuple[str, str, NDArray[np.float64]]
"""A name, a color name, and the values."""


def dataset_page(report: Report, profile: Profile, kinds: Sequence[Kind], title: str, notes: Sequence[str]) -> str:
    """The page as text; `notes` are what was not checked."""
    script, digest = script_of("tables.js")
    return environment().get_template("dataset.html.jinja").render(
        title=title,
        report=report,
        facts=[f"{report.rows:,} rows, {report.records:,} usable", f"format: {report.format}", *notes],
        cards=_cards(report, profile),
        charts=charts(profile),
        origins=_origins(profile),
        origin_column=profile.origin_column,
        longer=profile.longer_by_origin(MOST_NAMES),
        wins=profile.win_rates(MOST_NAMES),
        scripts=_shares(profile.scripts.most_common(MOST_NAMES), sum(profile.scripts.values())),
        kinds=kinds,
        place=lambda share: f"{100 * min(1.0, max(0.0, share)):.2f}%",
        script=script,
        digest=digest,
    )  # fmt: skip


def _cards(report: Report, profile: Profile) -> list[tuple[str, str, str]]:
    """The main figures: name, value, explanation."""
    errors, warnings = len(report.errors), len(report.warnings)
    verdict = "Training would stop at the first error." if errors else "Training would accept this source."
    cards = [("Faults", f"{errors:,} / {warnings:,}", f"Errors / warnings. {verdict}")]
    if report.bias and report.bias.share.n:
        cards.append(("Length bias", tables.percent(report.bias.share.value), _sentence(report.bias.words())))
    if profile.noise:
        share, interval = tables.percent(profile.noise.value), tables.interval(profile.noise)
        words = f"of {profile.noise.n:,} scored pairs, the rejected answer scores as high as the chosen one or higher"
        cards.append(("Preferences against the scores", share, f"{_sentence(words)} 95% interval {interval}."))
    return cards


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def charts(profile: Profile) -> list[Chart]:
    """Histograms of what the source has."""
    fields = {name: np.asarray(lengths, float) for name, lengths in profile.lengths.items()}
    prompts = [("prompt", LOOKS["prompt"], fields.pop("prompt"))] if "prompt" in fields else []
    answers = [(name, LOOKS.get(name, "draft"), lengths) for name, lengths in fields.items()]
    made = [
        histogram("Length of prompts", prompts, "characters"),
        histogram("Length of answers", answers, "characters"),
        histogram("Chosen minus rejected", _one("difference", profile.differences), "characters"),
        histogram("Score margin", _one("margin", profile.margins), "chosen minus rejected", whole=False),
    ]
    return [chart for chart in made if chart]


def _one(name: str, values: ArrayLike) -> list[Series]:
    return [(name, "run-0", np.asarray(values, float))]


def histogram(title: str, series: Sequence[Series], axis: str, *, whole: bool = True) -> Chart | None:
    """Shares of rows by value, up to the 99th percentile (and from the first one, if values are negative)."""
    series = [each for each in series if len(each[2])]
    if not series:
        return None
    every = np.concatenate([values for _, _, values in series])
    low, high = (float(v) for v in np.quantile(every, [1 - FAR, FAR]))
    low, high = min(low, 0.0), max(high, min(low, 0.0) + 1)
    edges = np.linspace(low, high, BINS + 1)
    lines = [
        Line((), (np.histogram(values, edges)[0] / len(values)).tolist(), look, edges=edges.tolist())
        for _, look, values in series
    ]
    frame = Frame(title, high, 0.0, 1.06 * max(max(line.y) for line in lines), percent=True, begin=low, whole=whole)
    beyond = float(((every > high) | (every < low)).mean())
    medians = ", ".join(f"{name} {tables.number(float(np.median(values)))}" for name, _, values in series)
    note = f"Share of rows. Median: {medians}." + (f" {beyond:.1%} are beyond the axis." if beyond else "")
    legend = tuple((name, look) for name, look, _ in series) if len(series) > 1 else ()
    return Chart(title, note, svg(lines, frame), legend, (), axis=axis)


def _origins(profile: Profile) -> list[tuple[str, int, float]]:
    return _shares(profile.origins.most_common(MOST_NAMES), sum(profile.origins.values()))


def _shares(counts: Sequence[tuple[Any, int]], total: int) -> list[tuple[str, int, float]]:
    return [(name, count, count / total) for name, count in counts if name]
