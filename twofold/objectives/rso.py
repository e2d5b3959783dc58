"""RSO's loss: the hinge on normalized likelihoods (hinge-norm), that is SLiC's hinge on DPO's margin.

Liu, Zhao, Joshi, Khalman, Saleh, Liu and Liu 2023, "Statistical Rejection Sampling Improves Preference Optimization",
arXiv:2309.06657.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term
from twofold.objectives.pair_losses import hinge
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class RSO(Objective):
    """max(0, 1 − γ·[log-ratio of chosen − log-ratio of rejected])."""

    kind: Literal["rso"] = "rso"
    gamma: float = 0.05
    """1/γ is the margin, in nats of log-ratio, beyond which a pair has no gradient."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.gamma > 0, "gamma must be > 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.gamma * pairs.logratio
        return Loss({"rso": Term(hinge(reward.margin), "pair")}, pairs.metrics(reward))
