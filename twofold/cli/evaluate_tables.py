"""Figures and paired tests in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twofold.cli.terminal import results, table

if TYPE_CHECKING:
    from twofold.evaluation.figures import Entry
    from twofold.statistics import Estimate

_SIDE_BY_SIDE = 4
EvaluationOutput = tuple[dict[str, Any], list[Mapping[str, Any]]]
"""Figures, and the items behind them."""


def show(found: Sequence[Entry]) -> EvaluationOutput:
    """The figures and the items behind them, once shown."""
    from twofold.evaluation.figures import comparisons

    tests = comparisons(found)
    _show(found)
    if tests:
        show_tests(tests, {m for e in found for m, measure in e.measures.items() if measure.is_share})
    figures = {"models": [entry.as_dict() for entry in found], "comparisons": tests}
    return figures, [row for entry in found for row in entry.rows]


def _show(found: Sequence[Entry]) -> None:
    """Metrics side by side, or one below the other where they are many."""
    estimates = {entry.name: {m: x.estimate() for m, x in entry.measures.items()} for entry in found}
    metrics = list(dict.fromkeys(m for told in estimates.values() for m in told))
    if len(metrics) > _SIDE_BY_SIDE or len({e.n for told in estimates.values() for e in told.values()}) > 1:
        rows = table("model", "metric", "#n", "#value", "95% interval")
        for entry in found:
            for metric, measure in entry.measures.items():
                estimate = estimates[entry.name][metric]
                rows.add_row(entry.name, metric, str(estimate.n), *figure(estimate, measure.is_share))
    else:
        counted = list(dict.fromkeys(name for entry in found for name in entry.counts))
        heads = [head for metric in metrics for head in (f"#{metric}", "95% interval")]
        rows = table("model", "#n", *heads, *(f"#{name}" for name in counted))
        for entry in found:
            told = estimates[entry.name]
            cells = [cell for m in metrics for cell in figure(told[m], entry.measures[m].is_share)]
            n = next(iter(told.values())).n
            rows.add_row(entry.name, str(n), *cells, *(str(entry.counts[name]) for name in counted))
    results().print(rows, markup=False)


def figure(estimate: Estimate, is_share: bool) -> tuple[str, str]:
    """The value and its interval."""
    from twofold.reports.tables import interval, number, percent

    if is_share:
        return percent(estimate.value), interval(estimate)
    return number(estimate.value), f"{number(estimate.low)} – {number(estimate.high)}"


def show_tests(tests: Sequence[Mapping[str, Any]], shares: set[str]) -> None:
    """Paired tests, with Holm's correction where there are several."""
    from twofold.evaluation.figures import LOGARITHMS
    from twofold.reports.tables import interval, number, p_value, points
    from twofold.statistics import Estimate

    several = "p_holm" in tests[0]
    sides = ("#only a", "#only b") if all(c["metric"] in shares for c in tests) else ("#a higher", "#b higher")
    rows = table("a", "b", "metric", "#b − a", "95% interval", *sides, "#p", *(["#Holm"] * several))
    for c in tests:
        d = Estimate(**{"count": None, **c["difference"]})
        share = c["metric"] in shares
        told = (points(d.value), interval(d, signed=True)) if share else (number(d.value), _between(d))
        last = [p_value(c["p_holm"])] if several else []
        counts = (str(c["only_a"]), str(c["only_b"]))
        rows.add_row(c["a"], c["b"], c["metric"], *told, *counts, p_value(c["p_value"]), *last)
    out = results()
    out.print(rows, markup=False)
    holm = f"; Holm's correction over {len(tests)} tests" if several else ""
    if any(LOGARITHMS in c["difference"]["method"] for c in tests):
        out.print("b − a of a perplexity is that of its logarithm: nats per token", markup=False, style="dim")
    out.print(f"p: {', '.join(sorted({c['test'] for c in tests}))}{holm}", markup=False, style="dim")


def _between(estimate: Estimate) -> str:
    from twofold.reports.tables import number

    return f"{number(estimate.low)} … {number(estimate.high)}"
