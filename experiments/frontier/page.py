"""The frontier's tables and drawing, and what stands between the marks of docs/frontier.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.frontier.cells import points
from experiments.frontier.methods import BASELINE
from experiments.frontier.points import Point, area, envelope
from experiments.harness.files import read_json
from experiments.harness.models import best_of, doublings
from experiments.harness.pages import STYLE, markdown, percent, rates_table
from twofold.sampling.best_of_n import kl_bound
from twofold.statistics import Estimate, mean_interval

MATCHED = (1.0, 3.0, 6.0, 9.0, 12.0)
"""Nats at which families are compared."""
COLOURS: Mapping[str, str] = {
    "DPO": "#444444", "PDPO": "#7a4fd0", "online DPO": "#1d6fd0", "PPO": "#0b7d5e", "PPO-GT": "#4fd1a5",
    "unlikelihood": "#c2410c", "preferred-FT": "#8c6d31",
}  # fmt: skip


def by_family(found: Mapping[str, Any]) -> dict[str, list[list[Point]]]:
    """For each family and seed the points of all its runs, and the language model itself at 0 nats."""
    (start,) = points({"looks": [found["start"]]})
    made: dict[str, list[list[Point]]] = {}
    for method, results in zip(found["methods"], found["results"], strict=True):
        seeds = made.setdefault(method.family, [[replace(start, kl=0.0)] for _ in results])
        for seed, result in zip(seeds, results, strict=True):
            seed += points(result)
    return made


def area_table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """By family: points, the best reward for at most so many nats, the area, and its difference to DPO's."""
    families, most = by_family(found), found["most"]
    areas = {family: [area(seed, most) for seed in seeds] for family, seeds in families.items()}
    columns = (*(f"≤ {k:g} nats" for k in MATCHED), f"area, 0 … {most:g} nats", "to DPO [t over seeds]")
    lines: list[tuple[str, ...]] = [("family", "rate", "points", *columns)]
    for family, seeds in families.items():
        reached = [fmean(values) for values in zip(*(envelope(s, MATCHED) for s in seeds), strict=True)]
        told = "–"
        if family != BASELINE and BASELINE in areas:
            gains = [a - b for a, b in zip(areas[family], areas[BASELINE], strict=True)]
            told = _between(mean_interval(gains), "+")
        first = (family, f"{found['rates'][family]:g}", str(sum(len(s) - 1 for s in seeds)))
        lines.append((*first, *(f"{r:.3f}" for r in reached), _between(mean_interval(areas[family])), told))
    return lines


def point_table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every setting's last checkpoint: means over seeds and beginnings."""
    head = ("setting", "true reward", "KL, nats", "by sampled tokens", "KL a token", "tokens", "failed", "CPU s")
    lines: list[tuple[str, ...]] = [head, _ends("the language model", [{"looks": [found["start"]], "cpu": 0.0}])]
    lines += [_ends(m.name, rs) for m, rs in zip(found["methods"], found["results"], strict=True)]
    return lines


