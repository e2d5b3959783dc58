"""Charts of gain against KL from the reference model, and of win rate by temperature."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twofold.reports.charts import Chart
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.figure_data import Drawn, encoded
from twofold.reports.languages import Phrase, phrase
from twofold.reports.run import RunData, dicts, estimate
from twofold.reports.tables import interval, percent
from twofold.statistics import Estimate, wilson

GAINS = {
    "exact_match/strict": "problems solved",
    "exact_match/flexible": "problems solved, flexible",
    "heldout/reward": "held-out reward",
}
"""Metrics of gain; the first that an evaluation has is used. For shares, `n` is the count."""
DISTANCES = ("heldout/kl", "exact_match/kl")
DRAFTS = ("draft_kl", "kl")
RECENT = 10
MOST = 40

Point = tuple[float, Estimate]

NOT_MEASURED = "not measured"
"""The accuracy of a judge, where there were no labeled pairs."""


def frontier_charts(runs: Sequence[RunData], labels: Sequence[tuple[str, str]]) -> list[Chart]:
    """A chart for each metric of gain that a run has along with a KL; one line per run, in the order of its steps."""
    found: dict[str, list[tuple[tuple[str, str], list[Point]]]] = {}
    for run, label in zip(runs, labels, strict=True):
        for words, points in _frontiers(run):
            found.setdefault(words, []).append((label, points))
    rows = [row for run in runs for row in dicts(run.extra.get("frontier"))]
    notes = {str(row.get("of", "reward")): note for row in rows if (note := judge_note(row)) is not None}
    charts = {words: _chart(words, lines, len(runs) > 1) for words, lines in found.items()}
    return [_with_note(chart, notes.get(words)) for words, chart in charts.items()]


def win_rate_charts(runs: Sequence[RunData], labels: Sequence[tuple[str, str]]) -> list[Chart]:
    """Win rate by sampling temperature, a chart for each opponent, from `win_rates` of the runs' figures."""
    found: dict[str, list[tuple[tuple[str, str], list[Point]]]] = {}
    judges: dict[str, Phrase] = {}
    parts: dict[str, Phrase] = {}
    for run, label in zip(runs, labels, strict=True):
        rates: dict[str, list[Point]] = {}
        for row in dicts(run.extra.get("win_rates")):
            heat, rate = _number(row.get("temperature")), estimate(row)
            if heat is not None and rate is not None and math.isfinite(rate.value):
                rates.setdefault(str(row.get("against", "")), []).append((heat, rate))
                if (note := judge_note(row)) is not None:
                    judges[str(row.get("against", ""))] = note
                if missing := round(_number(row.get("missing")) or 0):
                    whole, n = f"{rate.n + missing:,}", f"{rate.n:,}"
                    parts[str(row.get("against", ""))] = phrase("{n} of {all} answers have a verdict.", n=n, all=whole)
        for against, points in rates.items():
            found.setdefault(against, []).append((label, sorted(points, key=lambda p: p[0])[:MOST]))
    charts = {against: _rates(against, lines, len(runs) > 1) for against, lines in found.items()}
    return [_with_note(_with_note(c, parts.get(against)), judges.get(against)) for against, c in charts.items()]


def _with_note(chart: Chart, note: Phrase | None) -> Chart:
    return chart if note is None else replace(chart, note=phrase(chart.note) + " " + note)


def judge_note(row: Mapping[str, Any]) -> Phrase | None:
    """The own accuracy of the judge that made a figure, or that it was not measured; None if nothing is known of it."""
    if row.get("judge_accuracy") == NOT_MEASURED:
        return phrase("The judge's own accuracy is not measured.")
    accuracy = estimate(_mapping(row.get("judge_accuracy")))
    if accuracy is None:
        return None
    share, n = f"{percent(accuracy.value)} ({interval(accuracy)})", f"{accuracy.n:,}"
    return phrase("The judge is right on {share} of {n} labeled pairs.", share=share, n=n)


