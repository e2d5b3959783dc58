"""Direct preference optimization (DPO). It is also PDPO's discriminator.

Rafailov, Sharma, Mitchell, Ermon, Manning and Finn 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290, equation 7. Label smoothing is conservative DPO (Mitchell 2023, "A note on
DPO with noisy preferences"). With the weight `nll` it is the loss of Iterative RPO (Pang, Yuan, Cho, He, Sukhbaatar and
Weston 2024, arXiv:2404.19733, equation 1).
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.aux_terms import nll
from twofold.objectives.base import Loss, Term, WithReference, trait
from twofold.objectives.pair_losses import smoothed
from twofold.objectives.pairs import Pairs
from twofold.settings import require, settings


@settings
class DPO(WithReference):
    """−log σ(β·[log-ratio of chosen − log-ratio of rejected])."""

    kind: Literal["dpo"] = "dpo"
    label_smoothing: float = 0.0
    """Assumed share ε of pairs with a wrong label (cDPO). The optimal margin is then log((1 − ε)/ε)."""
    reference_free: bool = False
    """Use a uniform reference. No reference log-probabilities are computed."""
    nll: float = 0.0
    """Weight of −log π(chosen) per token. It helps if the log-probability of chosen falls."""

    remedy = "objective.nll=1"
    margin_weighted = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.label_smoothing < 0.5, "label_smoothing must be in [0, 0.5)")
        require(self.nll >= 0, "nll must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return () if self.reference_free else ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=not self.reference_free)
        reward = self.beta * pairs.logratio
        loss_P = smoothed(reward.margin, self.label_smoothing)
        return Loss({"dpo": Term(loss_P, "pair"), **nll(pairs, self.nll)}, pairs.metrics(reward))
