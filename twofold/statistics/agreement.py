"""Agreement of two judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from twofold.statistics.intervals import Estimate, repeated, score_bounds
from twofold.statistics.quantiles import normal_quantile, t_quantile


def cohens_kappa(
    a: Sequence[Hashable], b: Sequence[Hashable], level: float = 0.95, *, clusters: Sequence[Hashable] = ()
) -> Estimate:
    """Chance-corrected agreement of two judges on the same items; 1 is full agreement.

    The interval is for large samples. Where an entry of `clusters` repeats, it is Student's t over the jackknife that
    leaves out one cluster at a time. If the judges never differ, it is Wilson's interval of the agreement with the
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
        return Estimate(1.0, (score_bounds(1.0, n, level)[0] - chance) / (1 - chance), 1.0, n, None, method)
    spread = 0.0
    for (x, y), count in cells.items():
        habit = (columns[x] + rows[y]) / n * (1 - agreed)
        spread += count / n * ((1 - chance - habit) ** 2 if x == y else habit**2)
    spread -= (agreed * chance - 2 * chance + agreed) ** 2
    if repeated(clusters):
        return _by_cluster(a, b, clusters, kappa, level)
    half = normal_quantile(level) * math.sqrt(max(0.0, spread) / n) / (1 - chance) ** 2
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), n, None, method)


def _by_cluster(
    a: Sequence[Hashable], b: Sequence[Hashable], clusters: Sequence[Hashable], kappa: float, level: float
) -> Estimate:
    """κ with the interval of the jackknife over clusters; unbounded but for [-1, 1] where κ is undefined without one.
    Source: Efron and Tibshirani (1993), chapter 11."""
    names = list(dict.fromkeys(clusters))
    rows = [(x, y, cluster) for x, y, cluster in zip(a, b, clusters, strict=True)]
    rest = ([(x, y) for x, y, cluster in rows if cluster != name] for name in names)
    values = [cohens_kappa([x for x, _ in some], [y for _, y in some], level).value for some in rest]
    many, mean = len(names), math.fsum(values) / len(names)
    error = math.sqrt((many - 1) / many * math.fsum((value - mean) ** 2 for value in values))
    half = t_quantile(level, many - 1) * error if many > 1 and not math.isnan(error) else math.inf
    low, high = max(-1.0, kappa - half), min(1.0, kappa + half)
    return Estimate(kappa, low, high, len(a), None, f"Cohen's κ, jackknife over clusters {level:.0%}", many)
