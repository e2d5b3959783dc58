"""β-DPO: DPO whose β follows the mean reward difference of the batch.

Wu, Xie, Yang, Wu, Gao, Ding, Wang and He 2024, "β-DPO: Direct Preference Optimization with Dynamic β",
arXiv:2407.08639. Its filter of pairs is not part of this objective. `training/batch_beta.py` computes the column.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pairs import Pairs, sides
from twofold.settings import require, settings


@settings
class BetaDPO(WithReference):
    """−log σ(β_batch·[log-ratio of chosen − log-ratio of rejected]), β_batch = β·(1 + α·(mean of M − M₀)), M = β·that
    difference, and M₀ its running mean. β_batch has no gradient."""

    kind: Literal["beta_dpo"] = "beta_dpo"
    alpha: float = 0.6
    """How strongly β follows the batch. 0 is DPO."""
    momentum: float = 0.9
    """Decay per step of the running mean M₀, which begins at 0."""
    least: float = 0.001
    """Lower bound of β_batch."""

    requires = ("ref_logp", "batch_beta")
    constant = ("beta", "alpha", "momentum", "least")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "alpha must be ≥ 0")
        require(0 <= self.momentum < 1, "momentum must be in [0, 1)")
        require(0 < self.least <= self.beta, "least must be in (0, beta]")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        beta_P = sides(batch.branch_columns["batch_beta"].to(pairs.logp_S.dtype), batch).chosen
        reward = pairs.logratio.map(lambda logratio_P: beta_P * logratio_P)
        metrics = pairs.metrics(reward) | {"batch_beta": Term(beta_P, "pair")}
        return Loss({"beta_dpo": Term(logistic(reward.margin), "pair")}, metrics)
