"""Intervals of shares and means, of independent observations and of clusters."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.statistics.quantiles import normal_quantile, t_quantile


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval [low, high] from `n` observations; `count` is how many succeeded, for proportions.
    `clusters` is the number of independent groups (prompts) that they are from, where that is smaller."""

    value: float
    low: float
    high: float
    n: int
    count: int | None
    method: str
    clusters: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields as in results.json; `count` and `clusters` only if there are any."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """Reads the output of `as_dict`, also from JSON, where null is a number that is not finite. Ignores other keys.
        KeyError, TypeError or ValueError for anything else."""
        open_ends = {"value": math.nan, "low": -math.inf, "high": math.inf}
        value, low, high = (float(end if data[name] is None else data[name]) for name, end in open_ends.items())
        bounds, n = (value, low, high), int(data["n"])
        count, clusters = (None if data.get(key) is None else int(data[key]) for key in ("count", "clusters"))
        return cls(*bounds, n, count, str(data.get("method") or ""), clusters)


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
    return Estimate(count / n, *score_bounds(count / n, n, level), n, count, method)


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
    clusters, effective = sum(t > 0 for t in totals), _effective(counts, totals, n)
    fewer = clusters if clusters < n else None
    return Estimate(p, *score_bounds(p, effective, level), n, count, method, fewer)


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
    return Estimate(p, *score_bounds(p, most, level), rows, round(p * rows), method)


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


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Student's t interval of a mean; unbounded for one value, NaN for none.

    Source: Student (1908), Biometrika 6.
    """
    n, method = len(values), f"Student t {level:.0%}"
    if n == 0:
        return Estimate(math.nan, -math.inf, math.inf, 0, None, method)
    mean = fmean(values)
    half = math.inf if n == 1 else t_quantile(level, n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, None, method)


def clustered_mean(sums: ArrayLike, counts: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of all observations, sum(sums) / sum(counts), both [clusters], whose members may be correlated.

    Student's t interval over clusters, from the residuals sums - mean * counts. With one observation per cluster, it is
    `mean_interval`. Unbounded for one cluster, NaN for none. `n` is the number of observations.
    Source: Kish (1965), chapter 6 (the linearized variance of a ratio).
    """
    sum_C, count_C = finite(sums), finite(counts)
    n, clusters, method = int(count_C.sum()), len(count_C), f"Student t over clusters {level:.0%}"
    if n == 0:
        return Estimate(math.nan, -math.inf, math.inf, 0, None, method)
    mean = float(sum_C.sum()) / n
    if clusters == 1:
        return Estimate(mean, -math.inf, math.inf, n, None, method)
    spread = math.fsum((sum_C - mean * count_C) ** 2) * clusters / (clusters - 1)
    half = t_quantile(level, clusters - 1) * math.sqrt(spread) / n
    return Estimate(mean, mean - half, mean + half, n, None, method, clusters if clusters < n else None)


def share_by_cluster(succeeded: Sequence[bool], clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """A share of observations [N]: Wilson's interval, or `clustered_share` where an entry of `clusters` repeats."""
    _refuse_others(succeeded, clusters)
    if not repeated(clusters):
        return wilson(sum(succeeded), len(succeeded), level)
    count, total = (by_cluster(values, clusters) for values in (succeeded, np.ones(len(succeeded))))
    return clustered_share(count.astype(int).tolist(), total.astype(int).tolist(), level)


def mean_by_cluster(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """A mean of observations [N]: `mean_interval`, or `clustered_mean` where an entry of `clusters` repeats."""
    _refuse_others(values, clusters)
    if not repeated(clusters):
        return mean_interval(values, level)
    return clustered_mean(by_cluster(values, clusters), by_cluster(np.ones(len(values)), clusters), level)


def repeated(clusters: Sequence[Hashable]) -> bool:
    """Whether some of several entries occur more than once. With a single one, a figure is about that cluster only,
    and its members are the units."""
    return 1 < len(set(clusters)) < len(clusters)


def by_cluster(values: ArrayLike, clusters: Sequence[Hashable]) -> NDArray[np.float64]:
    """The sum of each cluster, in order of first appearance."""
    places: dict[Hashable, int] = {}
    at = [places.setdefault(cluster, len(places)) for cluster in clusters]
    sums = np.zeros(len(places))
    np.add.at(sums, at, np.asarray(values))
    return sums


def _refuse_others(values: Sequence[float], clusters: Sequence[Hashable]) -> None:
    if clusters and len(clusters) != len(values):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters are not of the same length")


def score_bounds(p: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's interval of a share p of n observations; n may be a fraction."""
    z = normal_quantile(level)
    shrink = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 0.0 if p == 0 else middle - half, 1.0 if p == 1 else middle + half


def share_difference(found: Estimate, level: float = 0.95) -> Estimate:
    """The interval `found` of a paired difference of shares, or of other figures between 0 and 1; where it has no
    width, because all units differ by the same value v, [v − w (1 + v), v + w (1 − v)] with w = z² / (n + z²).

    This is the score interval of two paired shares if v is 0 (no discordant pairs) or ±1, and in between the interval
    if a share w of other units has moved as far as it can. n counts the units: items, or clusters.
    Source: Tango (1998), Statistics in Medicine 17, equation 9.
    """
    if found.low < found.high or found.n == 0 or abs(found.value) > 1:
        return found
    z, units, v = normal_quantile(level), found.clusters or found.n, found.value
    width = z * z / (units + z * z)
    how = f"score interval of a difference {level:.0%}, no unit differs from the others"
    return replace(found, low=v - width * (1 + v), high=v + width * (1 - v), method=how)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """The values as an array; ValueError unless all are finite."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array