def _ends(name: str, results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    ends = [r["looks"][-1] for r in results if r["looks"]]
    if not ends:
        return (name, *("–" for _ in range(5)), str(len(results)), "–")
    rewards = [fmean(e["reward"]) for e in ends]
    spread = f" [{min(rewards):.3f}, {max(rewards):.3f}]" if len(rewards) > 1 else ""
    kl, drawn, tokens = (fmean(fmean(e[k]) for e in ends) for k in ("kl", "kl_drawn", "tokens"))
    failed, cpu = sum("failed" in r for r in results), fmean(r["cpu"] for r in results)
    return (name, f"{fmean(rewards):.3f}{spread}", f"{kl:.2f}", f"{drawn:.2f}", f"{kl / tokens:.3f}", f"{tokens:.1f}",
            str(failed or "–"), f"{cpu:.0f}")  # fmt: skip


def best_lines(found: Mapping[str, Any]) -> list[tuple[int, Estimate, Estimate, float]]:
    """N, the true reward of the best by the reward model and by the truth (over seeds), and how far it is at most."""
    many: Sequence[Mapping[str, Any]] = found["best_of"]

    def by(key: str, n: int) -> Estimate:
        return mean_interval([fmean(best_of(n, each[key], each["rewards"])) for each in many])

    return [(n, by("scores", n), by("rewards", n), kl_bound(n)) for n in doublings(len(many[0]["scores"][0]))]


def best_of_table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    head = ("N", "best by reward model", "best by the true reward", "KL at most, nats")
    return [head, *((str(n), _between(a), _between(b), f"{kl:.2f}") for n, a, b, kl in best_lines(found))]


def draw(found: Mapping[str, Any], path: Path) -> Path:
    """All points of all seeds, each family's envelope, best of N. Envelopes are means of the seeds, dotted where one of
    them went no further; bands go from the lowest to the highest."""
    most, grid = found["most"], [found["most"] * (i + 0.5) / 120 for i in range(120)]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.6, 4.4))
        for family, seeds in by_family(found).items():
            colour = COLOURS[family]
            cloud = [(p.kl, p.reward) for seed in seeds for p in seed[1:] if p.kl <= most * 1.25]
            axes.plot(*zip(*cloud, strict=True), color=colour, marker="o", markersize=3, alpha=0.35, linestyle="none")
            lines = np.asarray([envelope(seed, grid) for seed in seeds])
            reached = sum(kl <= min(max(p.kl for p in seed) for seed in seeds) for kl in grid) + 1
            axes.plot(grid[:reached], lines.mean(0)[:reached], color=colour, linewidth=1.8, label=family)
            axes.plot(grid[reached:], lines.mean(0)[reached:], color=colour, linewidth=0.9, linestyle=":")
            axes.fill_between(grid, lines.min(0), lines.max(0), color=colour, alpha=0.12, linewidth=0)
        line = [(kl, by_model.value) for _, by_model, _, kl in best_lines(found)]
        axes.plot(*zip(*line, strict=True), color="#888", marker=".", linestyle="--", linewidth=1,
                  label="best of N by the reward model (KL: bound)")  # fmt: skip
        axes.set_xlabel("KL to the language model, nats per completion")
        axes.set_ylabel("true reward: P(positive)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path


def text(found: Mapping[str, Any], drawing: str) -> str:
    """What stands between the marks."""
    protocol, made = found["protocol"], read_json(Path(found["made"]))
    tried = "; ".join(f"{rate}: {share:.1%}" for rate, share in found["tried_rewards"].items())
    truth, short = (Estimate(**made["classifier"][k]) for k in ("reviews", "pieces"))
    machine, torch = found["machine"]["processor"], found["versions"]["torch"]
    head = (
        f"`{found['command']}`, {found['date']}; {machine}, torch {torch}, one thread a cell; {len(found['best_of'])} "
        f"seeds. The classifier is right on {percent(truth)} of {truth.n} reviews "
        f"that it has not seen, and on {short.value:.1%} of their pieces (n {short.n}, by their review's label). "
        f"Reward models (rate {found['reward_rate']:g}, of {tried} in a trial) put "
        f"{', '.join(f'{share:.1%}' for share in found['ordered'])} of unseen pairs in order."
    )
    areas = {family: {r: f"{value:.3f}" for r, value in each.items()} for family, each in found["tried"].items()}
    tables = {
        "Reward at matched KL, and the area under the envelope": markdown(area_table(found)),
        "Where each setting ends**, means over seeds [lowest, highest]**": markdown(point_table(found)),
        "Best of N** of the language model**": markdown(best_of_table(found)),
        "How rates were chosen** (area on other beginnings, one run each)**": rates_table(
            "family", areas, found["rates"]
        ),
    }
    parts = [head, f"![True reward against KL]({drawing})"]
    for title, table in tables.items():
        parts += [f"**{title}**:".replace("****:", ":"), table]
    settings = {k: v for k, v in asdict(protocol).items() if k != "ground"}
    parts.append(f"Protocol: `{settings}`, ground `{asdict(protocol.ground)}`.")
    return "\n\n".join(part.strip("\n") for part in parts)


def _between(found: Estimate, sign: str = "") -> str:
    told = f"{found.value:{sign}.3f}" + (f" [{found.low:{sign}.3f}, {found.high:{sign}.3f}]" if found.n > 1 else "")
    return told.replace("-", "−")
