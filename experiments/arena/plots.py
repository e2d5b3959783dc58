"""The arena's drawings, as SVG that reads on white and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter

from experiments.arena.methods import BASELINE
from experiments.arena.table import Row
from experiments.harness.pages import STYLE

SHOWN: Mapping[str, str] = {
    "preferred-FT": "#8c6d31", "unlikelihood": "#c2410c", "DPO": "#444444", "DPO + NLL": "#9aa0a6", "IPO": "#d6616b",
    "KTO": "#ce6dbd", "SimPO": "#e7ba52", "PPO": "#0b7d5e", "PPO-GT": "#4fd1a5", "GRPO": "#1f77b4", "RLOO": "#6baed6",
    "online DPO": "#17becf", "SPIN": "#e377c2", "PDPO": "#7a4fd0", "PDPO, verifier gate": "#b79cff",
}  # fmt: skip
"""Lines by name; of PDPO's options the other drawing tells."""
Looks = Sequence[Sequence[Mapping[str, float]]]


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every drawing; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [row for row in found["rows"] if row.name in SHOWN or row.name == "base"]
    base = found["base"]["looks"][0]
    with plt.rc_context(STYLE):
        figures = {
            "tokens": _tokens(found["looks"], base),
            "points": _points(found["rows"]),
            "pass": _passes(shown),
            "preferences": _preferences(found["looks"], base),
            "frontier": _frontier(found["rows"], found["best_of"]),
        }
        paths: list[Path] = []
        for name, figure in figures.items():
            paths.append(folder / f"{name}.svg")
            figure.savefig(paths[-1], bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
    return paths


def _tokens(looks: Mapping[str, Looks], base: Mapping[str, float]) -> Any:
    """Solved along training: against all tokens that passed a model, and against trained tokens alone."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.6), sharey=True)
    for axes, (title, counted) in zip(
        panels, {"all tokens": ("trained", "sampled", "judged"), "trained tokens": ("trained",)}.items(), strict=True
    ):
        for name, colour in SHOWN.items():
            if name in looks and _length(looks[name]):
                line = [(x / 1e3, y) for x, y in _line(looks[name], counted)]
                axes.plot(
                    *zip(*line, strict=True),
                    color=colour,
                    label=name,
                    marker=".",
                    linewidth=2.4 if name in (BASELINE, "PDPO") else 1.2,
                )
        axes.axhline(100 * base["strict"], color="#888", linestyle=":", linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"{title}, thousands")
    panels[0].set_ylabel("solved, %")
    panels[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def _points(rows: Sequence[Row]) -> Any:
    """Difference to DPO with its bootstrap interval, best on top."""
    compared = sorted(
        (r for r in rows if r.gain is not None and r.name != "base"), key=lambda r: r.gain.value if r.gain else 0
    )
    figure, axes = plt.subplots(figsize=(6.4, 0.24 * len(compared) + 0.8))
    for place, row in enumerate(compared):
        assert row.gain is not None
        value, low, high = (100 * v for v in (row.gain.value, row.gain.low, row.gain.high))
        colour = "#7a4fd0" if row.name.startswith("PDPO") else "#444"
        axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
        axes.plot([value], [place], color=colour, marker="o", markersize=4)
        for share in row.shares:
            axes.plot(
                [100 * (share - fmean(row.shares)) + value], [place], color=colour, marker="|", markersize=5, alpha=0.4
            )
    axes.axvline(0, color="#888", linewidth=1)
    axes.set_yticks(range(len(compared)), [r.name for r in compared])
    axes.set_xlabel("points to DPO, 95% bootstrap over seeds and problems; bars: seeds")
    return figure


def _passes(rows: Sequence[Row]) -> Any:
    """pass@k, and its difference to the base."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for row in rows:
        colour = SHOWN.get(row.name, "#000")
        ks = list(row.passed)
        style: dict[str, Any] = {"color": colour, "marker": ".", "linewidth": 1.2, "label": row.name}
        panels[0].plot(
            ks, [100 * row.passed[k].value for k in ks], **style, linestyle=":" if row.name == "base" else "-"
        )
        if row.name != "base":
            gains = [row.passed_gain[k] for k in ks]
            panels[1].plot(ks, [100 * g.value for g in gains], **style)
            if row.name == BASELINE:
                low, high = [100 * g.low for g in gains], [100 * g.high for g in gains]
                panels[1].fill_between(ks, low, high, color=colour, alpha=0.12)
    for axes, label in zip(panels, ("pass@k, %", "points to the base"), strict=True):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel("k, answers at temperature 1")
        axes.set_ylabel(label)
    panels[1].axhline(0, color="#888", linewidth=1)
    panels[0].legend(loc="center left", bbox_to_anchor=(2.25, 0.5), fontsize=8)
    return figure


def _preferences(looks: Mapping[str, Looks], base: Mapping[str, float]) -> Any:
    """Telling answers apart against giving them: every look of every run, means over seeds joined."""
    figure, axes = plt.subplots(figsize=(5.6, 3.8))
    for name, colour in SHOWN.items():
        if name in looks and _length(looks[name]):
            line = [(100 * x, y) for x, y in _line(looks[name], ("accuracy",))]
            axes.plot(*zip(*line, strict=True), color=colour, marker=".", linewidth=1.2, label=name)
            axes.plot(*line[-1], color=colour, marker="o", markersize=5)
    axes.axhline(100 * base["strict"], color="#888", linestyle=":", linewidth=1, label="base")
    axes.set_xlabel("held-out preferences in order, %")
    axes.set_ylabel("solved, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def _frontier(rows: Sequence[Row], best_of: Sequence[Mapping[str, Any]]) -> Any:
    """Solved at temperature 1 against the KL it costs, with best-of-N's line."""
    figure, axes = plt.subplots(figsize=(5.6, 3.8))
    for row in rows:
        if 1 in row.passed:
            known = row.name in SHOWN
            colour = SHOWN.get(row.name, "#7a4fd0" if row.name.startswith("PDPO") else "#000")
            place = (max(row.kl.value, 0.0), 100 * row.passed[1].value)
            named = known or row.name == "base"
            dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": colour, "alpha": 1 if named else 0.5}
            axes.plot(*place, **dot, markersize=5 if named else 3, label=row.name if named else None)
    line = [(b["kl"], 100 * b["reward"].value) for b in best_of]
    axes.plot(
        *zip(*line, strict=True),
        color="#888",
        marker=".",
        linestyle="--",
        linewidth=1,
        label="best of N by the reward\nmodel (KL: its bound)",
    )
    axes.set_xlabel("KL to the base, nats per answer")
    axes.set_ylabel("solved at temperature 1, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def _length(looks: Looks) -> int:
    """Looks that every seed has: a run that failed has fewer."""
    return min(map(len, looks))


def _line(looks: Looks, names: Sequence[str]) -> list[tuple[float, float]]:
    """At every look the sum of these figures, and what was solved in percent: means over seeds."""
    at = [[seed[i] for seed in looks] for i in range(_length(looks))]
    return [(fmean(sum(s[n] for n in names) for s in seeds), 100 * fmean(s["strict"] for s in seeds)) for seeds in at]
