"""Bootstrap intervals: of ratios over items, and of differences over seeds and items."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.statistics.intervals import Estimate, finite


def bootstrap_ratio(
    part: ArrayLike, whole: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Percentile bootstrap interval of sum(part) / sum(whole), both [items]. The ratio is 0 if the whole is 0. Source:
    Efron and Tibshirani (1993), chapter 13.
    """
    parts, wholes = finite(part), finite(whole)
    if parts.ndim != 1 or parts.shape != wholes.shape or parts.size == 0:
        raise ValueError(f"part {parts.shape} and whole {wholes.shape} must be alike, [items], and not empty")
    n = parts.size
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    sums = draws @ wholes
    ratios = np.divide(draws @ parts, sums, out=np.zeros(resamples), where=sums != 0)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    value = parts.sum() / wholes.sum() if wholes.sum() != 0 else 0.0
    return Estimate(float(value), float(low), float(high), n, None, f"bootstrap over items {level:.0%}")


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
