"""Judged benchmarks in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twofold.cli.terminal import results, table

Figures = Mapping[str, Any]
_HEADS = {"win_rate": "win rate", "lc_win_rate": "LC win rate"}
_REMARKS = {
    "alpaca-eval": "win rate: mean preference for the model's answer; SE: standard error; LC: length-controlled",
}


def shares(figures: Figures) -> set[str]:
    """The metrics that are shares."""
    return {metric for model in figures["models"] for metric in _HEADS if metric in model}


def show(figures: Figures) -> None:
    """The table of models, and that of subsets."""
    metrics = [metric for metric in _HEADS if metric in figures["models"][0]]
    counts = ("wins", "ties", "losses", "missing", "truncated")
    heads = [head for metric in metrics for head in (f"#{_HEADS[metric]}", "95% interval", "#SE")]
    rows = table("model", "#n", *heads, *(f"#{name}" for name in counts), "#length")
    for model in figures["models"]:
        cells = [cell for metric in metrics for cell in (*_share(model[metric]), _error(model, metric))]
        length = f"{model['length']:.0f} : {model['other_length']:.0f}"
        n = str(model["win_rate"]["n"])
        rows.add_row(model["name"], n, *cells, *(str(model[name]) for name in counts), length)
    results().print(rows)
    _show_subsets(figures)


def remark(figures: Figures) -> None:
    """The meaning of the columns, and the note on contamination."""
    results().print(f"{_REMARKS[figures['benchmark']]}; against {figures['against']}", style="dim")
    results().print(figures["note"], style="dim")


def _show_subsets(figures: Figures) -> None:
    if not any(model["subsets"] for model in figures["models"]):
        return
    rows = table("model", "subset", "#n", "#win rate", "95% interval")
    for model in figures["models"]:
        for subset, metrics in model["subsets"].items():
            for figure in metrics.values():
                rows.add_row(model["name"], subset, str(figure["n"]), *_share(figure))
    results().print(rows)


def _error(model: Figures, metric: str) -> str:
    error = model["standard_error"] if metric == "win_rate" else model["length_control"]["standard_error"]
    return f"{error:.1%}"


def _share(figure: Figures) -> tuple[str, str]:
    """The value and its interval."""
    from twofold.reports.tables import interval, percent
    from twofold.statistics import Estimate

    return percent(figure["value"]), interval(Estimate.from_dict(figure))
