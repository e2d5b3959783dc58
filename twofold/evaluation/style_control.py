"""Scores at equal style, as of arena-hard-auto's `show_result.py --control-features markdown length`.

Every battle of player m against the baseline is an outcome y in [0, 1] of the Bradley–Terry model

    P(y) = σ(β_m + Σ_k γ_k · z_k),    z = (d − mean d) / s

with differences d of style: for tokens t, (t_m − t_b) / (t_m + t_b); for headers, list items and bold texts, each as
its number a / (t + 1), (a_m − a_b) / (a_m + a_b + 1). Means and standard deviations are over all battles. The score is
σ(β_m). Formulas: https://github.com/lmarena/arena-hard-auto, after https://lmsys.org/blog/2024-08-28-style-control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.answer_style import NAMES, Style
from twofold.evaluation.figures import Difference
from twofold.statistics import Estimate, PairedTest, bca_bounds

Array = NDArray[np.float64]
RESAMPLES = 1000
PARTS = 2**21  # entries of a bootstrap's arrays at once
STEPS, NEAR, FAR, RIDGE = 150, 1e-11, 1.0, 1e-12
MOST = 15.0
"""A larger weight of a style, per standard deviation, has no finite optimum: it separates wins from losses."""


@dataclass(frozen=True)
class StyleControl:
    """One fit of all players. Of each match [N]: the player's number, the points won in `counts` battles (0 without a
    verdict), both styles, and the question. `players` is the number of players."""

    players: int
    numbers: Sequence[int]
    points: Sequence[float]
    counts: Sequence[int]
    styles: Sequence[Style]
    others: Sequence[Style]
    questions: Sequence[int]
    resamples: int = RESAMPLES

    @property
    def is_finite(self) -> bool:
        """Whether the fit has a finite optimum."""
        return bool(np.isfinite(self.weight_K).all())

    def about(self) -> dict[str, Any]:
        """The fit, as in results.json: of each style its weight per standard deviation, mean and standard deviation of
        its difference over battles. A style whose difference is constant has no weight."""
        weights = iter(self.weight_K[self.players :])
        return {
            name: {"weight": float(next(weights)) if varies else 0.0, "mean": float(mean), "sd": float(sd)}
            for name, varies, mean, sd in zip(NAMES, self._varies_F, *self._moments, strict=True)
        }

    @cached_property
    def weight_K(self) -> Array:
        """β of each player, then γ of each style that varies. NaN without a finite optimum."""
        return self._fitted(np.ones((1, len(self._count_N))))[0]

    def scores(self, weight_RK: Array, *, equal: bool) -> Array:
        """Each player's score [R, players]. With `equal`, where both answers have the same style, else where the
        difference of style is the mean of all battles."""
        beta_RP, gamma_RF = weight_RK[:, : self.players], weight_RK[:, self.players :]
        mean_F, sd_F = (moment[self._varies_F] for moment in self._moments)
        return _sigmoid(beta_RP - (gamma_RF @ (mean_F / sd_F))[:, None] * equal)

    @cached_property
    def draws_RK(self) -> Array:
        """The weights on resamples of questions."""
        many, rng = len(dict.fromkeys(self.questions)), np.random.default_rng(0)
        return self._refitted(rng.multinomial(many, np.full(many, 1 / many), size=self.resamples).astype(float))

    @cached_property
    def left_out_QK(self) -> Array:
        """The weights without each question."""
        return self._refitted(1 - np.eye(len(dict.fromkeys(self.questions))))

    @cached_property
    def _count_N(self) -> Array:
        return np.asarray(self.counts, dtype=np.float64)

    @cached_property
    def _difference_NF(self) -> Array:
        a_NF, b_NF = (np.asarray(each, dtype=np.float64) for each in (self.styles, self.others))
        tokens_N = a_NF[:, 0] + b_NF[:, 0]
        length_N = (a_NF[:, 0] - b_NF[:, 0]) / np.where(tokens_N > 0, tokens_N, 1)
        a_NF, b_NF = (each[:, 1:] / (each[:, :1] + 1) for each in (a_NF, b_NF))
        return np.column_stack([length_N, (a_NF - b_NF) / (a_NF + b_NF + 1)])

    @cached_property
    def _moments(self) -> tuple[Array, Array]:
        """Means and standard deviations of the differences over battles, [F] each."""
        total = self._count_N.sum()
        mean_F = self._count_N @ self._difference_NF / total
        square_F = self._count_N @ (self._difference_NF - mean_F) ** 2
        return mean_F, np.sqrt(square_F / max(total - 1, 1))

    @property
    def _varies_F(self) -> NDArray[np.bool_]:
        return self._moments[1] > 1e-12

    @cached_property
    def _x_NK(self) -> Array:
        mean_F, sd_F = (moment[self._varies_F] for moment in self._moments)
        own_NP = np.eye(self.players)[np.asarray(self.numbers)]
        return np.concatenate([own_NP, (self._difference_NF[:, self._varies_F] - mean_F) / sd_F], axis=1)

    def _refitted(self, often_RQ: Array) -> Array:
        """The weights where each question counts as often as in a row."""
        places: dict[int, int] = {}
        question_N = np.array([places.setdefault(q, len(places)) for q in self.questions])
        starts = [*range(0, len(often_RQ), max(1, PARTS // len(question_N))), len(often_RQ)]
        return np.concatenate([self._fitted(often_RQ[a:b][:, question_N]) for a, b in pairwise(starts)])

    def _fitted(self, often_RN: Array) -> Array:
        """The weights [R, K] where each match counts as often as in a row. NaN for a player without battles, and for
        all if a style separates wins from losses. A player that wins all battles has β above 30."""
        points_N = np.asarray(self.points, dtype=np.float64)
        weight_RK = logistic_fits(self._x_NK, points_N, self._count_N, often_RN)
        battles_RP = (often_RN * self._count_N) @ self._x_NK[:, : self.players]
        weight_RK[:, : self.players][battles_RP == 0] = np.nan
        weight_RK[np.abs(weight_RK[:, self.players :]).max(axis=1, initial=0.0) > MOST] = np.nan
        return weight_RK


@dataclass(frozen=True)
class StyleScore:
    """A measure of `evaluation/figures.py`: the score of one player by its number. Intervals and tests are a bootstrap
    over questions, in which means and standard deviations of styles are fixed."""

    control: StyleControl
    player: int
    equal: bool

    def estimate(self) -> Estimate:
        """The score with a BCa interval. `n` is the number of questions with a verdict."""
        c = self.control
        own = {q for q, p, n in zip(c.questions, c.numbers, c.counts, strict=True) if p == self.player and n}
        low, high, how = _bounds(self._value, self._of(c.draws_RK), self._of(c.left_out_QK))
        method = f"style-controlled, bootstrap over questions 95%, {how}"
        return Estimate(self._value, low, high, len(own), None, method)

    def against(self, other: StyleScore) -> Difference | None:
        """`other` minus this by the same resamples of questions; None for a score of another fit. The p-value is twice
        the smaller share of differences on one side of 0, at least 2 / (resamples + 1)."""
        if other.control is not self.control:
            return None
        c, value = self.control, other._value - self._value
        moved = other._of(c.draws_RK) - self._of(c.draws_RK)
        low, high, how = _bounds(value, moved, other._of(c.left_out_QK) - self._of(c.left_out_QK), least=-1.0)
        known = moved[np.isfinite(moved)]
        beyond = min(int((known <= 0).sum()), int((known >= 0).sum()))
        n, a, b = self._better(other)
        p_value = min(1.0, 2 * (beyond + 1) / (len(known) + 1))
        test = PairedTest(a, b, p_value, n, f"paired bootstrap, {len(known)} resamples")
        return Difference(Estimate(value, low, high, n, None, f"paired bootstrap over questions 95%, {how}"), test)

    @property
    def _value(self) -> float:
        return float(self._of(self.control.weight_K[None])[0])

    def _of(self, weight_RK: Array) -> Array:
        return self.control.scores(weight_RK, equal=self.equal)[:, self.player]

    def _better(self, other: StyleScore) -> tuple[int, int, int]:
        """The questions on which both have verdicts, and those on which either has more of its points."""
        shares: list[dict[int, float]] = []
        for player in (self.player, other.player):
            c, won, played = self.control, dict[int, float](), dict[int, int]()
            for q, p, points, n in zip(c.questions, c.numbers, c.points, c.counts, strict=True):
                if p == player and n:
                    won[q], played[q] = won.get(q, 0.0) + points, played.get(q, 0) + n
            shares.append({q: won[q] / played[q] for q in won})
        a, b = shares
        both = [q for q in a if q in b]
        return len(both), sum(a[q] > b[q] for q in both), sum(b[q] > a[q] for q in both)


def logistic_fits(x_NK: Array, points_N: Array, counts_N: Array, often_RN: Array) -> Array:
    """The weights [R, K] that maximize the likelihood of `points_N` of `counts_N` outcomes, each row counted as
    often as in a row of `often_RN`; by Newton steps of at most 1. Where the optimum is infinite, they reach some 30."""
    many, size = len(often_RN), x_NK.shape[1]
    square_NM = (x_NK[:, :, None] * x_NK[:, None, :]).reshape(len(x_NK), -1)
    weight_RK = np.zeros((many, size))
    for _ in range(STEPS):
        p_RN = _sigmoid(weight_RK @ x_NK.T)
        slope_RK = (often_RN * (points_N - counts_N * p_RN)) @ x_NK
        curve_RKK = ((often_RN * counts_N * p_RN * (1 - p_RN)) @ square_NM).reshape(many, size, size)
        curve_RKK[:, range(size), range(size)] += RIDGE
        step_RK = np.linalg.solve(curve_RKK, slope_RK[:, :, None])[:, :, 0]
        weight_RK += step_RK / np.maximum(1.0, np.abs(step_RK).max(1) / FAR)[:, None]
        if np.abs(step_RK).max() < NEAR:
            break
    return weight_RK


def _bounds(value: float, draws_R: Array, left_out_Q: Array, least: float = 0.0) -> tuple[float, float, str]:
    """The interval from the resamples that have a finite fit; from `least` to 1 if fewer than half have one."""
    known = draws_R[np.isfinite(draws_R)]
    if len(known) < len(draws_R) / 2:
        return least, 1.0, f"only {len(known)} of {len(draws_R)} resamples have a finite fit"
    low, high, how = bca_bounds(value, known, left_out_Q, 0.95)
    return low, high, how if len(known) == len(draws_R) else f"{how}, {len(known)} of {len(draws_R)} resamples"


def _sigmoid(value: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * value))
