"""What the cells come to: a row per method, compared with DPO on the same problems and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.arena.methods import BASELINE, Method
from experiments.harness.models import best_of, doublings
from experiments.harness.pages import percent, points, typeset
from twofold.evaluation.pass_at_k import estimate_pass_at_k
from twofold.sampling.best_of_n import kl_bound
from twofold.statistics import Estimate, holm, mean_interval, paired_bootstrap, paired_bootstrap_p, wilson

KS = (1, 2, 4, 8, 16, 32)
Result = Mapping[str, Any]


@dataclass
class Row:
    """A method's figures over its seeds; differences are to DPO's with the same seeds on the same problems."""

    name: str
    data_kind: str
    learning_rate: float | None
    shares: list[float]
    """Solved, greedy, seed by seed."""
    gain: Estimate | None
    """Bootstrap over seeds and problems."""
    gain_over_seeds: Estimate | None
    """Student's t over the seeds' differences."""
    p_value: float | None
    p_holm: float | None
    kl: Estimate
    """Over seeds and problems, nats per answer."""
    accuracy: float
    """Of held-out preferences, by the implicit reward."""
    passed: Mapping[int, Estimate]
    passed_gain: Mapping[int, Estimate]
    """To the base."""
    tokens: Mapping[str, float]
    cpu: float
    """Processor seconds of training."""
    failed: int = 0
    note: str = ""


def pass_at(counts: Sequence[int], samples: int, k: int) -> list[float]:
    """Unbiased pass@k of each problem, of which `counts` of `samples` answers are right."""
    return [estimate_pass_at_k(samples, right, k) for right in counts]


def rows(
    played: Mapping[str, Sequence[Result]], base: Result, samples: int, about: Mapping[str, tuple[Method, float]]
) -> list[Row]:
    """The base, then every method; p-values are corrected over all of them together (Holm)."""
    against = [r["right"] for r in played[BASELINE]]
    start = _row("base", [base] * len(against), base, samples, against)
    start.p_value = None  # that methods differ from the base is no question here
    found = [start]
    for name, results in played.items():
        row = _row(name, results, base, samples, against)
        method, rate = about[name]
        row.data_kind, row.learning_rate, row.note = method.data_kind, rate, method.note
        found.append(row)
    compared = [row for row in found if row.p_value is not None]
    for row, p in zip(compared, holm([float(row.p_value or 0.0) for row in compared]), strict=True):
        row.p_holm = p
    return found


def _row(name: str, results: Sequence[Result], base: Result, samples: int, against: Sequence[Sequence[bool]]) -> Row:
    right = [r["right"] for r in results]
    shares = [fmean(r) for r in right]
    same = name == BASELINE
    whole = [r for r in results if "passed" in r]
    passes = {k: [pass_at(r["passed"], samples, k) for r in whole] for k in KS if k <= samples and whole}
    start = {k: pass_at(base["passed"], samples, k) for k in passes}
    return Row(
        name=name,
        data_kind="–",
        learning_rate=None,
        shares=shares,
        gain=None if same else paired_bootstrap(against, right),
        gain_over_seeds=None if same else mean_interval([s - fmean(a) for s, a in zip(shares, against, strict=True)]),
        p_value=None if same else paired_bootstrap_p(against, right),
        p_holm=None,
        kl=over_both([r["kl"] for r in whole]) if whole else mean_interval([]),
        accuracy=fmean(r["looks"][-1]["accuracy"] for r in whole) if whole else float("nan"),
        passed={k: over_both(p) for k, p in passes.items()},
        passed_gain={k: paired_bootstrap([start[k]] * len(p), p) for k, p in passes.items()},
        tokens={n: fmean(r["tokens"][n] for r in results) for n in results[0].get("tokens", {})},
        cpu=fmean(r.get("train_cpu", 0.0) for r in results),
        failed=sum("failed" in r for r in results),
    )


def over_both(values: Sequence[Sequence[float]]) -> Estimate:
    """The mean of [seeds, problems] with a bootstrap interval over both."""
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    return paired_bootstrap(np.zeros_like(array), array)


def best_of_rows(found: Sequence[Result]) -> list[dict[str, Any]]:
    """Best-of-N of the base by a reward model, and by the verifier (pass@N), for N = 1, 2, 4 …; bound of its KL."""
    return [
        {
            "n": n,
            "reward": over_both([best_of(n, r["scores"], r["correct"]) for r in found]),
            "verifier": over_both([best_of(n, r["correct"], r["correct"]) for r in found]),
            "kl": kl_bound(n),
        }
        for n in doublings(len(found[0]["scores"][0]))
    ]


def accuracy_table(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """Accuracy beside DPO's."""
    lines: list[tuple[str, ...]] = [
        ("method", "learns from", "rate", "solved [lowest, highest seed]", "points to DPO [bootstrap]",
         "[t over seeds]", "p, Holm", "KL, nats", "preferences"),
    ]  # fmt: skip
    for row in found:
        rate = "–" if row.learning_rate is None else f"{row.learning_rate:g}"
        told = (row.name, row.data_kind, rate, _shares(row), points(row.gain), points(row.gain_over_seeds))
        kl = f"{row.kl.value:.2f} [{row.kl.low:.2f}, {row.kl.high:.2f}]"
        lines.append((*told, _p(row.p_holm), kl, f"{row.accuracy:.1%}"))
    return [typeset(line) for line in lines]


def pass_table(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """pass@k, and what it gained on the base."""
    ks = [k for k in (1, 4, 8, 32) if k in found[0].passed]
    lines: list[tuple[str, ...]] = [("method", *(f"pass@{k}" for k in ks), *(f"to base, k {k}" for k in ks if k > 1))]
    for row in found:
        if not row.passed:
            continue
        shares = [f"{row.passed[k].value:.1%}" for k in ks]
        gains = [points(row.passed_gain[k]) if row.name != "base" else "–" for k in ks if k > 1]
        lines.append((row.name, *shares, *gains))
    return [typeset(line) for line in lines]


def cost_table(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """Thousands of tokens, and processor seconds."""
    lines: list[tuple[str, ...]] = [("method", "trained, k", "sampled, k", "judged, k", "all, k", "CPU s", "note")]
    for row in found:
        if row.tokens and row.name != "base":
            each = [row.tokens[n] / 1000 for n in ("trained", "sampled", "judged")]
            told = [f"{v:.0f}" for v in (*each, sum(each))]
            lines.append(
                (row.name, *told, f"{row.cpu:.1f}", row.note + (f"; {row.failed} failed" if row.failed else ""))
            )
    return lines


def best_of_table(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [("N", "best by reward model", "best by verifier (pass@N)", "KL at most, nats")]
    for row in found:
        estimates = [percent(e) for e in (row["reward"], row["verifier"])]
        lines.append((str(row["n"]), *estimates, f"{row['kl']:.2f}"))
    return lines


def _shares(row: Row) -> str:
    mean = fmean(row.shares)
    if row.name == "base":
        found = wilson(round(mean * 1000), 1000)
        return f"{found.value:.1%}"
    return f"{mean:.1%} [{min(row.shares):.1%}, {max(row.shares):.1%}]"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"
