"""What the finished cells come to: means, intervals over questions and seeds, paired tests under Holm, and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.harness.pages import percent, points, typeset
from experiments.pretrained.ledger import Finished
from experiments.pretrained.methods import Point
from experiments.pretrained.protocol import BASELINES, FINALIST_SEEDS
from twofold.statistics import (
    Estimate,
    by_cluster,
    holm,
    mean_interval,
    paired_bootstrap,
    paired_bootstrap_p,
)

Array = NDArray[np.float64]
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Replies by method and seed."""
ORDERED = "pairs in order"
"""The part that is the held-out pairs. Only `paired` cells have it prompt by prompt."""


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline on the same questions and seeds."""

    method: str
    baseline: str
    seeds: int
    gain: Estimate
    over_seeds: Estimate | None
    p_value: float
    p_holm: float


def by_method(
    found: Sequence[Finished],
    task: str,
    split: str = "test",
    points: Mapping[str, Point] | None = None,
    own: Mapping[str, Point] | None = None,
) -> dict[str, dict[int, Mapping[str, Any]]]:
    """The cells of a task, those of a method at one point: the one in `points`; else its `own` (tuned, or the first of
    its grid), if it has run; else the last one that ran."""
    every: dict[str, list[Finished]] = {}
    for cell in found:
        if (cell.request["task"], cell.request["split"]) == (task, split):
            every.setdefault(cell.request["method"], []).append(cell)
    cells: dict[str, dict[int, Mapping[str, Any]]] = {}
    for method, runs in every.items():
        ran = [cell.request["point"] for cell in runs]
        chosen = (own or {}).get(method)
        point = (points or {}).get(method, chosen if chosen in ran else ran[-1])
        if point in ran:
            cells[method] = {c.request["seed"]: c.reply for c in runs if c.request["point"] == point}
    return cells


def parts_of(cells: Cells) -> list[str]:
    """The figures of a task, the primary one first."""
    return list(dict.fromkeys(part for runs in cells.values() for reply in runs.values() for part in reply["parts"]))


def paired(cells: Cells) -> Cells:
    """The methods whose runs all have their held-out pairs prompt by prompt."""
    return {method: runs for method, runs in cells.items() if all("ordered" in reply for reply in runs.values())}


def clustered(reply: Mapping[str, Any], part: str) -> Array:
    """The mean value of each cluster of a part [clusters], in the order of the rows."""
    if part == ORDERED:
        return np.array(reply["ordered"])
    chosen = [i for i, name in enumerate(reply["parts"]) if name == part]
    values, clusters = [reply["values"][i] for i in chosen], [reply["clusters"][i] for i in chosen]
    return by_cluster(values, clusters) / by_cluster([1.0] * len(values), clusters)


def mean(runs: Mapping[int, Mapping[str, Any]], part: str) -> Estimate:
    """The mean over seeds and clusters, with an interval over both."""
    values = np.stack([clustered(reply, part) for _, reply in sorted(runs.items())])
    return paired_bootstrap(np.zeros_like(values), values)


def comparisons(
    cells: Cells, part: str, seeds: Sequence[int] = FINALIST_SEEDS, baselines: Sequence[str] = BASELINES
) -> list[Comparison]:
    """Every method against each baseline on the seeds that both have; p-values are corrected over all (Holm)."""
    made: list[tuple[str, str, int, Array, Array]] = []
    for method, runs in cells.items():
        for baseline in baselines:
            shared = [seed for seed in seeds if seed in runs and seed in cells.get(baseline, {})]
            if method == baseline or not shared or (method, baseline) == tuple(baselines):
                continue
            a, b = (np.stack([clustered(each[s], part) for s in shared]) for each in (cells[baseline], runs))
            made.append((method, baseline, len(shared), a, b))
    p_values = [paired_bootstrap_p(a, b) for *_, a, b in made]
    return [
        Comparison(
            method,
            baseline,
            num,
            paired_bootstrap(a, b),
            mean_interval(list((b - a).mean(1))) if num > 1 else None,
            p,
            q,
        )
        for (method, baseline, num, a, b), p, q in zip(made, p_values, holm(p_values), strict=True)
    ]


def values_table(cells: Cells) -> list[tuple[str, ...]]:
    """Each method's value on every part, with its side effects. Pairs in order are means over prompts with an interval
    if all runs have them by prompt, else shares of all pairs."""
    parts = parts_of(cells)
    trained = [reply for runs in cells.values() for reply in runs.values() if "accuracy" in reply]
    by_prompt = all("ordered" in reply for reply in trained)
    head = ("method", "seeds", *(f"{part} [95%]" for part in parts), "KL, nats", "words", "cut off", ORDERED)
    lines: list[tuple[str, ...]] = [head]
    for method, runs in cells.items():
        every = list(runs.values())
        own = [percent(mean(runs, part)) for part in parts]
        kl = _mean(every, lambda r: fmean(r["kl"]), "{:.2f}")
        style = _mean(every, lambda r: fmean(r["words"]), "{:.1f}"), _mean(every, lambda r: r["truncated"], "{:.0%}")
        ordered = _mean(every, lambda r: r["accuracy"]["right"] / r["accuracy"]["n"], "{:.1%}")
        if by_prompt and "accuracy" in every[0]:
            ordered = percent(mean(runs, ORDERED))
        failed = sum("failed" in r for r in every)
        name = method + (f" ({failed} not finite)" if failed else "")
        lines.append(typeset((name, str(len(every)), *own, kl, *style, ordered)))
    return lines


def comparison_table(found: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Differences in points."""
    lines: list[tuple[str, ...]] = [
        ("method", "against", "seeds", "points [bootstrap]", "[t over seeds]", "p", "p, Holm")
    ]
    for each in found:
        gains = points(each.gain), points(each.over_seeds)
        tests = f"{each.p_value:.3g}", f"{each.p_holm:.3g}"
        lines.append(typeset((each.method, each.baseline, str(each.seeds), *gains, *tests)))
    return lines


