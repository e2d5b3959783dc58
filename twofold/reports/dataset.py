"""The HTML page of `twofold data report`: distributions of a data set and what its check found. Self-contained and
offline, every text escaped, in English and Chinese. Faults are shown in the check's own words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twofold.data.values import Values, quantiles
from twofold.reports import tables
from twofold.reports.charts import Chart
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.figure_data import Drawn, encoded
from twofold.reports.guide import DATA_TERMS, after_data_report, glossary
from twofold.reports.languages import Phrase, phrase
from twofold.reports.pages import page_of
from twofold.statistics import Estimate

if TYPE_CHECKING:
    from twofold.data.profile import Profile
    from twofold.data.report import Kind, Report

BINS, FAR = 24, 0.99
MOST_NAMES = 12
LOOKS = {"prompt": "run-0", "chosen": "chosen", "rejected": "rejected", "gold": "truth"}
BIAS = (
    "The longer answer is chosen in {share} of {n} pairs; 95% interval {interval}. ",
    "The interval contains 50%: there is no evidence of a bias.",
    "Longer answers are preferred.",
    "Shorter answers are preferred.",
)
Series = tuple[str, str, Values]
"""A name, a color name, and the values."""


def dataset_page(report: Report, profile: Profile, kinds: Sequence[Kind], title: str, notes: Sequence[str]) -> str:
    """The page as text; `notes` are what was not checked."""
    rows = phrase("{rows} rows, {records} usable", rows=f"{report.rows:,}", records=f"{report.records:,}")
    return page_of(
        "dataset.html.jinja",
        title=title,
        facts=[rows, phrase("format: {format}", format=report.format), *notes],
        steps=after_data_report(report.source, ok=report.ok),
        glossary=glossary(DATA_TERMS),
        cards=_cards(report, profile),
        charts=charts(profile),
        origins=_origins(profile),
        origin_column=profile.origin_column,
        longer=profile.longer_by_origin(MOST_NAMES),
        wins=profile.win_rates(MOST_NAMES),
        scripts=_shares(profile.scripts.most_common(MOST_NAMES), sum(profile.scripts.values())),
        kinds=kinds,
        place=lambda share: f"{100 * min(1.0, max(0.0, share)):.2f}%",
    )  # fmt: skip


def _cards(report: Report, profile: Profile) -> list[tuple[Phrase, str, Phrase]]:
    """The main figures: name, value, explanation."""
    errors, warnings = len(report.errors), len(report.warnings)
    stop, go = phrase("Training would stop at the first error."), phrase("Training would accept this source.")
    verdict = phrase("Errors / warnings. {verdict}", verdict=stop if errors else go)
    cards = [(phrase("Faults"), f"{errors:,} / {warnings:,}", verdict)]
    if report.bias and report.bias.share.n:
        cards.append((phrase("Length bias"), tables.percent(report.bias.share.value), _bias(report.bias.share)))
    if profile.noise:
        share, interval = tables.percent(profile.noise.value), tables.interval(profile.noise)
        words = "of {n} scored pairs: the rejected answer scores at least as high as the chosen one"
        noise = phrase(words, n=f"{profile.noise.n:,}") + phrase("; 95% interval {interval}", interval=interval)
        cards.append((phrase("Preferences against the scores"), share, noise))
    return cards


def _bias(share: Estimate) -> Phrase:
    how, even, longer, shorter = BIAS
    told = phrase(how, share=tables.percent(share.value), n=f"{share.n:,}", interval=tables.interval(share))
    return told + phrase(even if share.low <= 0.5 <= share.high else longer if share.low > 0.5 else shorter)


def charts(profile: Profile) -> list[Chart]:
    """Histograms of what the source has."""
    fields = dict(profile.lengths)
    prompts = [("prompt", LOOKS["prompt"], fields.pop("prompt"))] if "prompt" in fields else []
    answers = [(name, LOOKS.get(name, "draft"), lengths) for name, lengths in fields.items()]
    characters = phrase("characters")
    made = [
        histogram(phrase("Length of prompts"), prompts, characters),
        histogram(phrase("Length of answers"), answers, characters),
        histogram(phrase("Length, chosen minus rejected"), _one(profile.differences), characters),
        histogram(phrase("Score margin"), _one(profile.margins), phrase("score, chosen minus rejected"), whole=False),
    ]
    return [chart for chart in made if chart]


def _one(values: Values) -> list[Series]:
    return [("", "run-0", values)]


def histogram(title: str, series: Sequence[Series], axis: str, *, whole: bool = True) -> Chart | None:
    """Shares of rows by value, up to the 99th percentile (and from the first one, if values are negative).

    Bins of `whole` numbers have whole edges: else some would hold one more value than others.
    """
    series = [each for each in series if len(each[2])]
    if not series:
        return None
    every = [values for _, _, values in series]
    low, high = quantiles(every, [1 - FAR, FAR])
    low, high = min(low, 0.0), max(high, min(low, 0.0) + 1)
    low, high = (math.floor(low), math.ceil(high)) if whole else (low, high)
    width = math.ceil((high - low) / BINS) if whole else (high - low) / BINS
    edges = [float(low + width * place) for place in range(math.ceil((high - low) / width - 1e-9) + 1)]
    high = float(edges[-1])
    lines = [
        Line((), [count / len(values) for count in values.counts(edges)], look, edges=edges)
        for _, look, values in series
    ]
    frame = Frame(title, high, 0.0, 1.06 * max(max(line.y) for line in lines), percent=True, begin=low, whole=whole)
    beyond = sum(values.beyond(low, high) for values in every) / sum(map(len, every))
    note = phrase("Share of rows. Median: {medians}.", medians=_medians(series))
    if beyond:
        note += phrase(" {share} are beyond the axis.", share=f"{beyond:.1%}")
    legend = tuple((name, look) for name, look, _ in series) if len(series) > 1 else ()
    data = encoded([Drawn(name or title, line) for (name, _, _), line in zip(series, lines, strict=True)], frame)
    return Chart(title, note, svg(lines, frame), legend, (), axis=axis, data=data)


def _medians(series: Sequence[Series]) -> Phrase:
    found = [(phrase(name), tables.number(quantiles([values], [0.5])[0])) for name, _, values in series]
    english = ", ".join(f"{name} {median}".strip() for name, median in found)
    return Phrase(english, "，".join(f"{name.zh} {median}".strip() for name, median in found))


def _origins(profile: Profile) -> list[tuple[str, int, float]]:
    return _shares(profile.origins.most_common(MOST_NAMES), sum(profile.origins.values()))


def _shares(counts: Sequence[tuple[Any, int]], total: int) -> list[tuple[str, int, float]]:
    return [(name, count, count / total) for name, count in counts if name]
