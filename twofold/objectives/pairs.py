"""What every objective on pairs begins with: log-ratios of chosen and rejected, and the figures one watches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from twofold.batch import Batch, Outputs, Role
from twofold.objectives.base import Term, logps, logratios


@dataclass(frozen=True)
class Pairs:
    """Per pair [P] (suffix omitted): sums over the completion of log π and log π − log π_ref, and lengths in tokens."""

    chosen_logp: Tensor
    rejected_logp: Tensor
    chosen_logratio: Tensor
    rejected_logratio: Tensor
    chosen_length: Tensor
    rejected_length: Tensor

    @classmethod
    def of(cls, outputs: Outputs, batch: Batch) -> Pairs:
        """From the chosen and the rejected branch of every group; a group without both raises ValueError."""
        chosen, rejected = batch.of_role(Role.CHOSEN), batch.of_role(Role.REJECTED)
        if not torch.equal(batch.group_B[chosen], batch.group_B[rejected]):
            raise ValueError("every group needs one chosen and one rejected branch")
        logp_B = batch.sum(logps(outputs))
        logratio_B = batch.sum(logratios(outputs, batch))
        length_B = batch.length_B.to(logp_B.dtype)
        return cls(
            chosen_logp=logp_B[chosen],
            rejected_logp=logp_B[rejected],
            chosen_logratio=logratio_B[chosen],
            rejected_logratio=logratio_B[rejected],
            chosen_length=length_B[chosen],
            rejected_length=length_B[rejected],
        )

    def metrics(self, beta: float) -> dict[str, Term]:
        """Implicit rewards β·log-ratio, margin, strict accuracy, DPO's gradient weight σ(−margin), logps, lengths."""
        margin = (beta * (self.chosen_logratio - self.rejected_logratio)).detach()
        values = {
            "margin": margin,
            "accuracy": (margin > 0).to(margin.dtype),
            "gradient_weight": torch.sigmoid(-margin),
            "chosen_reward": beta * self.chosen_logratio,
            "rejected_reward": beta * self.rejected_logratio,
            "chosen_logp": self.chosen_logp,
            "rejected_logp": self.rejected_logp,
            "chosen_length": self.chosen_length,
            "rejected_length": self.rejected_length,
        }
        return {name: Term(value.detach(), "pair") for name, value in values.items()}
