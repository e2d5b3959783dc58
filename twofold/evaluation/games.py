"""Win rates: how often a judge prefers a model's answer to another one, and the effects of length and position.

A tie is half a win. The length-controlled rate has the form of AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475,
section 3) without its term for the difficulty of an instruction, which needs many models: a logistic regression

    P(win_i) = σ(θ + φ · tanh(Δ_i / s)),    Δ_i = characters of the model's answer − of the other's,

s the standard deviation of Δ over all games, fitted to shares of 1, ½ and 0 with the penalty (θ² + φ²) / 200, which
makes it finite if one side always wins. The rate is σ(θ), the expected rate for answers of equal length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.figures import Difference
from twofold.statistics import (
    Estimate,
    bca_bounds,
    bootstrap_ratio,
    clustered_share,
    cohens_kappa,
    mean_by_cluster,
    share_by_cluster,
    share_difference,
    sign_flips,
)

PENALTY = 0.01
HELD = 2**22  # entries of a bootstrap's arrays at once
STEPS, NEAR, FAR = 200, 1e-10, 1.0
ONE_SIDED = 0.05
"""If a smaller share of games than this has the longer answer on one of the sides, equal lengths are extrapolated."""
HIGH = 0.1
"""If a constant answer certainly wins more often than this, the judge is not reliable."""
LABELS = {0.0: "loss", 0.5: "tie", 1.0: "win"}

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Game:
    """A comparison of two answers: `share` 1, ½ or 0, lengths in characters, and the judge's verdicts with the model's
    answer as A and then as B. Games of one `prompt` may be correlated. `item` identifies the games of one model.
    `probability` and `votes` are those of the match."""

    item: Hashable
    prompt: Hashable
    share: float
    length: int
    other: int
    orders: tuple[str, str] | None = None
    probability: float | None = None
    votes: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Shares:
    """A measure of `evaluation/figures.py`: the mean share of games, ties halved."""

    games: Sequence[Game]

    def estimate(self) -> Estimate:
        """Wilson's interval at the effective number of games, which accounts for ties and for games of one prompt."""
        won: dict[Hashable, int] = {}
        halves: dict[Hashable, int] = {}
        for game in self.games:
            won[game.prompt] = won.get(game.prompt, 0) + round(2 * game.share)
            halves[game.prompt] = halves.get(game.prompt, 0) + 2
        found = clustered_share(list(won.values()), list(halves.values()))
        return replace(found, n=len(self.games), count=None, method=f"{found.method}, ties ½")

    def against(self, other: Shares) -> Difference | None:
        """`other` minus this on their common items, with random sign flips over prompts. None if there are none."""
        theirs = {game.item: game.share for game in other.games}
        both = [game for game in self.games if game.item in theirs]
        if not both:
            return None
        a: dict[Hashable, float] = {}
        b: dict[Hashable, float] = {}
        n: dict[Hashable, float] = {}
        for game in both:
            a[game.prompt] = a.get(game.prompt, 0.0) + game.share
            b[game.prompt] = b.get(game.prompt, 0.0) + theirs[game.item]
            n[game.prompt] = n.get(game.prompt, 0.0) + 1
        moved = [b[p] - a[p] for p in n]
        difference = share_difference(bootstrap_ratio(moved, list(n.values())))
        return Difference(difference, sign_flips(list(a.values()), list(b.values())))


@dataclass(frozen=True)
class LengthControlled:
    """The rate at equal lengths; `slope` is φ with its interval, `longer` the share of games whose longer answer is the
    model's. Games of equal lengths are in neither that share nor in `shorter`."""

    rate: Estimate
    slope: float
    longer: float
    shorter: float
    slope_bounds: tuple[float, float]

    @property
    def guessed(self) -> bool:
        """Whether almost all differences have one sign, so that the rate at equal lengths is an extrapolation."""
        return min(self.longer, self.shorter) < ONE_SIDED < max(self.longer, self.shorter)

    def as_dict(self) -> dict[str, Any]:
        told = {"slope": self.slope, "slope_low": self.slope_bounds[0], "slope_high": self.slope_bounds[1],
                "longer": self.longer, "shorter": self.shorter, "extrapolated": self.guessed}  # fmt: skip
        return {**self.rate.as_dict(), **told}