def _frontiers(run: RunData) -> Iterator[tuple[str, list[Point]]]:
    """The points of a run: those of a frontier measurement, else evaluations with the KL of the samples at that
    time."""
    measured: dict[str, list[Point]] = {}
    for row in dicts(run.extra.get("frontier")):
        distance, gain = _number(_value(row.get("kl"))), estimate(_mapping(row.get("reward")))
        if distance is not None and gain is not None:
            measured.setdefault(str(row.get("of", "reward")), []).append((distance, gain))
    if measured:
        yield from ((words, points[:MOST]) for words, points in measured.items())
        return
    drafts = next((told for key in DRAFTS if (told := run.series(key))[0]), ([], []))
    for key, words in GAINS.items():
        points = [
            (away, gain)
            for line in run.evaluations
            if key in line and "step" in line and (away := _distance(drafts, line)) is not None
            if (gain := _gain(line, key)) is not None
        ]
        if len(points) > 1 and any(away for away, _ in points):
            yield words, points[:MOST]
            return


def _distance(drafts: tuple[list[float], list[float]], line: Mapping[str, float]) -> float | None:
    """KL from the reference model in nats per completion: measured with the evaluation, else on the samples of the last
    steps before it. A run starts at its reference model, where it is 0."""
    told = next((line[key] for key in DISTANCES if key in line), None)
    if told is not None:
        return told if math.isfinite(told) else None
    steps, values = drafts
    end = bisect_left(steps, line["step"])
    near = values[max(0, end - RECENT) : end]
    if steps and (near or line["step"] == 0):
        return math.fsum(near) / len(near) if near else 0.0
    return None


def _gain(line: Mapping[str, float], key: str) -> Estimate | None:
    value, n = line[key], line.get(f"{key.partition('/')[0]}/n", 0)
    if not (math.isfinite(value) and math.isfinite(n)):
        return None
    if key.startswith("exact") and n >= 1 and 0 <= value <= 1:
        return wilson(round(value * n), round(n))
    return Estimate(value, value, value, round(n), None, "")


def _chart(words: str, found: Sequence[tuple[tuple[str, str], list[Point]]], many: bool) -> Chart:
    lines = [_line(points, look) for (_, look), points in found]
    share = all(e.low >= 0 and e.high <= 1 for _, points in found for _, e in points)
    percent = share and words != "held-out reward" and words != "reward"
    title = phrase("{gain} against KL", gain=phrase(f"{words[:1].upper()}{words[1:]}"))
    frame = _frame(title, lines, percent)
    note = "Up and to the left is better: more gained, less far from the reference. Points in the order of the steps."
    legend = _legend(found) if many else ()
    data = encoded([Drawn(name, line) for ((name, _), _), line in zip(found, lines, strict=True)], frame)
    return Chart(title, note, svg(lines, frame), legend, ("frontier",), "KL from the reference, nats", data)


def _rates(against: str, found: Sequence[tuple[tuple[str, str], list[Point]]], many: bool) -> Chart:
    lines = [_line(points, look) for (_, look), points in found]
    frame = _frame("Win rate by temperature", lines, percent=True, level=0.5)
    whom = phrase("against {model}", model=against) if against else phrase("against its opponent")
    text = "Share of comparisons won {whom}, by sampling temperature. Whiskers: 95%. Dotted: evenly matched."
    note = phrase(text, whom=whom)
    data = encoded([Drawn(name, line) for ((name, _), _), line in zip(found, lines, strict=True)], frame)
    legend = _legend(found) if many else ()
    return Chart(frame.title, note, svg(lines, frame), legend, ("win_rates",), "temperature", data)


def _legend(found: Sequence[tuple[tuple[str, str], list[Point]]]) -> tuple[tuple[str, str], ...]:
    return tuple({look: (name, look) for (name, look), _ in reversed(found)}.values())[::-1]


def _line(points: Sequence[Point], look: str) -> Line:
    low, high = ([getattr(e, side) for _, e in points] for side in ("low", "high"))
    told = all(math.isfinite(v) for v in (*low, *high))
    return Line(
        [x for x, _ in points], [e.value for _, e in points], look, low if told else (), high if told else (),
        markers=True, whiskers=True,
    )  # fmt: skip


def _frame(title: str, lines: Sequence[Line], percent: bool, level: float | None = None) -> Frame:
    xs = [x for line in lines for x in line.x]
    values = [v for line in lines for v in (*line.y, *line.low, *line.high)] + ([] if level is None else [level])
    pad = 0.06 * (max(values) - min(values)) or 0.05
    begin, end = min(0.0, *xs), max(xs)
    return Frame(title, end if end > begin else begin + 1, min(values) - pad, max(values) + pad, level,
                 percent=percent, begin=begin, whole=False)  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"value": value, "low": value, "high": value, "n": 0}


def _value(value: Any) -> Any:
    return value.get("value") if isinstance(value, Mapping) else value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
