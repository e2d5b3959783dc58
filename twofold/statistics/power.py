"""Power: the chance that a test shows a difference of a given size, how many prompts it takes, and what n can show.

Shares on the same prompts are tested by McNemar's exact test, whose power is summed exactly up to EXACT prompts. The
other designs use normal approximations. Simulations check all of them.
Source: Connor (1987), Biometrics 43; Abramowitz and Stegun 26.7.10 for Student's test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twofold.statistics.quantiles import normal_quantile, t_quantile

EXACT = 20_000
MOST = 10**9
"""Prompts; a search ends there."""
NORMAL = NormalDist()


class Design(Protocol):
    """What is compared, and by which test."""

    @property
    def largest(self) -> float:
        """The largest difference that there can be."""
        ...

    def power(self, n: int, difference: float, level: float) -> float:
        """The chance of p ≤ level with n prompts (of each model, where they differ)."""
        ...


@dataclass(frozen=True, slots=True)
class PairedShares:
    """Right or wrong on the same prompts; `discordance` is the share of prompts on which only one model is right."""

    discordance: float

    @property
    def largest(self) -> float:
        return self.discordance

    def power(self, n: int, difference: float, level: float) -> float:
        """Of McNemar's exact test."""
        gain, apart = abs(difference), self.discordance
        if gain > apart:
            raise ValueError(f"a difference of {gain:g} needs a discordance of at least as much, not {apart:g}")
        if n > EXACT:
            spread = math.sqrt(max(n * (apart - gain * gain), 1e-300))
            return NORMAL.cdf((gain * n - 1 - normal_quantile(1 - level) * math.sqrt(n * apart)) / spread)
        rejected = _rejected((1 + gain / apart) / 2, level, 1 << n.bit_length())[: n + 1]
        return float(_binomial(n, apart) @ rejected)

    @classmethod
    def of_correlation(cls, base: float, difference: float, correlation: float) -> PairedShares:
        """From the share of one model, the difference, and the correlation of their verdicts on a prompt."""
        other = base + difference
        both = correlation * math.sqrt(base * (1 - base) * other * (1 - other))
        return cls(max(abs(difference), base * (1 - other) + other * (1 - base) - 2 * both))


@dataclass(frozen=True, slots=True)
class UnpairedShares:
    """Right or wrong on different prompts, n of each model; `base` is the share of the first model. The z-test of two
    shares."""

    base: float

    @property
    def largest(self) -> float:
        """Of an increase."""
        return 1 - self.base

    def power(self, n: int, difference: float, level: float) -> float:
        other = self.base + difference
        if not 0 <= other <= 1:
            raise ValueError(f"{self.base:g} and {difference:g} more is no share")
        error = math.sqrt(max(self.base * (1 - self.base) + other * (1 - other), 1e-300) / n)
        return NORMAL.cdf(abs(difference) / error - normal_quantile(1 - level))


@dataclass(frozen=True, slots=True)
class Means:
    """Scores; `deviation` is the standard deviation of a prompt's difference, or, `unpaired`, of a score. Student's
    test, paired or of two groups of n."""

    deviation: float
    unpaired: bool = False

    @property
    def largest(self) -> float:
        return math.inf

    def power(self, n: int, difference: float, level: float) -> float:
        groups = 2 if self.unpaired else 1
        df = groups * (n - 1)
        if df < 1:
            return 0.0
        shift = abs(difference) / self.deviation * math.sqrt(n / groups)
        t = t_quantile(1 - level, df)
        spread = math.sqrt(1 + t * t / (2 * df))
        return sum(NORMAL.cdf((side * shift - t * (1 - 1 / (4 * df))) / spread) for side in (1, -1))

    @classmethod
    def of_correlation(cls, deviation: float, correlation: float) -> Means:
        """Paired scores, each with this deviation."""
        return cls(deviation * math.sqrt(2 * (1 - correlation)))


def prompts_for(design: Design, difference: float, *, power: float = 0.8, level: float = 0.05) -> int | None:
    """The smallest n with this power; None where it is above MOST."""
    high = 2
    while design.power(high, difference, level) < power:
        if high >= MOST:
            return None
        high = min(2 * high, MOST)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if design.power(middle, difference, level) >= power else (middle, high)
    return high


def difference_of(design: Design, n: int, *, power: float = 0.8, level: float = 0.05) -> float | None:
    """The smallest difference that n prompts show with this power; None where the largest one has less."""
    low, high = 0.0, design.largest if design.largest < math.inf else 1.0
    while design.largest == math.inf and design.power(n, high, level) < power and high < 1e12:
        high *= 2
    if design.power(n, high, level) < power:
        return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if design.power(n, middle, level) >= power else (middle, high)
    return high


def _binomial(n: int, p: float) -> NDArray[np.float64]:
    """The probability of 0 … n successes."""
    if p >= 1:
        return np.eye(1, n + 1, n)[0]
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    k = np.arange(n + 1)
    return np.exp(logs[n] - logs - logs[::-1] + k * math.log(p) + (n - k) * math.log1p(-p))


@lru_cache(maxsize=64)
def _rejected(p: float, level: float, most: int) -> NDArray[np.float64]:
    """The chance that the fair-coin test of m = 0 … `most` throws has a p-value ≤ level, if heads have chance p."""
    p = min(p, 1 - 1e-12)
    fair, heads, tails = _Tail(0.5), _Tail(p), _Tail(1 - p)
    found = np.zeros(most + 1)
    for m in range(1, most + 1):
        for tail in (fair, heads, tails):
            tail.throw()
        while 2 * fair.beyond() <= level:
            for tail in (fair, heads, tails):
                tail.allow()
        found[m] = heads.cdf + tails.cdf
    return found


class _Tail:
    """P(X ≤ k) of X heads in m throws, from one m and one k to the next."""

    def __init__(self, p: float) -> None:
        self.p, self.m, self.k = p, 0, -1
        self.cdf, self.next = 0.0, 1.0
        """P(X ≤ k) and P(X = k + 1)."""

    def throw(self) -> None:
        """One more throw."""
        if self.k >= 0:
            at = self.next * (self.k + 1) / (self.m - self.k) * (1 - self.p) / self.p  # P(X = k)
            self.cdf -= self.p * at
        self.m += 1
        self.next *= self.m / (self.m - self.k - 1) * (1 - self.p) if self.m > self.k + 1 else 0.0

    def beyond(self) -> float:
        """P(X ≤ k + 1)."""
        return self.cdf + self.next

    def allow(self) -> None:
        """One more head."""
        self.cdf += self.next
        self.k += 1
        self.next *= (self.m - self.k) / (self.k + 1) * self.p / (1 - self.p)
