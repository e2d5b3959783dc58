"""The HTML report on one or more runs: self-contained, without requests, every text escaped, its one script allowed by
its hash.

The page is complete without that script, which steps through completions by key, filters and unfolds them, shows the
values of figures, draws them along time or tokens, offers them as files, and switches the language.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.errors import DataError
from twofold.records import short_name
from twofold.reports import charts, provenance, tables
from twofold.reports.contests import contests
from twofold.reports.displacement import fall_of
from twofold.reports.experts import use_of
from twofold.reports.figure_data import clock
from twofold.reports.findings import between, findings, lead, review
from twofold.reports.frontier import frontier_charts, win_rate_charts
from twofold.reports.guide import glossary, next_steps
from twofold.reports.heat import explained
from twofold.reports.pages import TEXT, environment, script_of, write_page
from twofold.reports.run import RunData, read_run
from twofold.reports.samples import TELLS, side_by_side
from twofold.reports.significance import Family, all_tests, headline_metric
from twofold.statistics import Estimate

RECIPE, WORRIES, COLUMNS, FALLS = 24_000, 24, 6, 3
MATCHES = 8
"""Matches of a run's win rate in training on a page."""
VERDICTS = {
    "better": "better, beyond chance",
    "worse": "worse, beyond chance",
    "unclear": "within chance",
    "untested": "not tested",
}


@dataclass(frozen=True)
class Introduction:
    """Explanations for first-time readers of a page: `terms` with their meanings, limits of the metrics, and next
    `steps`, each a command and its purpose."""

    about: str
    terms: tuple[tuple[str, str], ...]
    caveat: str
    steps: tuple[tuple[str, str], ...]


def write_report(runs: Sequence[Path], out: Path, title: str = "", *, introduction: Introduction | None = None) -> Path:
    """Read `runs` and write one page of all of them to `out`; at most 2 MB whatever the runs hold."""
    if not runs:
        raise DataError("no runs to report", where="", remedy="name at least one run directory")
    read = [read_run(Path(path)) for path in runs]
    return write_page(out, render(read, title or read[0].name, introduction))


def render(
    runs: Sequence[RunData], title: str, introduction: Introduction | None = None, *, refresh: float | None = None
) -> str:
    """The page as text. On a board it asks for itself every `refresh` seconds."""
    templates = environment()
    templates.filters |= {"place": _place, "short": short_name}
    live = () if refresh is None else ("live.js",)
    script, digest = script_of("tables.js", "report.js", "figures.js", "heat.js", *live)
    return templates.get_template("report.html.jinja").render(
        page=_page(runs, title),
        introduction=introduction,
        refresh=refresh,
        verdicts=VERDICTS,
        outcomes=TELLS,
        seed_columns=tables.SEED_COLUMNS,
        limit=TEXT,
        glossary=glossary(),
        recipe=RECIPE // max(2, len(runs)),
        script=script,
        digest=digest,
    )


def _page(runs: Sequence[RunData], title: str) -> dict[str, Any]:
    """The data of the template, as `page`."""
    names, methods = tables.unique([run.name for run in runs]), provenance.methods(runs)
    labels = list(zip(names, charts.looks(methods), strict=True))
    named = list(zip(names, runs, strict=True))
    entries = tables.entries([run.results for run in runs])
    metric, family, reviewed = headline_metric(entries), Family.of(runs), review(runs, names)
    metrics = dict.fromkeys(m for e in entries for m in e.estimates)
    clocks = [clock(run) for run in runs]
    training_end = [(name, tables.watched(run.results)) for name, run in named][:COLUMNS]
    return {
        "title": title,
        "runs": [_about(run, *label) for run, label in zip(runs, labels, strict=True)],
        "lead": lead(runs) if len(set(methods)) == len(methods) else "",
        "seeds": _seeds(runs, methods, metric),
        "metric": metric,
        "metrics": sorted(metrics, key=lambda m: tables.METRICS.index(m) if m in tables.METRICS else len(metrics)),
        "top": _top([e.estimates[metric] for e in entries if metric in e.estimates], metric) if metric else 0.0,
        "findings": findings(runs),
        "between": between(runs),
        "worries": reviewed.worries[:WORRIES],
        "sound": reviewed.words,
        "entries": entries,
        "tests": [(test, family.tests.get(test)) for test in all_tests(runs)],
        "heldout": [(name, k, e) for name, run in named for k, e in run.results.heldout.items()],
        "rewards": [(name, r) for name, run in named if (r := run.results.reward)],
        "calibration": _calibration(runs, labels),
        "training_end": training_end,
        "watched": list(dict.fromkeys(figure for _, told in training_end for figure in told)),
        "along": charts.draw(charts.ALONG, runs, labels),
        "frontier": frontier_charts(runs, labels),
        "win_rates": win_rate_charts(runs, labels),
        "contests": contests(runs),
        "matches": [(name, run.matches[:MATCHES], len(run.matches)) for name, run in named if run.matches],
        "training": charts.draw(charts.TRAINING, runs, labels),
        "further": charts.draw(charts.FURTHER, runs, labels),
        "speed": charts.draw(charts.SPEED, runs, labels),
        "clocks": json.dumps(clocks, separators=(",", ":")),
        "has_tokens": any("tokens" in each for each in clocks),
        "next": next_steps(runs),
        "experts": [use for name, run in named if (use := use_of(run, name))][:FALLS],
        "falls": [fall for name, run in named if (fall := fall_of(run, name))][:FALLS],
        "explained": [e for name, run in named if (e := explained(run, name))][:FALLS],
        "samples": side_by_side(runs, names, metric or "strict"),
        "differing": provenance.settings_diff(runs),
    }


def _top(told: Sequence[Estimate], metric: str) -> float:
    """Where the ruler of accuracies ends: the least round share above all intervals; 0 without accuracies."""
    if not told or not all(tables.is_share(metric, e) for e in told):
        return 0.0
    return next((top for top in (0.02, 0.1, 0.2, 0.5) if all(e.high <= top for e in told)), 1.0)


def _calibration(runs: Sequence[RunData], labels: Sequence[tuple[str, str]]) -> list[charts.Chart]:
    rewards = [(label, run.results.reward) for run, label in zip(runs, labels, strict=True)]
    drawn = [charts.calibration_chart(*label, reward) for label, reward in rewards if reward and reward.bins]
    return drawn[: charts.PANELS]


def _seeds(runs: Sequence[RunData], methods: Sequence[int], metric: str | None) -> list[tuple[str, ...]]:
    """Rows of the table over seeds; none where every method ran once."""
    if len(set(methods)) == len(methods) or metric is None:
        return []
    grouped = {m: [run.results for run, own in zip(runs, methods, strict=True) if own == m] for m in methods}
    return tables.seed_rows({runs[m].name: results for m, results in grouped.items()}, metric)


def _about(run: RunData, name: str, look: str) -> dict[str, Any]:
    """The text of a run on the page in addition to its metrics."""
    return {
        "name": name,
        "look": look,
        "facts": " · ".join(provenance.facts(run)),
        "data": provenance.data_hashes(run),
        "machine": provenance.machine(run),
        "command": provenance.command(run),
        "repeat": provenance.repeat(run),
        "recipe": run.recipe,
    }


def _place(share: float) -> str:
    """A share as a CSS length within its row."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"
