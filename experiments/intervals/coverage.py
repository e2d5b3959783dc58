"""Simulated samples, and the share of them whose interval contains the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.pass_at_k import estimate_pass_at_k
from twofold.statistics import (
    bootstrap_ratio,
    by_cluster,
    mcnemar,
    mean_by_cluster,
    mean_interval,
    share_by_cluster,
    sign_flips,
    wilson,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Array, Array]]
"""Part and whole of n items."""

SIZES = (20, 50, 200)
RESAMPLES = 1000
FLIPS = 400
PASS_AT_4 = np.array([estimate_pass_at_k(8, right, 4) for right in range(9)])
A, B = 0.3, 1.2
"""Of the beta distribution of problems: most are hard, some are easy."""


@dataclass(frozen=True)
class Covered:
    """The share of samples in which the interval has the truth; of tests, in which a true hypothesis is rejected."""

    name: str
    n: str
    before: float
    now: float


def _lengths(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return rng.exponential(1.0, n), np.ones(n)


def _rewards(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return rng.lognormal(0.0, 1.0, n), np.ones(n)


def _nats(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    tokens = np.ceil(rng.lognormal(3.0, 0.8, n))
    return tokens * rng.gamma(2.0, 0.5, n), tokens


def _passed(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return PASS_AT_4[rng.binomial(8, rng.beta(A, B, n))], np.ones(n)


def _pass_rate() -> float:
    """1 − E[(1 − p)⁴]."""
    return 1 - float(np.prod([(B + i) / (A + B + i) for i in range(4)]))


FIGURES: dict[str, tuple[Draw, float]] = {
    "mean of exponential lengths": (_lengths, 1.0),
    "mean of log-normal rewards (σ 1)": (_rewards, float(np.exp(0.5))),
    "nats per token, log-normal lengths": (_nats, 1.0),
    "pass@4 of 8 samples, beta(0.3, 1.2)": (_passed, _pass_rate()),
}


def coverage(samples: int, sizes: Sequence[int]) -> Iterator[Covered]:
    """Of every figure at every size: percentile intervals, and those of `bootstrap_ratio`, on the same resamples."""
    for name, (draw, truth) in FIGURES.items():
        for n in sizes:
            rng, before, now = np.random.default_rng(0), 0, 0
            for seed in range(samples):
                part, whole = draw(rng, n)
                low, high = percentile(part, whole, seed)
                found = bootstrap_ratio(part, whole, seed=seed, resamples=RESAMPLES)
                before += low <= truth <= high
                now += found.low <= truth <= found.high
            yield Covered(name, str(n), before / samples, now / samples)


def percentile(part: Array, whole: Array, seed: int) -> tuple[float, float]:
    """The 95% percentile interval of sum(part) / sum(whole)."""
    n = len(part)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    low, high = np.quantile((draws @ part) / (draws @ whole), [0.025, 0.975])
    return float(low), float(high)


def clustered(samples: int, prompts: int = 60, answers: int = 5) -> Iterator[Covered]:
    """Several answers of each prompt: intervals of a share and of a mean, and the size of paired tests at 5%."""
    rng, hit = np.random.default_rng(0), np.zeros((3, 2))
    names = [prompt for prompt in range(prompts) for _ in range(answers)]
    for _ in range(samples):
        right, a, b = (_answers(rng, prompts, answers) for _ in range(3))
        rewards = np.repeat(rng.exponential(1.0, prompts), answers) * rng.exponential(1.0, len(names))
        plain = wilson(int(right.sum()), len(names)), mean_interval(rewards.tolist())
        mine = share_by_cluster(right.tolist(), names), mean_by_cluster(rewards.tolist(), names)
        for line, (truth, before, now) in enumerate(zip((0.5, 1.0), plain, mine, strict=True)):
            hit[line] += (before.low <= truth <= before.high, now.low <= truth <= now.high)
        flipped = sign_flips(by_cluster(a, names), by_cluster(b, names), flips=FLIPS)
        hit[2] += (mcnemar(a.tolist(), b.tolist()).p_value < 0.05, flipped.p_value < 0.05)
    lines = ("a share covered", "a mean of skewed rewards covered", "equal models told apart, paired test at 5%")
    for name, (before, now) in zip(lines, hit / samples, strict=True):
        yield Covered(name, f"{prompts} × {answers}", before, now)


def _answers(rng: np.random.Generator, prompts: int, answers: int) -> NDArray[np.bool_]:
    """Whether a model's answers are right, with a chance of its own at each prompt."""
    return rng.random(prompts * answers) < np.repeat(rng.beta(1.0, 1.0, prompts), answers)
