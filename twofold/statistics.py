"""Uncertainty of figures: intervals for proportions, means and differences, and McNemar's test for paired answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval [low, high] from `n` observations; `count` is how many succeeded, for proportions."""

    value: float
    low: float
    high: float
    n: int
    count: int | None
    method: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as in results.json; `count` only if there is one."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Reads the output of `as_dict` and ignores other keys. KeyError, TypeError or ValueError for anything else."""
        count, bounds = data.get("count"), (float(data["value"]), float(data["low"]), float(data["high"]))
        return cls(*bounds, int(data["n"]), None if count is None else int(count), str(data.get("method") or ""))


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


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often one side was preferred: with half of the ties, without the ties, and the share of wins in all
    comparisons with Wilson's interval, which does not depend on the value of a tie."""

    half_ties: float
    no_ties: float
    wins: Estimate


def win_rate(wins: int, ties: int, losses: int, level: float = 0.95) -> WinRate:
    """The win rate of independent comparisons; NaN if there are only ties."""
    n, decided = wins + ties + losses, wins + losses
    return WinRate(
        half_ties=(wins + ties / 2) / n if n else math.nan,
        no_ties=wins / decided if decided else math.nan,
        wins=wilson(wins, n, level),
    )


def wilson(count: int, n: int, level: float = 0.95) -> Estimate:
    """Wilson's score interval of a proportion, without continuity correction; [0, 1] and NaN for n = 0.

    Source: Wilson (1927), JASA 22.
    """
    if not 0 <= count <= n:
        raise ValueError(f"count {count} is not in 0 … {n}")
    method = f"Wilson {level:.0%}"
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, 0, method)
    return Estimate(count / n, *_wilson(count / n, n, level), n, count, method)


def clustered_share(counts: Sequence[int], totals: Sequence[int], level: float = 0.95) -> Estimate:
    """A share of all observations, `counts[i]` of `totals[i]` in cluster i, whose members may be correlated.

    Wilson's interval at the effective number of observations: their number divided by the design effect (at least 1).
    The design effect is the cluster-robust variance of the ratio, divided by the variance of independent observations.
    If all or none succeed, the effective number is that of the clusters.
    Source: Kish (1965), chapter 8; Korn and Graubard (1998), Survey Methodology 24.
    """
    if any(not 0 <= c <= t for c, t in zip(counts, totals, strict=True)):
        raise ValueError("every count must be in 0 … its total")
    n, count = sum(totals), sum(counts)
    method = f"Wilson, clustered, {level:.0%}"
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, 0, method)
    p = count / n
    return Estimate(p, *_wilson(p, _effective(counts, totals, n), level), n, count, method)


def weighted_share(
    sums: Sequence[float], totals: Sequence[float], rows: int, effective: float, level: float = 0.95
) -> Estimate:
    """A share of weights: `sums[i]` of the weight `totals[i]` in cluster i, whose members may be correlated.

    As `clustered_share`, with at most `effective` observations: (Σ weight)² / Σ weight² of the `rows`. The scale of the
    weights does not matter. `count` is the share of `rows`, rounded.
    Source: Kish (1965), chapters 8 and 11.
    """
    whole, method = math.fsum(totals), f"Wilson, weighted, clustered, {level:.0%}"
    if not whole:
        return Estimate(math.nan, 0.0, 1.0, 0, 0, method)
    p = min(1.0, math.fsum(sums) / whole)
    most = _effective(sums, totals, effective)
    return Estimate(p, *_wilson(p, most, level), rows, round(p * rows), method)


def _effective(sums: Sequence[float], totals: Sequence[float], most: float) -> float:
    """As many independent observations have the same variance of a share; `most` of them, where clusters change
    nothing."""
    whole, clusters = math.fsum(totals), sum(t > 0 for t in totals)
    p = math.fsum(sums) / whole
    if not 0 < p < 1 or clusters < 2:
        return min(float(clusters), most)
    spread = math.fsum((c - p * t) ** 2 for c, t in zip(sums, totals, strict=True))
    effect = spread * clusters / (clusters - 1) / (whole * p * (1 - p))
    return min(most, whole / effect) if effect else most


