"""Log-ratios of chosen and rejected, and the metrics shared by all objectives on pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Loss, Term, WithReference, logps, logratios
from twofold.objectives.logratio_metrics import moved
from twofold.settings import settings


@dataclass(frozen=True)
class Sides:
    """A value of chosen and one of rejected for every pair, [P] each."""

    chosen: Tensor
    rejected: Tensor

    @property
    def margin(self) -> Tensor:
        """chosen − rejected [P]."""
        return self.chosen - self.rejected

    def map(self, function: Callable[[Tensor], Tensor]) -> Sides:
        return Sides(function(self.chosen), function(self.rejected))

    def __rmul__(self, factor: float) -> Sides:
        return Sides(factor * self.chosen, factor * self.rejected)

    def __truediv__(self, other: Sides) -> Sides:
        return Sides(self.chosen / other.chosen, self.rejected / other.rejected)


@dataclass(frozen=True)
class Pairs:
    """The pairs of a batch: log π and the log-ratio log π − log π_ref, per token [S] and summed over completions."""

    batch: Batch
    logp_S: Tensor
    logratio_S: Tensor
    logp: Sides
    logratio: Sides
    length: Sides
    """Lengths in tokens."""

    @classmethod
    def of(cls, outputs: Outputs, batch: Batch, *, reference: bool = True) -> Pairs:
        """From the chosen and the rejected branch of every group; raises ValueError for a group without both. Without
        `reference` the log-ratio is log π: the reference is uniform, and its constant is omitted."""
        if not torch.equal(batch.group_B[batch.of_role(Role.CHOSEN)], batch.group_B[batch.of_role(Role.REJECTED)]):
            raise ValueError("every group needs one chosen and one rejected branch")
        logp_S = logps(outputs)
        logratio_S = logratios(outputs, batch) if reference else logp_S
        return cls(
            batch=batch,
            logp_S=logp_S,
            logratio_S=logratio_S,
            logp=sums(logp_S, batch),
            logratio=sums(logratio_S, batch),
            length=sides(batch.length_B.to(logp_S.dtype), batch),
        )

    def wanted(self, setting: float | Literal["data"]) -> Tensor | float:
        """The margin that a loss asks for: one for all, or that of each row [P]."""
        if setting != "data":
            return setting
        return sides(self.batch.branch_columns["margin"].to(self.logp_S.dtype), self.batch).chosen

    def metrics(self, reward: Sides) -> dict[str, Term]:
        """Metrics of the `reward` that a method compares: margin, strict accuracy, DPO's gradient weight σ(−margin) and
        its standard deviation, and how far each side has moved."""
        margin = reward.margin.detach()
        told = {"reward": reward}
        told |= {name: sides(value_B, self.batch) for name, value_B in moved(self.logp_S, self.batch).items()}
        values = {"margin": margin, "accuracy": (margin > 0).to(margin.dtype)}
        values |= {f"chosen_{name}": side.chosen for name, side in told.items()}
        values |= {f"rejected_{name}": side.rejected for name, side in told.items()}
        metrics = {name: Term(value.detach(), "pair") for name, value in values.items()}
        return metrics | {"gradient_weight": Term(torch.sigmoid(-margin), "pair", spread=True)}


@settings
class OnPairRewards(WithReference):
    """Base of methods that compare the implicit rewards β·log-ratio of a pair. A subclass defines only `loss`."""

    def loss(self, reward: Sides) -> Tensor:
        """The loss of each pair [P]."""
        raise NotImplementedError

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio
        return Loss({self.kind: Term(self.loss(reward), "pair")}, pairs.metrics(reward))


def sides(value_B: Tensor, batch: Batch) -> Sides:
    """The entries of `value_B` of chosen and of rejected branches, in the order of their groups."""
    return Sides(value_B[batch.of_role(Role.CHOSEN)], value_B[batch.of_role(Role.REJECTED)])


def sums(value_S: Tensor, batch: Batch) -> Sides:
    """A per-token value summed over each completion."""
    return sides(batch.sum(value_S), batch)
