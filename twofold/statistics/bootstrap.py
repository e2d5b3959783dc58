"""Bootstrap intervals: of ratios over items or clusters, and of differences over seeds and items.

Intervals over one kind of unit are BCa (bias-corrected and accelerated), at a level that is widened for small samples:
resamples of n units have a variance that is too small by (n − 1) / n, and a normal quantile where Student's t is due.
Source: Efron (1987), JASA 82; Hesterberg (2015), The American Statistician 69, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.statistics.intervals import Estimate, by_cluster, finite, repeated
from twofold.statistics.quantiles import normal_quantile, t_quantile

FEW = 8
"""With fewer units than this, a sample has too few different resamples for an interval at its level."""
NORMAL = NormalDist()

Array = NDArray[np.float64]


def bootstrap_ratio(
    part: ArrayLike, whole: ArrayLike, *, clusters: Sequence[Hashable] = (),
    seed: int = 0, resamples: int = 2000, level: float = 0.95,
) -> Estimate:  # fmt: skip
    """BCa bootstrap interval of sum(part) / sum(whole), both [items]. The ratio is 0 if the whole is 0.

    Items with the same entry of `clusters` are resampled together. `method` names what the interval lacks: with one
    item, or equal ones, its ends are the value.
    """
    parts, wholes = finite(part), finite(whole)
    if clusters and len(clusters) != len(parts):
        raise ValueError(f"{len(parts)} items and {len(clusters)} clusters are not of the same length")
    if parts.ndim != 1 or parts.shape != wholes.shape or parts.size == 0:
        raise ValueError(f"part {parts.shape} and whole {wholes.shape} must be alike, [items], and not empty")
    n, over = parts.size, "items"
    if repeated(clusters):
        parts, wholes, over = by_cluster(parts, clusters), by_cluster(wholes, clusters), "clusters"
    units = parts.size
    draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    value = _ratio(parts.sum(), wholes.sum())
    rest = wholes.sum() - wholes
    left_out = np.divide(parts.sum() - parts, rest, out=np.full(units, np.nan), where=rest != 0)
    low, high, how = bca_bounds(float(value), _ratio(draws @ parts, draws @ wholes), left_out, level)
    number = units if units < n else None
    return Estimate(float(value), low, high, n, None, f"bootstrap over {over} {level:.0%}, {how}", number)


def bca_bounds(value: float, draws_R: Array, left_out_N: Array, level: float) -> tuple[float, float, str]:
    """The ends of a BCa interval, and its kind in words.

    `draws_R` are the figure on resamples of N units, `left_out_N` the figure without each unit. Where all draws are
    equal, both ends are the value. Where the figure is undefined without some unit, the interval is the percentile one.
    """
    units = len(left_out_N)
    if units == 1 or draws_R.min() == draws_R.max():
        return value, value, "one only" if units == 1 else "all equal"
    z = _widened(level, units)
    few = "" if units >= FEW else f", {units} are too few for this level"
    bias, acceleration, how = 0.0, _acceleration(left_out_N), "percentile"
    if math.isfinite(acceleration):
        tied = np.abs(draws_R - value) <= 1e-9 * max(1.0, abs(value))  # resamples that are the sample, to rounding
        below = (tied / 2 + ((draws_R < value) & ~tied)).mean()
        least = 1 / (2 * len(draws_R))
        bias, how = NORMAL.inv_cdf(min(max(float(below), least), 1 - least)), "BCa"
    else:
        acceleration = 0.0
    ends: list[float] = []
    for side in (-z, z):
        moved, shrink = bias + side, 1 - acceleration * (bias + side)
        at = NORMAL.cdf(bias + moved / shrink) if shrink > 0 else float(moved > 0)
        ends.append(float(np.quantile(draws_R, at)))
    return min(ends), max(ends), how + few


def _acceleration(left_out_N: Array) -> float:
    """The skewness of the jackknife's influences, divided by 6; NaN where the figure is undefined without a unit."""
    influence_N = left_out_N.mean() - left_out_N
    squares = float((influence_N**2).sum())
    return float((influence_N**3).sum()) / 6 / squares**1.5 if squares else math.nan


def _widened(level: float, units: int) -> float:
    """The normal quantile, times √(n / (n − 1)) and as much as Student's is larger."""
    return max(normal_quantile(level), t_quantile(level, units - 1) * math.sqrt(units / (units - 1)))


def _ratio(part: ArrayLike, whole: ArrayLike) -> Array:
    parts, wholes = np.asarray(part), np.asarray(whole)
    return np.divide(parts, wholes, out=np.zeros(np.shape(parts)), where=wholes != 0)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Interval of mean(b) - mean(a), where both are [items], or [seeds, items] with the same items per seed.

    Over items it is BCa. Where there are several seeds, seeds and items are both resampled, because both are samples,
    and the interval is the percentile one. With fewer than about ten seeds it is too narrow: prefer `mean_interval` of
    the differences per seed. `n` is the number of entries. Source: Efron and Tibshirani (1993), chapter 13.
    """
    difference = _differences(a, b)
    if len(difference) == 1:
        ones = np.ones(difference.size)
        found = bootstrap_ratio(difference[0], ones, seed=seed, resamples=resamples, level=level)
        return replace(found, method=f"paired {found.method}")
    means = _resampled_means(difference, seed, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    method = f"paired bootstrap over seeds and items {level:.0%}, percentile"
    return Estimate(float(difference.mean()), float(low), float(high), difference.size, None, method)


def paired_bootstrap_p(a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = 10_000) -> float:
    """Two-sided p-value for mean(b) - mean(a) = 0, by the resampling of `paired_bootstrap`: twice the smaller share of
    means on one side of 0, at least 2 / (resamples + 1). The limit for few seeds there also applies here."""
    means = _resampled_means(_differences(a, b), seed, resamples)
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (resamples + 1))


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """b - a as [seeds, items]."""
    difference = np.atleast_2d(finite(b) - finite(a)) if np.shape(a) == np.shape(b) else np.empty((0, 0))
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
