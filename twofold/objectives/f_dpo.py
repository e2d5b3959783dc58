"""f-DPO: DPO with another f-divergence. The implicit reward is β·f'(π/π_ref).

Wang, Jiang, Yang, Liu and Chen 2023, "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse
Divergence Constraints", arXiv:2309.16240.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Domain, Loss, Term, WithReference
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


def slope(logratio: Tensor, divergence: Divergence, alpha: float) -> Tensor:
    """f'(u) at log u, up to a constant that cancels in differences."""
    match divergence:
        case "reverse_kl":
            return logratio
        case "forward_kl":
            return -(-logratio).exp()
        case "js":
            return logsigmoid(logratio)
        case "alpha":
            return -(-alpha * logratio).exp() / alpha


@settings
class FDPO(WithReference):
    """−log σ(β·[f'(u of chosen) − f'(u of rejected)]), u = π/π_ref."""

    kind: Literal["f_dpo"] = "f_dpo"
    divergence: Divergence = "js"
    """Divergence from the reference model that regularizes training. reverse_kl is DPO."""
    alpha: float = 0.5
    """For the alpha-divergence only. Toward 0 it is the reverse KL, toward 1 the forward KL."""

    domain = Domain(logratio=80.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.alpha < 1, "alpha must be in (0, 1)")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * pairs.logratio.map(lambda x: slope(x, self.divergence, self.alpha))
        return Loss({"f_dpo": Term(logistic(reward.margin), "pair")}, pairs.metrics(reward))