def cost_table(cells: Cells) -> list[tuple[str, ...]]:
    """Means over seeds: thousands of tokens by kind, steps, CPU seconds of training and of measuring."""
    names = ("trained", "sampled", "judged")
    lines: list[tuple[str, ...]] = [
        ("method", *(f"{n}, k" for n in names), "steps", "training, CPU s", "measuring, CPU s")
    ]
    for method, runs in cells.items():
        every = list(runs.values())
        tokens = [_mean(every, lambda r, n=name: r["tokens"][n] / 1000, "{:.1f}") for name in names]
        costs = [_mean(every, lambda r, n=name: r[n], "{:.0f}") for name in ("steps", "train_cpu", "measure_cpu")]
        lines.append((method, *tokens, *costs))
    return lines


def generator_table(cells: Cells) -> list[tuple[str, ...]]:
    """What the generator did: means over seeds of the means over the second half of the steps."""
    names = {
        "samples pulled": ("active", "{:.0%}"), "reference answer pulled": ("truth_active", "{:.0%}"),
        "right samples": ("right", "{:.0%}"), "gap": ("gap", "{:.3f}"), "reward of samples": ("draft_reward", "{:.3f}"),
        "reward of the reference answer": ("truth_reward", "{:.3f}"), "KL there, nats": ("draft_kl", "{:.2f}"),
        "reward of chosen": ("chosen_reward", "{:.3f}"), "of rejected": ("rejected_reward", "{:.3f}"),
    }  # fmt: skip
    lines: list[tuple[str, ...]] = [("method", "seeds", *names)]
    for method, runs in cells.items():
        every = [reply for reply in runs.values() if "metrics" in reply]
        if every:
            found = [_mean(every, lambda r, n=name: r["metrics"][n], form) for name, form in names.values()]
            lines.append(typeset((method, str(len(every)), *found)))
    return lines


def policy_table(cells: Cells) -> list[tuple[str, ...]]:
    """What became of the policy: KL to the base on the prompts that are measured and on those it is trained to sample
    for, entropy of its answers, and log π/π_ref of right and of wrong ones. Means over seeds, in nats."""
    names: Mapping[str, tuple[Callable[[Mapping[str, Any]], float], str]] = {
        "KL": (lambda r: fmean(r["kl"]), "{:.2f}"),
        "KL, sampled for": (lambda r: r["metrics"]["draft_kl"], "{:.2f}"),
        "entropy of a token": (lambda r: r["entropy"], "{:.2f}"),
        "log-ratio of right answers": (lambda r: r["logratio"]["right"], "{:.2f}"),
        "of wrong answers": (lambda r: r["logratio"]["wrong"], "{:.2f}"),
        "of chosen": (lambda r: r["metrics"]["chosen_logratio"], "{:.2f}"),
        "of rejected": (lambda r: r["metrics"]["rejected_logratio"], "{:.2f}"),
    }
    lines: list[tuple[str, ...]] = [("method", "seeds", *names)]
    for method, runs in cells.items():
        every = [reply for reply in runs.values() if "metrics" in reply]
        if every:
            found = [_mean(every, figure, form) for figure, form in names.values()]
            lines.append(typeset((method, str(len(every)), *found)))
    return lines


def _mean(replies: Sequence[Mapping[str, Any]], figure: Callable[[Mapping[str, Any]], float], form: str) -> str:
    """The mean of a figure; a dash where a reply lacks it."""
    try:
        return form.format(fmean(figure(reply) for reply in replies))
    except KeyError:
        return "–"