def sign_test(counts: Sequence[float], totals: Sequence[float]) -> PairedTest:
    """Sign test: are there as many clusters that mostly succeed as clusters that mostly fail (`only_b`, `only_a`)?
    Exact, two-sided. Clusters that are split evenly are dropped. With one observation per cluster, it is the binomial
    test."""
    leads = [2 * c - t for c, t in zip(counts, totals, strict=True)]
    even = [1e-9 * t for t in totals]  # sums of weights may miss a half by their last digits
    better = sum(lead > e for lead, e in zip(leads, even, strict=True))
    worse = sum(lead < -e for lead, e in zip(leads, even, strict=True))
    return PairedTest(worse, better, _two_sided_coin(worse, better), len(counts), "sign test over clusters, exact")


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> PairedTest:
    """McNemar's exact two-sided test: did each model solve as many problems that the other did not?

    `a[i]` and `b[i]` are the verdicts on the same problem. p = 1 if the models never differ.
    Source: McNemar (1947), Psychometrika 12; exact binomial form.
    """
    solved = Counter((bool(x), bool(y)) for x, y in zip(a, b, strict=True))
    only_a, only_b = solved[True, False], solved[False, True]
    return PairedTest(only_a, only_b, _two_sided_coin(only_a, only_b), len(a), "McNemar exact")


def sign_flips(a: ArrayLike, b: ArrayLike, *, seed: int = 0, flips: int = 20_000) -> PairedTest:
    """Randomization test of the mean of b − a, with random signs of its terms. Two-sided, on the same [items]. Exact if
    at most 14 items differ, otherwise with `flips` random sign vectors. `only_a` and `only_b` count the items on which
    either was better.

    Source: Fisher (1935), The Design of Experiments, section 21.
    """
    difference = _finite(b) - _finite(a)
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


def cohens_kappa(a: Sequence[Hashable], b: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """Chance-corrected agreement of two judges on the same items; 1 is full agreement.

    The interval is for large samples. If the judges never differ, it is Wilson's interval of the agreement with the
    same chance agreement. NaN in [-1, 1] if both gave the same single label to all items: then chance agreement is 1.
    Source: Cohen (1960); Fleiss, Cohen and Everitt (1969), Psychological Bulletin 72, equation 13.
    """
    cells, n, method = Counter(zip(a, b, strict=True)), len(a), f"Cohen's κ, asymptotic {level:.0%}"
    rows, columns = Counter(a), Counter(b)
    chance = sum(rows[label] * columns[label] for label in rows) / max(1, n) ** 2
    if n == 0 or chance == 1:
        return Estimate(math.nan, -1.0, 1.0, n, None, method)
    agreed = sum(count for (x, y), count in cells.items() if x == y) / n
    kappa = (agreed - chance) / (1 - chance)
    if agreed == 1:
        return Estimate(1.0, (_wilson(1.0, n, level)[0] - chance) / (1 - chance), 1.0, n, None, method)
    spread = 0.0
    for (x, y), count in cells.items():
        habit = (columns[x] + rows[y]) / n * (1 - agreed)
        spread += count / n * ((1 - chance - habit) ** 2 if x == y else habit**2)
    spread -= (agreed * chance - 2 * chance + agreed) ** 2
    half = _normal_quantile(level) * math.sqrt(max(0.0, spread) / n) / (1 - chance) ** 2
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), n, None, method)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Percentile interval of mean(b) - mean(a), where both are [items], or [seeds, items] with the same items per seed.

    Seeds and items are both resampled with replacement, because both are samples. With fewer than about ten seeds the
    interval is too narrow: prefer `mean_interval` of the differences per seed. `n` is the number of entries.
    Source: Efron and Tibshirani (1993), chapter 13.
    """
    difference = _differences(a, b)
    means = _resampled_means(difference, seed, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    over = "seeds and items" if len(difference) > 1 else "items"
    method = f"paired bootstrap over {over} {level:.0%}"
    return Estimate(float(difference.mean()), float(low), float(high), difference.size, None, method)


def paired_bootstrap_p(a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = 10_000) -> float:
    """Two-sided p-value for mean(b) - mean(a) = 0, by the resampling of `paired_bootstrap`: twice the smaller share of
    means on one side of 0, at least 2 / (resamples + 1). The limit for few seeds there also applies here."""
    means = _resampled_means(_differences(a, b), seed, resamples)
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (resamples + 1))


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


def bootstrap_ratio(
    part: ArrayLike, whole: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Percentile bootstrap interval of sum(part) / sum(whole), both [items]. The ratio is 0 if the whole is 0. Source:
    Efron and Tibshirani (1993), chapter 13.
    """
    parts, wholes = _finite(part), _finite(whole)
    if parts.ndim != 1 or parts.shape != wholes.shape or parts.size == 0:
        raise ValueError(f"part {parts.shape} and whole {wholes.shape} must be alike, [items], and not empty")
    n = parts.size
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    sums = draws @ wholes
    ratios = np.divide(draws @ parts, sums, out=np.zeros(resamples), where=sums != 0)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    value = parts.sum() / wholes.sum() if wholes.sum() != 0 else 0.0
    return Estimate(float(value), float(low), float(high), n, None, f"bootstrap over items {level:.0%}")


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Student's t interval of a mean; unbounded for one value, NaN for none.

    Source: Student (1908), Biometrika 6.
    """
    n, method = len(values), f"Student t {level:.0%}"
    if n == 0:
        return Estimate(math.nan, -math.inf, math.inf, 0, None, method)
    mean = fmean(values)
    half = math.inf if n == 1 else _t_quantile(level, n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, None, method)


def clustered_mean(sums: ArrayLike, counts: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of all observations, sum(sums) / sum(counts), both [clusters], whose members may be correlated.

    Student's t interval over clusters, from the residuals sums - mean * counts. With one observation per cluster, it is
    `mean_interval`. Unbounded for one cluster, NaN for none. `n` is the number of observations.
    Source: Kish (1965), chapter 6 (the linearized variance of a ratio).
    """
    sum_C, count_C = _finite(sums), _finite(counts)
    n, clusters, method = int(count_C.sum()), len(count_C), f"Student t over clusters {level:.0%}"
    if n == 0:
        return Estimate(math.nan, -math.inf, math.inf, 0, None, method)
    mean = float(sum_C.sum()) / n
    if clusters == 1:
        return Estimate(mean, -math.inf, math.inf, n, None, method)
    spread = math.fsum((sum_C - mean * count_C) ** 2) * clusters / (clusters - 1)
    half = _t_quantile(level, clusters - 1) * math.sqrt(spread) / n
    return Estimate(mean, mean - half, mean + half, n, None, method)


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """b - a as [seeds, items]."""
    difference = np.atleast_2d(_finite(b) - _finite(a)) if np.shape(a) == np.shape(b) else np.empty((0, 0))
    if difference.ndim != 2 or difference.size == 0:
        raise ValueError(f"a {np.shape(a)} and b {np.shape(b)} must be alike, [items] or [seeds, items], and not empty")
    return difference


