"""One page for one run or several: self-contained, no request, every text escaped, its one script named by its hash.

The page says all without that script, which steps through answers by key, filters them, and unfolds to print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twofold.errors import DataError
from twofold.records import short_name
from twofold.reports import charts, provenance, tables
from twofold.reports.displacement import Fall, fall_of
from twofold.reports.findings import Finding, Worry, between, findings, lead, worries
from twofold.reports.frontier import frontier_charts, win_rate_charts
from twofold.reports.heat import Explained, explained
from twofold.reports.pages import TEXT, environment, script_of, write_page
from twofold.reports.reward import calibration_chart
from twofold.reports.run import RewardResult, RunData, read_run
from twofold.reports.samples import TELLS, SideBySide, side_by_side
from twofold.reports.settings_diff import settings_diff
from twofold.reports.significance import Family, all_tests, headline_metric
from twofold.statistics import Estimate

RECIPE, WORRIES, COLUMNS, FALLS = 24_000, 24, 6, 3
VERDICTS = {
    "better": "better, beyond chance",
    "worse": "worse, beyond chance",
    "unclear": "within chance",
    "untested": "not tested",
}


@dataclass(frozen=True)
class About:
    """What the page says of a run besides its figures."""

    name: str
    look: str
    facts: str
    data: list[tuple[str, str]]
    machine: list[tuple[str, str]]
    command: str
    repeat: str
    recipe: str


@dataclass(frozen=True)
class Page:
    """All that the template is given."""

    title: str
    runs: list[About]
    lead: str
    seeds: list[tuple[str, ...]]
    metric: str | None
    findings: list[Finding]
    between: list[str]
    worries: list[Worry]
    entries: list[tables.Entry]
    tests: list[tuple[tables.Comparison, float | None]]
    """With Holm's p, of those that the page draws its verdicts from."""
    heldout: list[tuple[str, str, Estimate]]
    rewards: list[tuple[str, RewardResult]]
    calibration: list[charts.Chart]
    training_end: list[tuple[str, dict[str, Estimate]]]
    along: list[charts.Chart]
    frontier: list[charts.Chart]
    win_rates: list[charts.Chart]
    training: list[charts.Chart]
    further: list[charts.Chart]
    falls: list[Fall]
    explained: list[Explained]
    samples: SideBySide | None
    differing: list[tuple[str, tuple[str, ...]]]

    @property
    def metrics(self) -> list[str]:
        """The metrics of the results table, in the order of the page."""
        known = dict.fromkeys(m for e in self.entries for m in e.estimates)
        return [m for m in tables.METRICS if m in known] + [m for m in known if m not in tables.METRICS]

    @property
    def watched(self) -> list[str]:
        """The metrics that any run tells of its last steps."""
        return list(dict.fromkeys(name for _, told in self.training_end for name in told))

    @property
    def top(self) -> float:
        """Where the ruler of accuracies ends: the least round share above all intervals; 0 without accuracies."""
        told = [e.estimates[self.metric] for e in self.entries if self.metric in e.estimates] if self.metric else []
        if not told or not all(tables.is_share(self.metric or "", e) for e in told):
            return 0.0
        return next((top for top in (0.02, 0.1, 0.2, 0.5) if all(e.high <= top for e in told)), 1.0)


def write_report(runs: Sequence[Path], out: Path, title: str = "") -> Path:
    """Read `runs` and write one page of all of them to `out`; at most 2 MB whatever the runs hold."""
    if not runs:
        raise DataError("no runs to report", remedy="name at least one run directory")
    read = [read_run(path) for path in runs]
    return write_page(out, render(read, title or read[0].name))


def render(runs: Sequence[RunData], title: str) -> str:
    """The page as text."""
    templates = environment()
    templates.filters |= {"place": _place, "short": short_name}
    script, digest = script_of("report.js", "heat.js")
    return templates.get_template("report.html.jinja").render(
        page=_page(runs, title),
        verdicts=VERDICTS,
        outcomes=TELLS,
        seed_columns=tables.SEED_COLUMNS,
        limit=TEXT,
        recipe=RECIPE // max(2, len(runs)),
        script=script,
        digest=digest,
    )


def _page(runs: Sequence[RunData], title: str) -> Page:
    names, methods = tables.unique([run.name for run in runs]), provenance.methods(runs)
    labels = list(zip(names, charts.looks(methods), strict=True))
    models = tables.entries([run.results for run in runs])
    metric, family = headline_metric(models), Family.of(runs)
    return Page(
        title=title,
        runs=[_about(run, *label) for run, label in zip(runs, labels, strict=True)],
        lead=lead(runs) if len(set(methods)) == len(methods) else "",
        seeds=_seeds(runs, methods, metric),
        metric=metric,
        findings=findings(runs),
        between=between(runs),
        worries=worries(runs, names)[:WORRIES],
        entries=models,
        tests=[(test, family.tests.get(test)) for test in all_tests(runs)],
        heldout=[(n, k, e) for run, n in zip(runs, names, strict=True) for k, e in run.results.heldout.items()],
        rewards=[(n, r) for n, run in zip(names, runs, strict=True) if (r := run.results.reward)],
        calibration=_calibration(runs, labels),
        training_end=[(n, tables.watched(run.results)) for run, n in zip(runs, names, strict=True)][:COLUMNS],
        along=charts.draw(charts.ALONG, runs, labels),
        frontier=frontier_charts(runs, labels),
        win_rates=win_rate_charts(runs, labels),
        training=charts.draw(charts.TRAINING, runs, labels),
        further=charts.draw(charts.FURTHER, runs, labels),
        falls=[fall for run, name in zip(runs, names, strict=True) if (fall := fall_of(run, name))][:FALLS],
        explained=[e for run, name in zip(runs, names, strict=True) if (e := explained(run, name))][:FALLS],
        samples=side_by_side(runs, names, metric or "strict"),
        differing=settings_diff(runs),
    )


def _calibration(runs: Sequence[RunData], labels: Sequence[tuple[str, str]]) -> list[charts.Chart]:
    told = [(label, run.results.reward) for run, label in zip(runs, labels, strict=True)]
    return [calibration_chart(*label, reward) for label, reward in told if reward and reward.bins][: charts.PANELS]


def _seeds(runs: Sequence[RunData], methods: Sequence[int], metric: str | None) -> list[tuple[str, ...]]:
    """Rows of the table over seeds; none where every method ran once."""
    if len(set(methods)) == len(methods) or metric is None:
        return []
    grouped = {m: [run.results for run, own in zip(runs, methods, strict=True) if own == m] for m in methods}
    return tables.seed_rows({runs[m].name: results for m, results in grouped.items()}, metric)


def _about(run: RunData, name: str, look: str) -> About:
    return About(
        name=name,
        look=look,
        facts=" · ".join(provenance.facts(run)),
        data=provenance.data_hashes(run),
        machine=provenance.machine(run),
        command=provenance.command(run),
        repeat=provenance.repeat(run),
        recipe=run.recipe,
    )


def _place(share: float) -> str:
    """A share as a CSS length within its row."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"
