"""Best-of-N: the completion with the highest score, its KL from the model, and the expected result for a smaller N.

Scorers are callables, since they come from layers above this one. Sources: Stiennon et al. 2020, arXiv:2009.01325;
Beirami et al. 2024, arXiv:2401.01879.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from twofold.errors import DataError
from twofold.sampling.base import Sample, Sampler

if TYPE_CHECKING:
    from torch import Tensor

Score: TypeAlias = Callable[[Sequence[Sequence[Sample]]], Sequence[Sequence[float]]]
"""From every prompt's completions to their scores; higher is better."""


@dataclass(frozen=True)
class Best:
    """A prompt's best completion, its `index` among all completions of the prompt, and the `scores` of them all. Of
    equal scores the first is the best."""

    completion: Sample
    index: int
    scores: tuple[float, ...]


def best_of_n(
    sampler: Sampler, prompts: Sequence[Tensor], score: Score, *, n: int, seed: tuple[int, int] = (0, 0)
) -> list[Best]:
    """The best of `n` completions for each prompt. Raises DataError for a score that is NaN."""
    completions = sampler.sample(prompts, samples=n, seed=seed)
    found: list[Best] = []
    for i, (several, scores) in enumerate(zip(completions, score(completions), strict=True)):
        index = best_index(scores, len(several), f"prompt {i + 1} of {len(prompts)}")
        found.append(Best(several[index], index, tuple(scores)))
    return found


def best_index(scores: Sequence[float], n: int, where: str) -> int:
    """The first of the highest scores of `n` completions. Raises DataError for a missing score, or one that is NaN."""
    if len(scores) != n or any(math.isnan(s) for s in scores):
        remedy = "return one number for each completion, and never NaN"
        raise DataError("a completion has no score", where=where, remedy=remedy)
    return max(range(n), key=scores.__getitem__)


def kl_bound(n: int) -> float:
    """The maximum KL in nats between best-of-`n` and the model, log n − (n − 1)/n; exact if scores never tie."""
    if n < 1:
        raise ValueError("n must be ≥ 1")
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True)
class Distribution:
    """Best-of-N over finitely many answers: their probabilities, the mean score, and the KL from the model in nats."""

    probabilities: tuple[float, ...]
    score: float
    kl: float


def distribution(probabilities: Sequence[float], scores: Sequence[float], n: int) -> Distribution:
    """The exact distribution of best-of-`n`: a score is the best with probability F_i^n − F_(i−1)^n, which answers with
    that score share in proportion to their own probabilities."""
    if len(probabilities) != len(scores) or not math.isclose(math.fsum(probabilities), 1):
        raise ValueError("each score needs a probability, and the probabilities must sum to 1")
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
    """The expected value of best-of-`n`, from more than `n` completions: the mean, over all subsets of size `n`, of the
    value of the completion with the highest score.

    Unbiased for every n up to the number of completions, like pass@k. Tied scores give the mean of the tied values.
    """
    if not 1 <= n <= len(scores) or len(scores) != len(values):
        raise ValueError("n must be between 1 and the number of completions, with one value per score")
    all_subsets = math.comb(len(scores), n)
    total, below = 0.0, 0
    for level in sorted(set(scores)):
        equals = [v for v, s in zip(values, scores, strict=True) if s == level]
        subsets = math.comb(below + len(equals), n) - math.comb(below, n)
        total += subsets / all_subsets * math.fsum(equals) / len(equals)
        below += len(equals)
    return total
