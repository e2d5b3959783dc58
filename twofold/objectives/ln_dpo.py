"""Length-normalized DPO.

Lambert et al. 2024, "Tülu 3: Pushing Frontiers in Open Language Model Post-Training", arXiv:2411.15124, equation 6.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import mean
from twofold.objectives.pairs import Pairs
from twofold.settings import settings


@settings
class LNDPO(WithReference):
    """−log σ(β·[mean log-ratio of chosen − mean log-ratio of rejected]), means over tokens."""

    kind: Literal["ln_dpo"] = "ln_dpo"
    beta: float = 5.0
    """As in DPO, but applied to a mean per token: about DPO's β times the mean length."""

    margin_weighted = True

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        reward = self.beta * mean(pairs.logratio, pairs)
        return Loss({"ln_dpo": Term(logistic(reward.margin), "pair")}, pairs.metrics(reward))
