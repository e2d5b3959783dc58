"""The length-controlled win rate of AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475, section 3).

A preference y_i in [0, 1] for the model's answer is fitted by a logistic regression without intercept:

    P(y_i) = σ(θ + φ · tanh(Δ_i / s) + ψ · d_i),    Δ_i = characters of the baseline's answer − of the model's,

s the standard deviation of Δ, d_i the difficulty of the instruction. The judgments of two baselines with instructions
to write long and short (AlpacaEval's `df_gamed.csv`) are further rows with weight 0.1 each and θ = 0. The penalty is
‖(φ, ψ, θ)‖₁ / C, with C by 5-fold cross-validation. The rate is the mean of σ(θ + ψ · d_i) over all instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.figures import Difference
from twofold.statistics import Estimate, PairedTest, bca_bounds

Array = NDArray[np.float64]
Solver = Literal["liblinear", "exact"]
FOLDS = 5
STRENGTHS = tuple(float(c) for c in np.logspace(-4, 4, 10))
"""Inverse strengths C of the penalty, from which cross-validation chooses."""
GAMED_WEIGHT = 0.2 / 2
"""Weight of a row of either gamed baseline."""
RESAMPLES = 1000
PARTS = 2**22  # entries of a bootstrap's arrays at once
STEPS, NEAR, FAR = 200, 1e-11, 1.0
LEAST = 1e-15
SEED = 123  # of liblinear, as in the package


@dataclass(frozen=True)
class GamedRows:
    """The judgments of the gamed baselines: features (tanh of the gap, difficulty, 0) [G, 3], preferences [G], and the
    difficulty of each instruction by its index."""

    feature_GK: Array
    share_G: Array
    difficulty: Mapping[int, float]


@dataclass(frozen=True)
class LengthControl:
    """A measure of `evaluation/figures.py`: the rate of one model at equal lengths.

    `shares` [N] are preferences in [0, 1], None without a verdict; `lengths` and `others` [N] the characters of the
    model's and of the baseline's answers; `indices` [N] the instructions. The fit is liblinear's, as in the package, if
    scikit-learn is installed, otherwise the exact optimum, which differs by at most a few 1e-5. Intervals and tests are
    a bootstrap over instructions with exact fits, in which s and C are fixed.
    """

    shares: Sequence[float | None]
    lengths: Sequence[int]
    others: Sequence[int]
    indices: Sequence[int]
    gamed: GamedRows
    resamples: int = RESAMPLES

    def estimate(self) -> Estimate:
        """The rate with a BCa interval."""
        value = float(self.predicted_N.mean())
        low, high, how = bca_bounds(value, self._draws, self._left_out, 0.95)
        method = f"length-controlled, bootstrap over instructions 95%, {how}"
        number = len(dict.fromkeys(self.indices))
        clusters = number if number < len(self.shares) else None
        return Estimate(value, low, high, len(self.shares), None, method, clusters)

    def against(self, other: LengthControl) -> Difference | None:
        """`other` minus this by the same resamples of instructions; None if those differ. The p-value is twice the
        smaller share of differences on one side of 0, at least 2 / (resamples + 1)."""
        if list(dict.fromkeys(self.indices)) != list(dict.fromkeys(other.indices)) or self.resamples != other.resamples:
            return None
        value = float(other.predicted_N.mean() - self.predicted_N.mean())
        moved, left_out = other._draws - self._draws, other._left_out - self._left_out
        low, high, how = bca_bounds(value, moved, left_out, 0.95)
        beyond = min(int((moved <= 0).sum()), int((moved >= 0).sum()))
        p_value = min(1.0, 2 * (beyond + 1) / (self.resamples + 1))
        both = [(x, y) for x, y in zip(self.shares, other.shares, strict=False) if x is not None and y is not None]
        n = len(dict.fromkeys(self.indices))
        only = sum(x > y for x, y in both), sum(y > x for x, y in both)
        test = PairedTest(*only, p_value, n, f"paired bootstrap, {self.resamples} resamples")
        return Difference(Estimate(value, low, high, n, None, f"paired bootstrap over instructions 95%, {how}"), test)

    @cached_property
    def feature_NK(self) -> Array:
        """tanh(Δ / s), the difficulty and 1 of each row, [N, 3]."""
        gap = np.asarray(self.others, dtype=np.float64) - np.asarray(self.lengths, dtype=np.float64)
        spread = float(gap.std(ddof=1)) if len(gap) > 1 else 0.0
        tilt = np.tanh(gap / spread) if spread else np.zeros_like(gap)
        return np.stack([tilt, [self.gamed.difficulty[i] for i in self.indices], np.ones(len(gap))], axis=1)

    @cached_property
    def solver(self) -> Solver:
        return "liblinear" if _has_liblinear() else "exact"

    @cached_property
    def strength(self) -> float:
        """C by cross-validation."""
        return cross_validated(*self._rows, self.solver)

    @cached_property
    def weight_K(self) -> Array:
        """φ, ψ and θ."""
        return fit(*self._rows, self.strength, self.solver)

    @cached_property
    def predicted_N(self) -> Array:
        """The preference for the model's answer to each instruction at equal lengths."""
        return _sigmoid(self.feature_NK[:, 1:] @ self.weight_K[1:])

    def about(self) -> dict[str, Any]:
        """The fit, as in results.json. `standard_error` is the package's, which does not include that of the fit."""
        names = ("length", "difficulty", "model")
        weights = dict(zip(names, (float(w) for w in self.weight_K), strict=True))
        n = len(self.predicted_N)
        error = float(self.predicted_N.std(ddof=1)) / n**0.5 if n > 1 else 0.0
        return {"weights": weights, "C": self.strength, "solver": self.solver, "standard_error": error}

    @property
    def _rows(self) -> tuple[Array, Array, Array]:
        """Features, preferences and weights of the gamed rows and of those with a verdict."""
        known = np.array([share is not None for share in self.shares])
        own = np.array([share for share in self.shares if share is not None], dtype=np.float64)
        x = np.concatenate([self.gamed.feature_GK, self.feature_NK[known]])
        y = np.concatenate([self.gamed.share_G, own])
        return x, y, np.concatenate([np.full(len(self.gamed.share_G), GAMED_WEIGHT), np.ones(len(own))])

    def _refitted(self, units: int, count_of: Callable[[int, int], Array]) -> Array:
        """The rate [units] where each instruction counts as often as the rows a … b of `count_of` [b − a, prompts]."""
        x, y, weight = self._rows
        places: dict[Hashable, int] = {}
        prompt_N = np.array([places.setdefault(i, len(places)) for i in self.indices])
        known = np.array([share is not None for share in self.shares])
        gamed = weight[: len(self.gamed.share_G)]
        rates: list[Array] = []
        starts = [*range(0, units, max(1, PARTS // len(y))), units]
        for a, b in pairwise(starts):
            count_RN = count_of(a, b)[:, prompt_N]
            some = np.concatenate([np.tile(gamed, (b - a, 1)), count_RN[:, known]], axis=1)
            weight_RK = exact_fits(x, y, some, self.strength)
            predicted_RN = _sigmoid(weight_RK[:, 1:] @ self.feature_NK[:, 1:].T)
            whole = count_RN.sum(1)
            whole[whole == 0] = np.nan
            rates.append((predicted_RN * count_RN).sum(1) / whole)
        return np.concatenate(rates)

    @cached_property
    def _draws(self) -> Array:
        many = len(dict.fromkeys(self.indices))
        rng = np.random.default_rng(0)
        return self._refitted(
            self.resamples, lambda a, b: rng.multinomial(many, np.full(many, 1 / many), size=b - a).astype(float)
        )

    @cached_property
    def _left_out(self) -> Array:
        many = len(dict.fromkeys(self.indices))
        return self._refitted(many, lambda a, b: 1 - np.eye(b - a, many, a))


def cross_validated(x_NK: Array, share_N: Array, weight_N: Array, solver: Solver) -> float:
    """The C with the smallest mean log loss on held-out rows. The rows form five folds by position, from the last."""
    fold_N = np.arange(len(share_N))[::-1] % FOLDS
    loss = np.zeros(len(STRENGTHS))
    for fold in range(FOLDS):
        train, test = fold_N != fold, fold_N == fold
        state = np.random.RandomState(SEED)  # scikit-learn's own paths share one over all C of a fold
        for place, strength in enumerate(STRENGTHS):
            w_K = fit(x_NK[train], share_N[train], weight_N[train], strength, solver, state)
            p = np.clip(_sigmoid(x_NK[test] @ w_K), LEAST, 1 - LEAST)
            each = weight_N[test] * (share_N[test] * np.log(p) + (1 - share_N[test]) * np.log(1 - p))
            loss[place] -= each.mean() if len(each) else 0.0
    return STRENGTHS[int(loss.argmin())]


def fit(
    x_NK: Array, share_N: Array, weight_N: Array, strength: float, solver: Solver,
    state: np.random.RandomState | int = SEED,
) -> Array:  # fmt: skip
    """The weights [K] that minimize ‖w‖₁ + C Σ weight · log loss."""
    if solver == "exact":
        return exact_fits(x_NK, share_N, weight_N[None], strength)[0]
    from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingImports]  # an extra

    x, y = np.concatenate([x_NK, x_NK]), np.repeat([1, 0], len(share_N))
    weight = np.concatenate([share_N * weight_N, (1 - share_N) * weight_N])
    model = LogisticRegression(C=strength, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=state)
    return np.asarray(model.fit(x, y, sample_weight=weight).coef_[0], dtype=np.float64)


def exact_fits(x_NK: Array, share_N: Array, weight_RN: Array, strength: float) -> Array:
    """The same minima [R, K] under each row of weights, by proximal Newton steps (Lee et al. 2014,
    doi:10.1137/130921428)."""
    many, size = len(weight_RN), x_NK.shape[1]
    square_NM = (x_NK[:, :, None] * x_NK[:, None, :]).reshape(len(x_NK), -1)
    w_RK = np.zeros((many, size))
    for _ in range(STEPS):
        p_RN = _sigmoid(w_RK @ x_NK.T)
        slope_RK = strength * ((weight_RN * (p_RN - share_N)) @ x_NK)
        curve_RKK = strength * ((weight_RN * p_RN * (1 - p_RN)) @ square_NM).reshape(many, size, size)
        curve_RKK[:, range(size), range(size)] += 1e-12
        step_RK = _penalized_step(w_RK, slope_RK, curve_RKK)
        far_R = np.maximum(1.0, abs(step_RK).max(1) / FAR)
        w_RK = w_RK + step_RK / far_R[:, None]
        if abs(step_RK).max() < NEAR:
            break
    return w_RK


def _penalized_step(w_RK: Array, slope_RK: Array, curve_RKK: Array) -> Array:
    """The step d [R, K] that minimizes slope · d + ½ d · curve · d + ‖w + d‖₁, one coordinate after the other."""
    d_RK = np.zeros_like(w_RK)
    for _ in range(STEPS):
        before = d_RK.copy()
        for k in range(w_RK.shape[1]):
            curve_R = curve_RKK[:, k, k]
            rest_R = slope_RK[:, k] + (curve_RKK[:, k] * d_RK).sum(1) - curve_R * (w_RK[:, k] + d_RK[:, k])
            moved_R = -np.sign(rest_R) * np.maximum(0.0, abs(rest_R) - 1) / curve_R
            d_RK[:, k] = moved_R - w_RK[:, k]
        if abs(d_RK - before).max() < NEAR / 10:
            break
    return d_RK


def _has_liblinear() -> bool:
    """Whether scikit-learn is installed, in a version in which `l1_ratio` selects the penalty."""
    try:
        return tuple(int(part) for part in version("scikit-learn").split(".")[:2]) >= (1, 8)
    except (PackageNotFoundError, ValueError):
        return False


def _sigmoid(value: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * value))