def _resampled_means(difference: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Means [resamples] of seeds and items drawn with replacement."""
    rng = np.random.default_rng(seed)
    seeds, items = difference.shape
    means = np.empty(resamples)
    for r in range(resamples):
        per_item = difference[rng.integers(seeds, size=seeds)].mean(0) if seeds > 1 else difference[0]
        means[r] = per_item[rng.integers(items, size=items)].mean()
    return means


def _wilson(p: float, n: float, level: float) -> tuple[float, float]:
    z = _normal_quantile(level)
    shrink = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 0.0 if p == 0 else middle - half, 1.0 if p == 1 else middle + half


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array


def _two_sided_coin(heads: int, tails: int) -> float:
    """Two-sided p-value of the fair-coin binomial test, in exact integers."""
    n, tail, ways = heads + tails, 0, 1
    for k in range(min(heads, tails) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def _normal_quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)


def _t_quantile(level: float, df: int) -> float:
    """The t with P(|T| < t) = level; for df > 1000 by three terms of Abramowitz and Stegun 26.7.5, to within 1e-10."""
    z = _normal_quantile(level)
    if df > 1000:
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        return z + first / df + second / df**2 + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / df**3
    low, high = 0.0, 1.0
    while _t_within(high, df) < level:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_within(middle, df) < level else (low, middle)
    return high


def _t_within(t: float, df: int) -> float:
    """P(|T| < t) for integer degrees of freedom: Abramowitz and Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(t / math.sqrt(df))
    cos, odd = math.cos(theta), df % 2
    term, total = (cos, cos if df > 1 else 0.0) if odd else (1.0, 1.0)
    for k in range(2 + odd, df - 1, 2):
        term *= cos * cos * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
