"""Preferences among N samples of a prompt from a judge's ratings, as pure functions of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Branch, Role

Which = Literal["best_worst", "all"]
Labels = Literal["hard", "bradley_terry"]


def wins(score_N: Tensor, labels: Labels, scale: float) -> Tensor:
    """P [N, N] that a sample beats another: 1, ½ or 0 with hard labels, else Bradley–Terry's σ(scale·(r − r'))."""
    lead_NN = score_N[:, None] - score_N[None]
    return lead_NN.sign() / 2 + 0.5 if labels == "hard" else torch.sigmoid(scale * lead_NN)


def win_rates(win_NN: Tensor) -> Tensor:
    """P [N] that a sample beats another sample of its prompt, excluding itself: an unbiased estimate for samples of
    π."""
    return (win_NN.sum(1) - win_NN.diagonal()) / (len(win_NN) - 1)


def compared(score_N: Tensor, which: Which) -> list[tuple[int, int]]:
    """The pairs to compare, the better one first if there is one: the best with the worst, or every two."""
    if which == "all":
        every = combinations(range(len(score_N)), 2)
        return [(i, j) if score_N[i] >= score_N[j] else (j, i) for i, j in every]
    last = len(score_N) - 1 - int(score_N.flip(0).argmin())
    return [(int(score_N.argmax()), last)]


def decided(pairs: Iterable[tuple[int, int]], win_NN: Tensor, chance: Iterator[float]) -> list[tuple[int, int]]:
    """Each pair with its winner first, decided by one uniform number of `chance` each. It is certain where P is 1 or
    0."""
    return [(i, j) if next(chance) < win_NN[i, j] else (j, i) for i, j in pairs]


def tied(pair: tuple[int, int], win_NN: Tensor, tokens: Sequence[Tensor], labels: Labels) -> bool:
    """Whether a pair is a tie: two identical samples, or (hard labels) no winner."""
    i, j = pair
    return torch.equal(tokens[i], tokens[j]) or (labels == "hard" and float(win_NN[i, j]) == 0.5)


def balanced(reward_GN: Sequence[Sequence[float]], length_GN: Sequence[Sequence[int]]) -> float:
    """The penalty per token ≥ 0 that makes the best and worst sample of a prompt equally long on average, as nearly as
    possible (DICE). The difference decreases with the penalty, so the search is by bisection; 0 if none is needed."""

    def difference(penalty: float) -> float:
        found = 0
        for rewards, lengths in zip(reward_GN, length_GN, strict=True):
            shaped = [r - penalty * n for r, n in zip(rewards, lengths, strict=True)]
            found += lengths[shaped.index(max(shaped))] - lengths[shaped.index(min(shaped))]
        return found / max(1, len(reward_GN))

    low, high = 0.0, 1.0
    if difference(low) <= 0:
        return low
    while difference(high) > 0:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(middle) > 0 else (low, middle)
    return min((low, high), key=lambda penalty: abs(difference(penalty)))


def sides(chosen: Branch, rejected: Branch) -> tuple[Branch, Branch]:
    """Two branches with the roles chosen and rejected."""
    return replace(chosen, role=Role.CHOSEN), replace(rejected, role=Role.REJECTED)
