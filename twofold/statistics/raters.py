"""Agreement of several raters on the same items, corrected for chance, with bootstrap intervals over items or clusters.

Each coefficient is (o − e) / (1 − e), with o the observed agreement and e that of raters who choose by chance. Both are
functions of sums over items, so a resample is a weighted sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twofold.statistics.bootstrap import bca_bounds
from twofold.statistics.intervals import Estimate, by_cluster, repeated, score_bounds

Array: TypeAlias = NDArray[np.float64]
Ratings: TypeAlias = Sequence[Sequence[Hashable | None]]
"""[items][raters]; None where a rater has not rated the item."""
Agreement: TypeAlias = Callable[[Array], tuple[Array, Array]]
"""Sums [resamples, parts] → observed and chance agreement [resamples]."""
RESAMPLES = 2000


def fleiss_kappa(ratings: Ratings, *, clusters: Sequence[Hashable] = (), level: float = 0.95) -> Estimate:
    """Fleiss' κ of the items that all raters have rated. Source: Fleiss (1971), Psychological Bulletin 76."""
    whole = [place for place, row in enumerate(ratings) if len(row) > 1 and None not in row]
    count_UK = _counts([ratings[place] for place in whole])
    raters = len(ratings[whole[0]]) if whole else 2
    same_U = ((count_UK**2).sum(1) - raters) / (raters * (raters - 1))
    parts_UP = np.column_stack([np.ones(len(whole)), same_U, count_UK])

    def agreement(sum_RP: Array) -> tuple[Array, Array]:
        share_RK = sum_RP[:, 2:] / (raters * sum_RP[:, :1])
        return sum_RP[:, 1] / sum_RP[:, 0], (share_RK**2).sum(1)

    return _estimate("Fleiss' κ", parts_UP, agreement, [clusters[place] for place in whole] if clusters else (), level)


def krippendorffs_alpha(
    ratings: Ratings, *, distance: Literal["nominal", "interval"] = "nominal", clusters: Sequence[Hashable] = (),
    level: float = 0.95,
) -> Estimate:  # fmt: skip
    """Krippendorff's α; missing ratings are allowed, and items with fewer than two are left out.

    `interval` ratings are numbers in [0, 1], whose disagreement is their squared difference.
    Source: Krippendorff (2011), "Computing Krippendorff's alpha-reliability".
    """
    several = [place for place, row in enumerate(ratings) if sum(r is not None for r in row) > 1]
    rows = [[r for r in ratings[place] if r is not None] for place in several]
    labels = list(dict.fromkeys(r for row in rows for r in row))
    count_UK, far_KK = _counts(rows), 1 - np.eye(len(labels))
    if distance == "interval":
        value_K = np.array(labels, dtype=np.float64)
        far_KK = (value_K[:, None] - value_K) ** 2
    apart_U = np.einsum("uc,ck,uk->u", count_UK, far_KK, count_UK) / np.maximum(1, count_UK.sum(1) - 1)

    def agreement(sum_RP: Array) -> tuple[Array, Array]:
        number_RK = sum_RP[:, 1:]
        n_R = number_RK.sum(1)
        by_chance_R = np.einsum("rc,ck,rk->r", number_RK, far_KK, number_RK) / (n_R * (n_R - 1))
        return 1 - sum_RP[:, 0] / n_R, 1 - by_chance_R

    name = "Krippendorff's α" if distance == "nominal" else "Krippendorff's α, interval"
    parts_UP = np.column_stack([apart_U, count_UK])
    return _estimate(name, parts_UP, agreement, [clusters[place] for place in several] if clusters else (), level)


def mirrored_kappa(
    judge: Sequence[float], people: Sequence[float], *, clusters: Sequence[Hashable] = (), level: float = 0.95
) -> Estimate:
    """Cohen's κ of two judges' shares (1, ½, 0) of the same pairs, with each pair also in the opposite direction.

    So κ does not depend on which side is named first, and labels that always name the first side have a κ too.
    """
    cells_U33 = np.zeros((len(judge), 3, 3))
    for unit, (a, b) in enumerate(zip(judge, people, strict=True)):
        for x, y in ((a, b), (1 - a, 1 - b)):
            cells_U33[unit, round(2 * x), round(2 * y)] += 1

    def agreement(sum_RP: Array) -> tuple[Array, Array]:
        cells_R33 = sum_RP.reshape(-1, 3, 3)
        n_R = cells_R33.sum((1, 2))
        chance_R = (cells_R33.sum(1) * cells_R33.sum(2)).sum(1) / n_R**2
        return np.einsum("rkk->r", cells_R33) / n_R, chance_R

    return _estimate("Cohen's κ, both directions", cells_U33.reshape(-1, 9), agreement, clusters, level)


def _counts(rows: Ratings) -> Array:
    """How often each label was chosen for each item, [items, labels]."""
    labels = {label: place for place, label in enumerate(dict.fromkeys(r for row in rows for r in row))}
    count_UK = np.zeros((len(rows), len(labels)))
    for unit, row in enumerate(rows):
        for rating in row:
            count_UK[unit, labels[rating]] += 1
    return count_UK


def _estimate(name: str, parts_UP: Array, agreement: Agreement, clusters: Sequence[Hashable], level: float) -> Estimate:
    """The coefficient with its BCa interval. Full agreement has Wilson's interval of the observed agreement, with the
    same chance agreement; NaN in [-1, 1] if there is nothing to compare, or only one label."""
    n, over = len(parts_UP), "items"
    if repeated(clusters):
        parts_UP, over = np.column_stack([by_cluster(part, clusters) for part in parts_UP.T]), "clusters"
    units = len(parts_UP)
    method, number = f"{name}, bootstrap over {over} {level:.0%}", units if units < n else None
    if not units:
        return Estimate(math.nan, -1.0, 1.0, 0, None, method)
    total_1P = parts_UP.sum(0, keepdims=True)
    with np.errstate(invalid="ignore"):
        observed, chance = (float(each[0]) for each in agreement(total_1P))
        value = float(_corrected(*agreement(total_1P))[0])
        if math.isnan(value):
            return Estimate(math.nan, -1.0, 1.0, n, None, method, number)
        if observed == 1:
            low = (score_bounds(1.0, units, level)[0] - chance) / (1 - chance)
            return Estimate(1.0, max(-1.0, low), 1.0, n, None, f"{name}, Wilson {level:.0%}", number)
        draws = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
        drawn_R = _corrected(*agreement(draws @ parts_UP))
        left_out_U = _corrected(*agreement(total_1P - parts_UP))
    defined_R = drawn_R[np.isfinite(drawn_R)]
    low, high, how = bca_bounds(value, defined_R if defined_R.size else np.array([value]), left_out_U, level)
    return Estimate(value, max(-1.0, low), min(1.0, high), n, None, f"{method}, {how}", number)


def _corrected(observed: Array, chance: Array) -> Array:
    """NaN where agreement by chance is full."""
    rest = 1 - chance
    return np.where(rest > 1e-12, (observed - chance) / np.where(rest > 1e-12, rest, 1.0), np.nan)
