"""Tests of two models on the same items, and the correction for several tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from twofold.statistics.intervals import finite


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two models on the same `n` problems: how many only `a` solved, how many only `b`, and the p-value of chance."""

    only_a: int
    only_b: int
    p_value: float
    n: int
    test: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as in results.json."""
        return asdict(self)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> PairedTest:
    """McNemar's exact two-sided test: did each model solve as many problems that the other did not?

    `a[i]` and `b[i]` are the verdicts on the same problem. p = 1 if the models never differ.
    Source: McNemar (1947), Psychometrika 12; exact binomial form.
    """
    solved = Counter((bool(x), bool(y)) for x, y in zip(a, b, strict=True))
    only_a, only_b = solved[True, False], solved[False, True]
    return PairedTest(only_a, only_b, _two_sided_coin(only_a, only_b), len(a), "McNemar exact")


def sign_test(counts: Sequence[float], totals: Sequence[float]) -> PairedTest:
    """Sign test: are there as many clusters that mostly succeed as clusters that mostly fail (`only_b`, `only_a`)?
    Exact, two-sided. Clusters that are split evenly are dropped. With one observation per cluster, it is the binomial
    test."""
    leads = [2 * c - t for c, t in zip(counts, totals, strict=True)]
    even = [1e-9 * t for t in totals]  # sums of weights may miss a half by their last digits
    better = sum(lead > e for lead, e in zip(leads, even, strict=True))
    worse = sum(lead < -e for lead, e in zip(leads, even, strict=True))
    return PairedTest(worse, better, _two_sided_coin(worse, better), len(counts), "sign test over clusters, exact")


def sign_flips(a: ArrayLike, b: ArrayLike, *, seed: int = 0, flips: int = 20_000) -> PairedTest:
    """Randomization test of the mean of b − a, with random signs of its terms. Two-sided, on the same [items]. Exact if
    at most 14 items differ, otherwise with `flips` random sign vectors. `only_a` and `only_b` count the items on which
    either was better.

    Source: Fisher (1935), The Design of Experiments, section 21.
    """
    difference = finite(b) - finite(a)
    if difference.ndim != 1 or np.shape(a) != np.shape(b):
        raise ValueError(f"a {np.shape(a)} and b {np.shape(b)} must be alike, [items]")
    moved = difference[difference != 0]
    exact = moved.size <= 14
    if exact:
        signs = 1 - 2 * ((np.arange(2**moved.size)[:, None] >> np.arange(moved.size)) & 1)
        sums, drawn = np.abs(signs @ moved), 0
    else:
        rng = np.random.default_rng(seed)
        sums, drawn = np.abs(np.array([rng.choice((-1.0, 1.0), moved.size) @ moved for _ in range(flips)])), 1
    as_far = int((sums >= abs(moved.sum()) - 1e-9).sum())
    test = "sign flips, exact" if exact else f"sign flips, {flips} random"
    p_value = (as_far + drawn) / (sums.size + drawn)  # the observed signs count as one of the random vectors
    return PairedTest(int((moved < 0).sum()), int((moved > 0).sum()), p_value, difference.size, test)


def two_proportions(count_a: int, n_a: int, count_b: int, n_b: int) -> tuple[float, float]:
    """z (b − a) and two-sided p of two shares of independent observations, by Wald's test with unpooled variance.

    It is for published counts, where there are no verdicts to pair. For two models on the same problems, a paired test
    has more power.
    """
    if not (0 <= count_a <= n_a and 0 <= count_b <= n_b and n_a and n_b):
        raise ValueError(f"counts must be in 0 … n with n ≥ 1, got {count_a} of {n_a} and {count_b} of {n_b}")
    a, b = count_a / n_a, count_b / n_b
    scale = math.sqrt(a * (1 - a) / n_a + b * (1 - b) / n_b)
    z = (b - a) / scale if scale else math.copysign(math.inf, b - a) if a != b else 0.0
    return z, math.erfc(abs(z) / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order of the input. If all values ≤ α are rejected, the family-wise error rate
    is at most α, for any dependence of the tests. Source: Holm (1979), Scandinavian Journal of Statistics 6."""
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("p-values must be in 0 … 1")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _two_sided_coin(heads: int, tails: int) -> float:
    """Two-sided p-value of the fair-coin binomial test, in exact integers."""
    n, tail, ways = heads + tails, 0, 1
    for k in range(min(heads, tails) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)
