"""The reward–KL frontier of a method: its points, their hull, and how high that is above the reference.

A method's frontier is the upper concave hull of its points and of the reference
(KL 0). A random mixture of two policies reaches every point between theirs, because reward is linear in the mixture and
KL is convex. Methods are compared by the mean height of the hull above the reference's reward, up to a KL that all of
them reached: the area under the envelope, per nat. Best-of-N's KL is a bound (arXiv:2401.01879).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twofold.sampling.best_of_n import expected, kl_bound
from twofold.statistics import Estimate, bootstrap_ratio

if TYPE_CHECKING:
    from torch import Tensor

    from twofold.models.policy import Policy
    from twofold.sampling.base import Sample

Array = NDArray[np.float64]
Seeds = Sequence[Sequence["Point"]]
"""The points of each seed of a method."""


@dataclass(frozen=True)
class Point:
    """A policy, by prompt [P]: nats from the reference (from whole distributions, and from the tokens drawn), mean
    reward of its samples; tokens a sample, share of samples that were cut off."""

    kl: Sequence[float]
    drawn: Sequence[float]
    reward: Sequence[float]
    length: float = 0.0
    truncated: float = 0.0

    @classmethod
    def of(cls, prompts: Sequence[Mapping[str, Any]]) -> Point:
        """From `measures` of prompts."""
        total = sum(len(p["scores"]) for p in prompts)
        rewards = [sum(p["scores"]) / len(p["scores"]) for p in prompts]
        length, truncated = (sum(p[name] for p in prompts) / total for name in ("tokens", "truncated"))
        return cls([p["kl"] for p in prompts], [p["drawn"] for p in prompts], rewards, length, truncated)

    def as_dict(self) -> dict[str, Any]:
        """Each figure with a bootstrap interval over prompts."""
        told = {"kl": self.kl, "kl_drawn": self.drawn, "reward": self.reward}
        figures: dict[str, Any] = {name: _mean(values).as_dict() for name, values in told.items()}
        return {**figures, "tokens": self.length, "truncated": self.truncated}

    def rows(self, model: str) -> list[dict[str, Any]]:
        """Every prompt by itself."""
        sides = enumerate(zip(self.kl, self.drawn, self.reward, strict=True), 1)
        return [{"model": model, "prompt": i, "kl": kl, "kl_drawn": d, "reward": r} for i, (kl, d, r) in sides]


def point(
    policy: Policy, reference: Policy | None, prompts: Sequence[Tensor], completions: Sequence[Sequence[Sample]],
    scores: Sequence[Sequence[float]],
) -> Point:  # fmt: skip
    """The point of a policy whose `completions`, sampled at temperature 1, have these scores. Without a reference it is
    the reference itself, at KL 0."""
    return Point.of(measures(policy, reference, prompts, completions, scores))


def measures(
    policy: Policy, reference: Policy | None, prompts: Sequence[Tensor], completions: Sequence[Sequence[Sample]],
    scores: Sequence[Sequence[float]],
) -> list[dict[str, Any]]:  # fmt: skip
    """What a point is made of, by prompt."""
    from twofold.sampling.divergence import divergence, refuse_strangers

    if reference is not None:
        refuse_strangers(policy, reference)
    found: list[dict[str, Any]] = []
    for prompt, several, own in zip(prompts, completions, scores, strict=True):
        kl = drawn = 0.0
        if reference is not None:
            sums = divergence(policy, reference, prompt, several)
            kl, drawn = sums.kl / len(several), sums.kl_drawn / len(several)
        tokens, truncated = sum(len(d.tokens) for d in several), sum(d.truncated for d in several)
        found.append({"kl": kl, "drawn": drawn, "scores": list(own), "tokens": tokens, "truncated": truncated})
    return found


def best_of(scores: Sequence[Sequence[float]], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """For each N the mean reward of best-of-N by the same score, an unbiased estimate from all completions of each
    prompt, and the upper bound of its KL from the model in nats."""
    return [
        {"n": n, "kl_at_most": kl_bound(n),
         "reward": _mean([expected(row, row, n) for row in scores]).as_dict()}
        for n in sizes
    ]  # fmt: skip


def hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The upper concave hull of (KL, reward), from the first of the least KL up to the highest reward."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if found and y <= found[-1][1]:
            continue
        while len(found) > 1 and _rise(found[-2], found[-1]) <= _rise(found[-1], (x, y)):
            found.pop()
        found.append((x, y))
    return found


def height(points: Sequence[tuple[float, float]], limit: float) -> float:
    """The mean over KL from 0 to `limit` of the hull's height above the reward of `points[0]`, the reference at KL 0;
    after its last point the hull is horizontal."""
    corners = hull([(max(0.0, x), y) for x, y in points])
    if limit <= 0:
        raise ValueError("no point has a KL above 0")
    xs, ys = np.array(corners, dtype=np.float64).T
    inside = xs < limit
    at = np.append(xs[inside], limit)
    return float(np.trapezoid(np.append(ys[inside], np.interp(limit, xs, ys)), at) / limit - points[0][1])


@dataclass(frozen=True)
class Areas:
    """Heights of the frontiers up to `limit` nats, by method; two methods are compared on the same prompts."""

    limit: float
    heights: Mapping[str, Estimate]
    comparisons: Sequence[Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        told = {name: estimate.as_dict() for name, estimate in self.heights.items()}
        return {"limit": self.limit, "heights": told, "comparisons": list(self.comparisons)}


def areas(
    reference: Point, methods: Mapping[str, Seeds], *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> Areas | None:
    """The height of each method's frontier, the mean over its seeds, up to the largest KL that every seed of every
    method reached; None where one of them did not move.

    Prompts and each method's seeds are resampled with replacement, and all methods share the same prompts. With a few
    seeds the interval is too narrow; with one seed it covers only the prompts. If two methods share no seeds, the
    p-value of a difference is twice the smaller share of its resamples on one side of 0.
    """
    limit = min(max(float(np.mean(p.kl)) for p in run) for seeds in methods.values() for run in seeds)
    if limit <= 0:
        return None
    rng, prompts = np.random.default_rng(seed), len(reference.reward)
    drawn = {name: np.empty(resamples) for name in methods}
    stacked = {name: [_stacked(reference, run) for run in seeds] for name, seeds in methods.items()}
    for r in range(resamples):
        weight = rng.multinomial(prompts, np.full(prompts, 1 / prompts)) / prompts
        for name, runs in stacked.items():
            chosen = rng.integers(len(runs), size=len(runs))
            heights = {i: _height(runs[i], weight, limit) for i in sorted(set(chosen.tolist()))}
            drawn[name][r] = np.mean([heights[i] for i in chosen.tolist()])
    even = np.full(prompts, 1 / prompts)
    values = {name: float(np.mean([_height(run, even, limit) for run in runs])) for name, runs in stacked.items()}
    method = f"bootstrap over seeds and prompts {level:.0%}"
    heights = {name: _estimate(values[name], drawn[name], len(runs), (level, method)) for name, runs in stacked.items()}
    comparisons = [_compared((a, b), values, drawn, (level, method)) for a, b in combinations(methods, 2)]
    return Areas(limit, heights, comparisons)


def _compared(
    names: tuple[str, str], values: Mapping[str, float], drawn: Mapping[str, Array], how: tuple[float, str]
) -> dict[str, Any]:
    a, b = names
    moved = drawn[b] - drawn[a]
    beyond = min(int((moved <= 0).sum()), int((moved >= 0).sum()))
    difference = _estimate(values[b] - values[a], moved, 1, how)
    p_value = min(1.0, 2 * (beyond + 1) / (len(moved) + 1))
    return {"a": a, "b": b, "difference": difference.as_dict(), "p_value": p_value, "test": "bootstrap"}


def _estimate(value: float, draws: Array, n: int, how: tuple[float, str]) -> Estimate:
    level, method = how
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n, None, method)


def _mean(values: Sequence[float]) -> Estimate:
    return bootstrap_ratio(values, [1.0] * len(values))


def _stacked(reference: Point, run: Sequence[Point]) -> tuple[Array, Array]:
    """KL and reward [points, P], the reference first."""
    points = [reference, *run]
    kl = np.array([np.zeros(len(p.kl)) if i == 0 else p.kl for i, p in enumerate(points)], dtype=np.float64)
    return kl, np.array([p.reward for p in points], dtype=np.float64)


def _height(run: tuple[Array, Array], weight: Array, limit: float) -> float:
    return height([(float(kl), float(reward)) for kl, reward in np.transpose([side @ weight for side in run])], limit)


def _rise(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
