"""Bradley–Terry scores of players from their matches, with a bootstrap over prompts. A tie is half a win.

    P(i beats j) = σ(s_i − s_j)

Scores maximize the likelihood minus Σ s² / 200, which makes them finite if one side always wins. Their mean is 0.
Scores of players that no chain of matches connects cannot be compared: each group has its own.

Source: Bradley and Terry (1952), Biometrika 39.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.games import FAR, HELD, NEAR, PENALTY, STEPS
from twofold.statistics import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """Player `a` against player `b` on a prompt; `share` is that of `a`: 1, ½ or 0."""

    a: int
    b: int
    prompt: Hashable
    share: float


@dataclass(frozen=True, slots=True)
class Scores:
    """A score of each player, and its group: the players that a chain of matches connects."""

    estimates: tuple[Estimate, ...]
    groups: tuple[int, ...]

    @property
    def is_connected(self) -> bool:
        return len(set(self.groups)) <= 1


def bradley_terry(
    matches: Sequence[Match], players: int, *, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> Scores:
    """Scores with percentile intervals, from prompts drawn with replacement. `n` is a player's number of matches."""
    places: dict[Hashable, int] = {}
    prompt_N = np.array([places.setdefault(m.prompt, len(places)) for m in matches], dtype=np.int64)
    a_N, b_N = (np.array([getattr(m, side) for m in matches], dtype=np.int64) for side in ("a", "b"))
    share_N = np.array([m.share for m in matches], dtype=np.float64)
    won_PII = np.zeros((len(places), players, players))
    np.add.at(won_PII, (prompt_N, a_N, b_N), share_N)
    np.add.at(won_PII, (prompt_N, b_N, a_N), 1 - share_N)
    whole_II = won_PII.sum(0)
    value_I, low_I, high_I = _fitted(whole_II[None])[0], np.zeros(players), np.zeros(players)
    if places:
        drawn_RI = _drawn(won_PII.reshape(len(places), -1), players, np.random.default_rng(seed), resamples)
        low_I, high_I = np.quantile(drawn_RI, [(1 - level) / 2, (1 + level) / 2], axis=0)
    n_I, method = (whole_II + whole_II.T).sum(1), f"Bradley–Terry, bootstrap over prompts {level:.0%}"
    estimates = [
        Estimate(float(value_I[i]), float(low_I[i]), float(high_I[i]), round(n_I[i]), None, method)
        for i in range(players)
    ]
    return Scores(tuple(estimates), tuple(_groups(whole_II)))


def _drawn(won_PX: Array, players: int, rng: np.random.Generator, resamples: int) -> Array:
    """Scores [R, I] of prompts drawn with replacement."""
    prompts = len(won_PX)
    width = max(1, HELD // max(prompts, players * players))
    found: list[Array] = []
    for start in range(0, resamples, width):
        rows = min(width, resamples - start)
        weight_RP = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=rows).astype(np.float64)
        found.append(_fitted((weight_RP @ won_PX).reshape(rows, players, players)))
    return np.concatenate(found)


def _fitted(won_RII: Array) -> Array:
    """Scores [R, I] that maximize the penalized likelihood of the wins of each player (row) over each, by Newton's
    method."""
    played_RII = won_RII + won_RII.transpose(0, 2, 1)
    score_RI = np.zeros(won_RII.shape[:2])
    own = np.eye(won_RII.shape[1])
    for _ in range(STEPS):
        p_RII = 0.5 * (1 + np.tanh(0.5 * (score_RI[:, :, None] - score_RI[:, None, :])))
        slope_RI = (won_RII - played_RII * p_RII).sum(2) - PENALTY * score_RI
        curve_RII = played_RII * p_RII * (1 - p_RII)
        bend_RII = own * (curve_RII.sum(2)[:, :, None] + PENALTY) - curve_RII
        step_RI = np.linalg.solve(bend_RII, slope_RI[:, :, None])[:, :, 0]
        score_RI = score_RI + step_RI / np.maximum(1.0, abs(step_RI).max(1, keepdims=True) / FAR)
        if abs(step_RI).max() < NEAR:
            break
    return score_RI


def _groups(won_II: Array) -> list[int]:
    """The group of each player, numbered from 0 in order of first appearance."""
    met, groups = (won_II + won_II.T) > 0, [-1] * len(won_II)
    for first in range(len(groups)):
        if groups[first] < 0:
            number, open_players = max(groups) + 1, [first]
            while open_players:
                player = open_players.pop()
                if groups[player] < 0:
                    groups[player] = number
                    open_players += [other for other in range(len(groups)) if met[player, other]]
    return groups
