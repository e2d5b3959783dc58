"""Kullback–Leibler divergence KL(π ‖ π_ref): exact from full distributions, and estimated from tokens sampled from π.

Estimators: Schulman 2020, "Approximating KL Divergence", joschu.net/blog/kl-approx.html, of d = log π − log π_ref of a
token. All three estimate the same number, but have different gradients as a loss. For sequences it is the gradient of
the divergence at each token's prefix. No estimator in a loss has the gradient of the prefix's probability.

| | in a loss: E[∇k] | in a reward: E[k·∇log π] | ∇E[k] |
|---|---|---|---|
| k1 | 0 | ∇KL(π ‖ π_ref) | ∇KL(π ‖ π_ref) |
| k2 | ∇KL(π ‖ π_ref) | ∇E[k2] − ∇KL(π ‖ π_ref): near the reference of second order only | their sum |
| k3 | ∇KL(π_ref ‖ π) | ∇KL(π ‖ π_ref) − ∇KL(π_ref ‖ π): the same | ∇KL(π ‖ π_ref) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor


def k1(logratio_S: Tensor) -> Tensor:
    """d: unbiased, of either sign. In a loss its expected gradient is 0. As a constant times ∇log π (in a reward) it
    gives ∇KL(π ‖ π_ref)."""
    return logratio_S


def k2(logratio_S: Tensor) -> Tensor:
    """d²/2: never negative, biased. In a loss its expected gradient is ∇KL(π ‖ π_ref), although its value is biased."""
    return 0.5 * logratio_S.square()


def k3(logratio_S: Tensor) -> Tensor:
    """e^−d − 1 + d: unbiased, never negative. In a loss its expected gradient is ∇KL(π_ref ‖ π), the reverse
    direction."""
    return torch.expm1(-logratio_S) + logratio_S


Estimator = Literal["k1", "k2", "k3"]
ESTIMATORS: Mapping[Estimator, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def entropy(logp_V: Tensor) -> Tensor:
    """−Σ p·log p over the last axis [..., V] of normalized log-probabilities, nats; A token of probability 0 adds 0."""
    return -_expected(logp_V, logp_V)


def divergence(logp_V: Tensor, other_V: Tensor) -> Tensor:
    """KL(p ‖ other) = Σ p·(log p − log other) over the last axis [..., V] of normalized log-probabilities, nats."""
    return _expected(logp_V, logp_V - other_V)


def _expected(logp_V: Tensor, value_V: Tensor) -> Tensor:
    """Σ p·value. A term with p = 0 is 0 even if its value is infinite."""
    return (logp_V.exp() * value_V.masked_fill(logp_V == -torch.inf, 0)).sum(-1)
