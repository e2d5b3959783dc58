"""Best-of-N: the draft that a scorer likes most, how far that is from the model, and what a smaller N would have given.

Scorers live above this room, so they come as callables. Stiennon et al. 2009.01325, Beirami et al. 2401.01879.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from twofold.errors import DataError
from twofold.sampling.base import Draft, Sampler

if TYPE_CHECKING:
    from torch import Tensor

Score: TypeAlias = Callable[[Sequence[Sequence[Draft]]], Sequence[Sequence[float]]]
"""The scores of every prompt's drafts, higher is better."""


@dataclass(frozen=True)
class Best:
    """A prompt's best draft; `index` is its place among the drafts whose `scores` are told. Of equal ones the first."""

    draft: Draft
    index: int
    scores: tuple[float, ...]


def best_of_n(
    sampler: Sampler, prompts: Sequence[Tensor], score: Score, *, n: int, seed: tuple[int, int] = (0, 0)
) -> list[Best]:
    """Each prompt's best of `n` drafts. Raises DataError for a score that is not a number."""
    drafts = sampler.sample(prompts, samples=n, seed=seed)
    found: list[Best] = []
    for i, (several, scores) in enumerate(zip(drafts, score(drafts), strict=True)):
        if len(scores) != len(several) or any(math.isnan(s) for s in scores):
            where, remedy = f"prompt {i + 1} of {len(prompts)}", "return one number for each draft, and never NaN"
            raise DataError("a draft has no score", where=where, remedy=remedy)
        index = max(range(n), key=scores.__getitem__)
        found.append(Best(several[index], index, tuple(scores)))
    return found


def kl_bound(n: int) -> float:
    """The most nats by which best-of-`n` is away from the model, log n − (n − 1)/n; reached where scores never tie."""
    if n < 1:
        raise ValueError("n must be ≥ 1")
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True)
class Distribution:
    """Best-of-N over finitely many answers: their probabilities, the mean score, nats from the model."""

    probabilities: tuple[float, ...]
    score: float
    kl: float


def distribution(probabilities: Sequence[float], scores: Sequence[float], n: int) -> Distribution:
    """Best-of-`n` exactly: a score is the best with F_i^n − F_(i−1)^n, which answers of that score share as drawn."""
    if len(probabilities) != len(scores) or not math.isclose(math.fsum(probabilities), 1):
        raise ValueError("one probability per score, which sum to 1")
    chosen = [0.0] * len(scores)
    below = 0.0
    for level in sorted(set(scores)):
        equals = [i for i, s in enumerate(scores) if s == level]
        mass = math.fsum(probabilities[i] for i in equals)
        rise = (below + mass) ** n - below**n
        for i in equals:
            chosen[i] = rise * probabilities[i] / mass if mass else 0.0
        below += mass
    kl = math.fsum(q * math.log(q / p) for q, p in zip(chosen, probabilities, strict=True) if q)
    return Distribution(tuple(chosen), math.fsum(q * s for q, s in zip(chosen, scores, strict=True)), kl)


def expected(scores: Sequence[float], values: Sequence[float], n: int) -> float:
    """The mean over all subsets of `n` drafts of the value of the best by score: best-of-`n` out of more drafts.

    Unbiased for every n up to their number, as pass@k is; where scores tie, the mean of the tied values.
    """
    if not 1 <= n <= len(scores) or len(scores) != len(values):
        raise ValueError("n must be between 1 and the number of drafts, with one value per score")
    all_subsets = math.comb(len(scores), n)
    total, below = 0.0, 0
    for level in sorted(set(scores)):
        equals = [v for v, s in zip(values, scores, strict=True) if s == level]
        subsets = math.comb(below + len(equals), n) - math.comb(below, n)
        total += subsets / all_subsets * math.fsum(equals) / len(equals)
        below += len(equals)
    return total
