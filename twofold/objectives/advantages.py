"""Advantages from rewards, as pure functions without gradient. Rollouts store them as columns.

GAE: Schulman et al. 2015, arXiv:1506.02438. Leave-one-out: Kool, van Hoof and Welling 2019; Ahmadian et al. 2024
(RLOO), arXiv:2402.14740. Group mean and standard deviation: Shao et al. 2024 (GRPO), arXiv:2402.03300; without the
standard deviation: Liu et al. 2025 (Dr. GRPO), arXiv:2503.20783. KL in the reward and its controller: Ziegler et al.
2019, arXiv:1909.08593.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from twofold.objectives.base import Baseline, Scale

STD_FLOOR = 1e-4
"""Added to a group's standard deviation, as in the GRPO of TRL."""
VARIANCE_FLOOR = 1e-8
"""Added to the variance in whitening, as in the PPO of TRL."""


def kl_shaped(score_N: Tensor, kl_N: Tensor, coefficient: float) -> Tensor:
    """Reward R = score − β·KL of each completion: InstructGPT (arXiv:2203.02155), equation 2."""
    return score_N - coefficient * kl_N


def kl_shaped_tokens(score: float, kl_T: Tensor, coefficient: float) -> Tensor:
    """The same reward per token [T] of one completion: −β·KL of each token, plus the score at the last one."""
    reward_T = -coefficient * kl_T
    reward_T[-1] += score
    return reward_T


def without_stop(score_N: Tensor, truncated_N: Tensor, penalty: float) -> Tensor:
    """Scores, minus `penalty` for completions that did not stop."""
    return score_N - penalty * truncated_N.to(score_N.dtype)


@dataclass(frozen=True)
class Moments:
    """Running statistics of numbers: count, mean, and the sum of squared deviations from the mean."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def with_more(self, value_N: Tensor) -> Moments:
        """The statistics including new numbers, exact up to rounding (Chan, Golub and LeVeque 1983)."""
        more, mean = float(len(value_N)), value_N.mean().item()
        count, apart = self.count + more, mean - self.mean
        squares = (value_N - mean).square().sum().item() + apart**2 * self.count * more / count
        return Moments(count, self.mean + apart * more / count, self.squares + squares)

    def standard(self, value_N: Tensor) -> Tensor:
        """(number − mean) / standard deviation (with Bessel's correction); 0 if all numbers so far are equal."""
        variance = self.squares / (self.count - 1) if self.count > 1 else 0.0
        return (value_N - self.mean) / math.sqrt(variance) if variance else torch.zeros_like(value_N)


def gae(reward_T: Tensor, value_T: Tensor, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation over the tokens [T] of one completion: advantages, and returns = advantage +
    value. The value after the last token is 0."""
    advantage_T, after = torch.zeros_like(reward_T), 0.0
    following_T = torch.cat([value_T[1:], value_T.new_zeros(1)])
    surprise_T = reward_T + gamma * following_T - value_T
    for t in reversed(range(len(reward_T))):
        after = surprise_T[t] + gamma * lam * after
        advantage_T[t] = after
    return advantage_T, advantage_T + value_T


def whitened(value_N: Tensor) -> Tensor:
    """Normalizes to mean 0 and variance 1 (with Bessel's correction). A single value becomes 0."""
    if len(value_N) < 2:
        return torch.zeros_like(value_N)
    return (value_N - value_N.mean()) * (value_N.var() + VARIANCE_FLOOR).rsqrt()


def leave_one_out(reward_N: Tensor) -> Tensor:
    """Each reward minus the mean reward of its prompt's other completions; the results sum to 0. Raises ValueError for
    a single reward."""
    others = len(reward_N) - 1
    if others == 0:
        raise ValueError("leave_one_out needs two completions of a prompt")
    return (reward_N - reward_N.mean()) * ((others + 1) / others) if _differ(reward_N) else torch.zeros_like(reward_N)


def of_group(reward_N: Tensor, *, std: bool) -> Tensor:
    """Each reward minus its prompt's mean; with `std` divided by (standard deviation + 1e-4), with Bessel's correction.
    Equal rewards give 0."""
    if not _differ(reward_N):
        return torch.zeros_like(reward_N)
    centred_N = reward_N - reward_N.mean()
    return centred_N / (reward_N.std() + STD_FLOOR) if std else centred_N


def advantages_of(rewards: list[Tensor], baseline: Baseline, scale: Scale) -> list[Tensor]:
    """Advantages from a rollout's rewards [n] per prompt. The scale is the standard deviation of the rewards (group),
    or of the rewards minus the baseline without another shift (rollout)."""
    every_N = torch.cat(rewards)
    compared: list[Tensor] = []
    for reward_N in rewards:
        match baseline:
            case "none":
                advantage_N = reward_N
            case "group":
                advantage_N = of_group(reward_N, std=False)
            case "leave_one_out":
                advantage_N = leave_one_out(reward_N)
            case "rollout":
                advantage_N = reward_N - every_N.mean()
        if scale == "group":
            advantage_N = advantage_N / (reward_N.std() + STD_FLOOR) if _differ(reward_N) else advantage_N
        compared.append(advantage_N)
    if scale == "rollout" and len(every_N) > 1:
        wide = (torch.cat(compared).var() + VARIANCE_FLOOR).rsqrt()
        compared = [advantage_N * wide for advantage_N in compared]
    return compared


def adapted(coefficient: float, kl: float, target: float, samples: float, horizon: float) -> float:
    """The KL coefficient after n = `samples` completions of mean KL `kl`: ×(1 + clip(KL/target − 1, ±0.2)·n/horizon),
    Ziegler et al., section 2.2."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * samples / horizon)


def _differ(reward_N: Tensor) -> bool:
    return bool((reward_N != reward_N[0]).any())
