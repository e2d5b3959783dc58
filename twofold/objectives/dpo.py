"""Direct Preference Optimization, Rafailov et al. 2023, arXiv:2305.18290, equation 7. PDPO's discriminator."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


def dpo_loss(margin_P: Tensor) -> Tensor:
    """−log σ(margin) per pair, where margin is the difference of implicit rewards."""
    return -logsigmoid(margin_P)


@settings
class DPO:
    """−log σ(β·[log-ratio of chosen − log-ratio of rejected])."""

    kind: Literal["dpo"] = "dpo"
    beta: float = 0.1
    """Strength of the pull towards the reference."""

    requires: ClassVar[tuple[str, ...]] = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        margin_P = self.beta * (pairs.chosen_logratio - pairs.rejected_logratio)
        return Loss({"dpo": Term(dpo_loss(margin_P), "pair")}, pairs.metrics(self.beta))
