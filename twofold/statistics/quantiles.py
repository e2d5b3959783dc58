"""Quantiles of the normal and of Student's distribution."""

from __future__ import annotations

import math
from statistics import NormalDist


def normal_quantile(level: float) -> float:
    """The z with P(|Z| < z) = level."""
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)


def t_quantile(level: float, df: int) -> float:
    """The t with P(|T| < t) = level; for df > 1000 by three terms of Abramowitz and Stegun 26.7.5, to within 1e-10."""
    z = normal_quantile(level)
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
