"""A reference that is a bias-corrected average of the policy's weights (BEMA).

Block and Zhang 2025, "EMA Without the Lag: Bias-Corrected Iterate Averaging Schemes", arXiv:2508.00180, algorithm 1:
μ ← (1 − β_t)·μ + β_t·θ_t with β_t = (ρ + γ·t)^(−κ), and the average is μ + α_t·(θ_t − θ_0) with α_t = (ρ + γ·t)^(−η).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from twofold.batch import Group
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.settings import require, settings
from twofold.world import part_of


@settings
class Bema:
    """Powers of the bias-corrected average. The defaults are those of TRL."""

    ema_power: float = 0.5
    """κ. The weight of the policy in the running mean falls as t^(−κ). 0 keeps no history."""
    bias_power: float = 0.2
    """η. The weight of the correction falls as t^(−η). A large value leaves the running mean as it is."""
    lag: float = 10.0
    """ρ, added to the steps."""
    multiplier: float = 1.0
    """γ, a factor of the steps."""

    def __post_init__(self) -> None:
        require(self.ema_power >= 0 and self.bias_power >= 0, "ema_power and bias_power must be ≥ 0")
        require(self.lag >= 1 and self.multiplier >= 0, "lag must be ≥ 1 and multiplier ≥ 0")

    def weights(self, steps: int) -> tuple[float, float]:
        """β_t and α_t after this number of steps, each at most 1."""
        age = self.lag + self.multiplier * steps
        return age**-self.ema_power, age**-self.bias_power


class Follower(Protocol):
    """A reference with the policy's first weights: a copy of all of them, or of the adapter."""

    @property
    def copies(self) -> list[Policy]: ...

    def moves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name → (reference, policy) for each weight that moves."""
        ...

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]: ...

    def activated(self) -> AbstractContextManager[PreTrainedModel]: ...


class BemaReference:
    """A reference with the policy's first weights that becomes their average every `sync_every` steps. It holds the
    running mean and the first weights in addition. Of an adapter, it averages the adapter's own weights."""

    name = "bema-reference"

    def __init__(self, reference: Follower, how: Bema, sync_every: int) -> None:
        self.reference, self.how, self.sync_every = reference, how, sync_every
        self._start: dict[str, Tensor] = {}
        self._mean: dict[str, Tensor] = {}

    @property
    def copies(self) -> list[Policy]:
        return self.reference.copies

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        return self.reference.logps(groups, packing)

    def activated(self) -> AbstractContextManager[PreTrainedModel]:
        return self.reference.activated()

    def _moves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Reference and policy of each weight. The first weights and the mean are made of the reference's: until the
        first update it has the policy's first weights."""
        moves = self.reference.moves()
        if not self._start:
            self._start = {name: weight.detach().clone() for name, (weight, _) in moves.items()}
            self._mean = {name: weight.detach().clone() for name, (weight, _) in moves.items()}
        return moves

    def tensors(self) -> dict[str, Tensor]:
        moving = {name: reference.detach() for name, (reference, _) in self._moves().items()}
        parts = {"reference": moving, "start": self._start, "mean": self._mean}
        return {f"{part}.{name}": value for part, held in parts.items() for name, value in held.items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        for name, mine in self.tensors().items():
            mine.copy_(part_of(tensors[name], mine))

    @torch.no_grad()
    def on_step_end(self, steps: int) -> None:
        """Average, where this is the step to."""
        if steps % self.sync_every:
            return
        beta, alpha = self.how.weights(steps)
        for name, (reference, moved) in self._moves().items():
            policy, mean = moved.detach().to(self._mean[name].dtype), self._mean[name]
            mean.lerp_(policy, beta)
            reference.copy_(mean + alpha * (policy - self._start[name]))