def length_controlled(
    games: Sequence[Game], *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> LengthControlled:
    """The rate at equal lengths, with a BCa bootstrap over prompts in which s is fixed."""
    if not games:
        raise ValueError("no games")
    gap = np.array([g.length - g.other for g in games], dtype=np.float64)
    share = np.array([g.share for g in games], dtype=np.float64)
    spread = float(gap.std(ddof=1)) if len(games) > 1 else 0.0
    x = np.tanh(gap / spread) if spread else np.zeros_like(gap)
    theta, phi = _fitted(x, share, np.ones((1, len(games))))
    places: dict[Hashable, int] = {}
    prompt = np.array([places.setdefault(g.prompt, len(places)) for g in games])
    rng, many = np.random.default_rng(seed), len(places)

    def fitted(units: int, weights: Callable[[int, int], Array]) -> Array:
        """θ and φ [2, units] under the prompts' `weights` of rows a … b, a part of the rows at a time."""
        starts = [*range(0, units, max(1, HELD // len(games))), units]
        return np.concatenate([_fitted(x, share, weights(a, b)[:, prompt]) for a, b in pairwise(starts)], axis=1)

    drawn = fitted(resamples, lambda a, b: rng.multinomial(many, np.full(many, 1 / many), size=b - a).astype(float))
    left_out = fitted(many, lambda a, b: 1 - np.eye(b - a, many, a))
    low, high, how = bca_bounds(float(theta[0]), drawn[0], left_out[0], level)
    bounds = bca_bounds(float(phi[0]), drawn[1], left_out[1], level)[:2]
    method = f"length-controlled, bootstrap over prompts {level:.0%}, {how}"
    clusters = many if many < len(games) else None
    low, high = (float(_sigmoid(np.asarray(end))) for end in (low, high))
    rate = Estimate(float(_sigmoid(theta)[0]), low, high, len(games), None, method, clusters)
    return LengthControlled(rate, float(phi[0]), float((gap > 0).mean()), float((gap < 0).mean()), bounds)


@dataclass(frozen=True)
class Orders:
    """A judge's verdicts in both orders of the answers: how often they agree, and how often the judge preferred the
    `first` or the `second` position both times."""

    agreement: Estimate
    first: int
    second: int

    def as_dict(self) -> dict[str, Any]:
        return {**self.agreement.as_dict(), "first": self.first, "second": self.second}


def order_agreement(games: Sequence[Game]) -> Orders | None:
    """The agreement over the games with both orders; None if there are none."""
    both = [(game.prompt, game.orders) for game in games if game.orders is not None]
    if not both:
        return None
    prompts, told = [prompt for prompt, _ in both], [orders for _, orders in both]
    exchanged = {"A": "B", "B": "A"}
    agreed = [forward == exchanged.get(backward, backward) for forward, backward in told]
    return Orders(share_by_cluster(agreed, prompts), told.count(("A", "A")), told.count(("B", "B")))


@dataclass(frozen=True)
class Agreement:
    """A judge compared with people on the same games: Cohen's κ over win, tie and loss, and the share of agreement."""

    kappa: Estimate
    same: Estimate

    def as_dict(self) -> dict[str, Any]:
        return {"kappa": self.kappa.as_dict(), "same": self.same.as_dict()}


def agreement(judge: Sequence[float], people: Sequence[float], prompts: Sequence[Hashable] = ()) -> Agreement:
    """Of the shares that both gave to the same games; the verdicts on one of the `prompts` may be correlated."""
    a, b = ([LABELS[share] for share in shares] for shares in (judge, people))
    same = share_by_cluster([*map(eq, a, b)], prompts)
    return Agreement(cohens_kappa(a, b, clusters=prompts), same)


def summary(games: Sequence[Game]) -> dict[str, Any]:
    """All figures of a model's games, as in JSON."""
    told: dict[str, Any] = Shares(games).estimate().as_dict()
    for share, name in (1.0, "wins"), (0.5, "ties"), (0.0, "losses"):
        told[name] = sum(game.share == share for game in games)
    if games:
        told["length"] = sum(g.length for g in games) / len(games)
        told["other_length"] = sum(g.other for g in games) / len(games)
        told["length_controlled"] = length_controlled(games).as_dict()
    if (
        games
        and (chances := [g.probability for g in games if g.probability is not None])
        and len(chances) == len(games)
    ):
        told["expected"] = mean_by_cluster(chances, [g.prompt for g in games]).as_dict()
    orders = order_agreement(games)
    return told if orders is None else {**told, "orders": orders.as_dict()}


def _fitted(x_N: Array, share_N: Array, weight_RN: Array) -> tuple[Array, Array]:
    """θ and φ [R] that maximize the penalized likelihood under each row of weights, by Newton's method."""
    theta_R, phi_R = np.zeros(len(weight_RN)), np.zeros(len(weight_RN))
    for _ in range(STEPS):
        p_RN = _sigmoid(theta_R[:, None] + phi_R[:, None] * x_N)
        rest_RN, curve_RN = weight_RN * (share_N - p_RN), weight_RN * p_RN * (1 - p_RN)
        slope_R, tilt_R = rest_RN.sum(1) - PENALTY * theta_R, rest_RN @ x_N - PENALTY * phi_R
        a_R, b_R, c_R = curve_RN.sum(1) + PENALTY, curve_RN @ x_N, curve_RN @ x_N**2 + PENALTY
        scale_R = a_R * c_R - b_R**2
        up_R = (c_R * slope_R - b_R * tilt_R) / scale_R
        right_R = (a_R * tilt_R - b_R * slope_R) / scale_R
        far_R = np.maximum(1.0, np.maximum(abs(up_R), abs(right_R)) / FAR)
        theta_R, phi_R = theta_R + up_R / far_R, phi_R + right_R / far_R
        if max(abs(up_R).max(), abs(right_R).max()) < NEAR:
            break
    return theta_R, phi_R


def _sigmoid(value: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * value))
