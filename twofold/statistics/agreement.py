"""Agreement of two judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from twofold.statistics.intervals import Estimate, score_bounds
from twofold.statistics.quantiles import normal_quantile


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
        return Estimate(1.0, (score_bounds(1.0, n, level)[0] - chance) / (1 - chance), 1.0, n, None, method)
    spread = 0.0
    for (x, y), count in cells.items():
        habit = (columns[x] + rows[y]) / n * (1 - agreed)
        spread += count / n * ((1 - chance - habit) ** 2 if x == y else habit**2)
    spread -= (agreed * chance - 2 * chance + agreed) ** 2
    half = normal_quantile(level) * math.sqrt(max(0.0, spread) / n) / (1 - chance) ** 2
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), n, None, method)
