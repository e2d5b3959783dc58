"""Evaluating against generating along training: a line for each method, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from experiments.harness.pages import STYLE
from experiments.pretrained.protocol import SCREENING_SEED

Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]
CHANCE = 0.5
"""Of a policy that equals its reference, all implicit rewards are 0."""


def lines_of(cells: Cells) -> dict[str, list[tuple[float, float]]]:
    """By method the points of its screening: share of held-out pairs in order, and value of its answers. The first is
    the base's, the last that of the finished run."""
    base = cells.get("base", {}).get(SCREENING_SEED)
    start = [] if base is None else [(CHANCE, fmean(base["values"]))]
    found: dict[str, list[tuple[float, float]]] = {}
    for method, runs in cells.items():
        reply = runs.get(SCREENING_SEED, {})
        if "along" in reply:
            end = {"value": fmean(reply["values"]), "accuracy": reply["accuracy"]}
            looks = [(p["accuracy"]["right"] / p["accuracy"]["n"], p["value"]) for p in (*reply["along"], end)]
            found[method] = [*start, *looks]
    return found


def draw(cells: Cells, path: Path) -> Path:
    """Write the figure. Raises ValueError if no screening was measured along its training."""
    lines = lines_of(cells)
    if not lines:
        raise ValueError("no method was screened: run --split development")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 4.4))
        colors = [plt.get_cmap("tab20")(number) for number in range(20)]
        for number, (method, points) in enumerate(lines.items()):
            color = colors[number % len(colors)]
            heavy = method.startswith("PDPO") or method == "DPO"
            across, up = zip(*((100 * x, 100 * y) for x, y in points), strict=True)
            axes.plot(across, up, color=color, marker=".", linewidth=2.2 if heavy else 1.1, label=method)
            axes.plot(across[-1], up[-1], color=color, marker="o", markersize=5)
        axes.set_xlabel("held-out pairs in order, %")
        axes.set_ylabel("value of its answers, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path
