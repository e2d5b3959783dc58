"""The pure part of the sentiment frontier: KL of sampled completions, the upper envelope of points, the area under it.

`twofold/evaluation/hull.py` compares methods by the hull of their points up to a KL that all of them reached. Here
the sweep says how far, whatever a family reached, and families have from 6 to 24 points a seed, so that the envelope is
chosen and read on different prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """A checkpoint: mean KL to the reference in nats per completion, and the true reward of each prompt [n]."""

    kl: float
    rewards: tuple[float, ...]

    @property
    def reward(self) -> float:
        return fmean(self.rewards)


def kl_of_rows(own: Sequence[Tensor], other: Sequence[Tensor], drawn: Sequence[Tensor]) -> tuple[list[float], ...]:
    """Of each completion, drawn from π: Σ log π/π_ref of its tokens, and Σ KL(π(·|s) ‖ π_ref(·|s)) at its prefixes.

    `own` and `other` are log π and log π_ref [tokens, vocabulary], `drawn` the tokens. Both have the mean KL(π ‖ π_ref)
    of whole completions; the second (Rao–Blackwell) never goes below 0 and varies far less.
    """
    sampled, whole = list[float](), list[float]()
    for mine, theirs, token in zip(own, other, drawn, strict=True):
        ratio = mine.double() - theirs.double()
        sampled.append(float(ratio.gather(1, token[:, None]).sum()))
        whole.append(float(torch.where(mine > -torch.inf, mine.double().exp() * ratio, 0.0).sum()))
    return sampled, whole


def envelope(points: Sequence[Point], grid: Sequence[float], *, crossed: bool = True) -> list[float]:
    """The reward to be had for at most each KL of `grid`: of the points within it the one of the highest reward.

    The best of many noisy points looks better than it is, the more so the more points. `crossed` chooses it by every
    other prompt and takes its reward from the rest, and the other way round, which undoes that. Raises ValueError where
    no point is within the least KL: give the reference itself, at 0.
    """
    rewards = np.asarray([p.rewards for p in points], dtype=np.float64)
    kls = np.asarray([max(p.kl, 0.0) for p in points])
    parts = [(np.s_[0::2], np.s_[1::2]), (np.s_[1::2], np.s_[0::2])] if crossed else [(np.s_[:], np.s_[:])]
    found: list[float] = []
    for most in grid:
        (within,) = np.nonzero(kls <= most)
        if not len(within):
            raise ValueError(f"no point within {most:g} nats")
        taken = [
            (within[int(np.argmax(rewards[within, chosen].mean(1)))], told)
            for chosen, told in ((slice_a, slice_b) for slice_a, slice_b in parts)
        ]
        found.append(fmean(float(rewards[place, told].mean()) for place, told in taken))
    return found


def area(points: Sequence[Point], most: float, *, steps: int = 240, crossed: bool = True) -> float:
    """The mean of the envelope over 0 … `most` nats: the area under it, as a reward."""
    grid = [(i + 0.5) * most / steps for i in range(steps)]
    return fmean(envelope(points, grid, crossed=crossed))
