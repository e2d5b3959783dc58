"""Judged benchmarks in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twofold.cli.terminal import results, table

Figures = Mapping[str, Any]
SHARES = {
    "win_rate": "win rate", "lc_win_rate": "LC win rate", "score": "score", "style_score": "SC score",
    "equal_style_score": "equal style",
}  # fmt: skip
SCORES = {"turn_1": "turn 1", "turn_2": "turn 2", "average": "average"}
_COUNTS = ("wins", "ties", "losses", "strong", "missing", "truncated")
_REMARKS = {
    "alpaca-eval": "win rate: mean preference for the model's answer; SE: standard error; LC: length-controlled",
    "arena-hard": "score: mean of all battles, of which a strong verdict counts as three; counts are of battles",
    "mt-bench --against": "win rate: over both turns, ties count half; different verdicts in the two orders are a tie",
    "mt-bench": "scores from 1 to 10 by the judge; average: of all answers",
}


def shares(figures: Figures) -> set[str]:
    """The metrics that are shares."""
    return {metric for model in figures["models"] for metric in SHARES if metric in model}


def show(figures: Figures) -> None:
    """The table of models, and that of subsets."""
    first = figures["models"][0]
    metrics = [metric for metric in (*SHARES, *SCORES) if any(metric in model for model in figures["models"])]
    counts, with_length = [name for name in _COUNTS if name in first], "length" in first
    heads = [head for metric in metrics for head in _heads(first, metric)]
    rows = table("model", "#n", *heads, *(f"#{name}" for name in counts), *(["#length"] * with_length))
    for model in figures["models"]:
        cells = [cell for metric in metrics for cell in _cells(model, metric)]
        length = [f"{model['length']:.0f} : {model['other_length']:.0f}"] if with_length else []
        n = _n(model[next(metric for metric in ("average", *metrics) if metric in model)])
        rows.add_row(model["name"], n, *cells, *(str(model[name]) for name in counts), *length)
    results().print(rows)
    _show_subsets(figures)


def remark(figures: Figures) -> None:
    """The meaning of the columns, and the note on contamination."""
    against = f"; against {figures['against']}" if "against" in figures else ""
    task = "mt-bench --against" if against and figures["benchmark"] == "mt-bench" else figures["benchmark"]
    results().print(f"{_REMARKS[task]}{against}", style="dim")
    if "style_control" in figures:
        weights = ", ".join(f"{name} {style['weight']:+.2f}" for name, style in figures["style_control"].items())
        told = "SC: style-controlled, at the mean style of all battles; equal style: at that of the baseline"
        results().print(f"{told}; weights of a standard deviation: {weights}", style="dim")
    results().print(figures["note"], style="dim")


def _show_subsets(figures: Figures) -> None:
    if not any(model["subsets"] for model in figures["models"]):
        return
    rows = table("model", "subset", "metric", "#n", "#value", "95% interval")
    for model in figures["models"]:
        for subset, metrics in model["subsets"].items():
            for metric, figure in metrics.items():
                name = (SHARES | SCORES)[metric]
                rows.add_row(model["name"], subset, name, _n(figure), *_value(figure, metric))
    results().print(rows)


def _heads(model: Figures, metric: str) -> tuple[str, ...]:
    head = (f"#{(SHARES | SCORES)[metric]}", "95% interval")
    return (*head, "#SE") if _has_error(model, metric) else head


def _has_error(model: Figures, metric: str) -> bool:
    """Whether the metric has the package's standard error."""
    return metric.endswith("win_rate") and "standard_error" in model


def _cells(model: Figures, metric: str) -> tuple[str, ...]:
    if metric not in model:
        return ("",) * len(_heads(model, metric))
    cells = _value(model[metric], metric)
    if not _has_error(model, metric):
        return cells
    error = model["standard_error"] if metric == "win_rate" else model["length_control"]["standard_error"]
    return (*cells, f"{error:.1%}")


def _n(figure: Figures) -> str:
    """The number of items; and of prompts, where those repeat."""
    return f"{figure['n']} of {figure['clusters']} prompts" if "clusters" in figure else str(figure["n"])


def _value(figure: Figures, metric: str) -> tuple[str, str]:
    """The value and its interval."""
    from twofold.reports.tables import interval, percent
    from twofold.statistics import Estimate

    if metric in SCORES:
        return f"{figure['value']:.2f}", f"{figure['low']:.2f} … {figure['high']:.2f}"
    return percent(figure["value"]), interval(Estimate.from_dict(figure))
