"""SVG figures: held-out accuracy against quality, one line for each method; value against KL, one dot per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator

from experiments.harness.pages import STYLE, points, typeset
from experiments.pretrained.cells import BASE, LOOKS
from experiments.pretrained.ledger import Finished
from experiments.pretrained.methods import ALL, INTERVENTIONS, METHODS
from experiments.pretrained.protocol import MAX_KL, SCREENING_SEED
from experiments.pretrained.table import clustered, parts_of
from twofold.errors import DataError
from twofold.statistics import mean_interval

Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]
CHANCE = 0.5
"""Of a policy that equals its reference, all implicit rewards are 0."""

MARKERS = "o^s"
"""One for each ten methods."""
LEAST = 4
"""Runs of different KL for a line."""
TICKS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Of KL, nats."""


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


def panel_of(method: str) -> str:
    """The panel of the figure that a method belongs to."""
    if method in INTERVENTIONS:
        return "PDPO, one part changed"
    if method.startswith("PDPO"):
        return "PDPO and its forms"
    return "offline" if METHODS[method].reads == "pairs" else "on policy"


def draw(cells: Cells, path: Path) -> Path:
    """Write the figure, a panel for each kind of method. Raises DataError if no screening was measured along its
    training."""
    lines = lines_of(cells)
    if not lines:
        remedy = "python -m experiments.pretrained run --split development"
        raise DataError("no method was screened", where=str(path), remedy=remedy)
    panels = sorted({panel_of(method) for method in lines}, key=str.lower)
    across = min(2, len(panels))
    with plt.rc_context(STYLE):
        size = (4.2 * across, 3.6 * ceil(len(panels) / across))
        figure, grid = plt.subplots(
            ceil(len(panels) / across), across, figsize=size, sharex=True, sharey=True, squeeze=False
        )
        for axes, panel in zip(grid.flat, panels, strict=False):
            own = [method for method in lines if panel_of(method) == panel]
            for method in (method for method in lines if method not in own):
                axes.plot(*_percent(lines[method]), color="#8884", linewidth=0.8)
            for number, method in enumerate(own):
                color = plt.get_cmap("tab10")(number % 10)
                axes.plot(*_percent(lines[method]), color=color, marker=".", linewidth=1.4, label=method)
                axes.plot(*_percent(lines[method][-1:]), color=color, marker="o", markersize=6)
            axes.set_title(panel)
            axes.legend(loc="upper left", fontsize=7)
        for axes in grid.flat[len(panels) - across : len(panels)]:  # the last one of each column
            axes.set_xlabel("held-out pairs in order, %")
            axes.tick_params(labelbottom=True)
        for axes in grid[:, 0]:
            axes.set_ylabel("value of its answers, %")
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path


def _percent(line: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [100 * x for x, _ in line], [100 * y for _, y in line]


def looks_table(cells: Cells) -> list[tuple[str, ...]]:
    """Accuracy on held-out pairs and value of answers at each look along the training, in percent."""
    parts = [f"{number}/{LOOKS}" for number in range(1, LOOKS + 1)]
    table = [("method", *(f"in order {part}" for part in parts), *(f"value {part}" for part in parts))]
    for method, line in lines_of(cells).items():
        table.append((method, *(f"{100 * each[side]:.1f}" for side in (0, 1) for each in line[-LOOKS:])))
    return table


def gains_table(cells: Cells) -> list[tuple[str, ...]]:
    """Means over methods (without the interventions) of what each gains before its first look and after it, in points,
    with Student's interval over methods. Empty unless the base and two methods were measured."""
    lines = [line for name, line in lines_of(cells).items() if name in METHODS and len(line) == LOOKS + 1]
    if len(lines) < 2:
        return []
    table: list[tuple[str, ...]] = [(f"{len(lines)} methods", "in order", "value")]
    for name, begin, end in ((f"first 1/{LOOKS} of the tokens", 0, 1), ("the rest", 1, LOOKS)):
        gains = ([line[end][side] - line[begin][side] for line in lines] for side in (0, 1))
        table.append(typeset((name, *(points(mean_interval(each)) for each in gains))))
    return table


def dots_of(found: Sequence[Finished], task: str, split: str, part: str) -> dict[str, list[tuple[float, float]]]:
    """By method the mean KL and the mean value of each of its runs, at every point. The base is at KL 0."""
    dots: dict[str, list[tuple[float, float]]] = {}
    for cell in found:
        own = (cell.request["task"], cell.request["split"]) == (task, split)
        if own and cell.request["method"] in (BASE, *ALL):
            kl = fmean(cell.reply.get("kl") or [0.0])
            dots.setdefault(cell.request["method"], []).append((kl, float(clustered(cell.reply, part).mean())))
    return dots


def distances(dots: Mapping[str, Sequence[tuple[float, float]]]) -> list[tuple[str, ...]]:
    """How far each method's runs are above the line of value over log KL that is fitted to all of them: the mean in
    points, with Student's interval over runs. Runs within 10 nats of the base count."""
    within = {m: [(kl, v) for kl, v in some if 0 < kl <= MAX_KL] for m, some in dots.items()}
    every = [dot for some in within.values() for dot in some]
    if len({kl for kl, _ in every}) < LEAST:
        return []
    slope, start = np.polyfit(np.log([kl for kl, _ in every]), [value for _, value in every], 1)
    rest = {m: [value - start - slope * np.log(kl) for kl, value in some] for m, some in within.items()}
    unexplained = np.var([x for some in rest.values() for x in some]) / np.var([value for _, value in every])
    head = f"{100 * start:.1f} + {100 * slope:.1f} · ln KL (R² {1 - unexplained:.2f}, {len(every)} runs)"
    lines = [("method", "runs", f"points above {head}")]
    lines += [typeset((m, str(len(some)), points(mean_interval(some)))) for m, some in rest.items() if len(some) > 1]
    return lines


def draw_frontier(found: Sequence[Finished], task: str, split: str, path: Path) -> Path:
    """Write value against KL, a panel for each part. Raises DataError if no run of the task is finished."""
    replies = [c.reply for c in found if (c.request["task"], c.request["split"]) == (task, split)]
    if not replies:
        remedy = f"python -m experiments.pretrained run --task {task} --split {split}"
        raise DataError(f"no run of {task} is finished on {split} prompts", where=str(path), remedy=remedy)
    parts = parts_of({"": dict(enumerate(replies))})
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(parts), figsize=(1.2 + 4.4 * len(parts), 4.2), sharey=True, squeeze=False)
        for axes, part in zip(panels[0], parts, strict=True):
            for number, (method, dots) in enumerate(dots_of(found, task, split, part).items()):
                across, up = zip(*((kl, 100 * value) for kl, value in dots), strict=True)
                look = {"color": plt.get_cmap("tab10")(number % 10), "marker": MARKERS[number // 10]}
                axes.plot(across, up, linestyle="", markersize=5, alpha=0.8, label=method, **look)
            axes.set_xscale("symlog", linthresh=1.0)
            axes.xaxis.set_major_locator(FixedLocator(TICKS))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_title(part)
            axes.set_xlabel("KL to the base, nats")
        panels[0][0].set_ylabel("value of its answers, %")
        panels[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path
