"""Direct preference optimization (DPO). It is also PDPO's discriminator.

Rafailov, Sharma, Mitchell, Ermon, Manning and Finn 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290, equation 7. Label smoothing is conservative DPO (Mitchell 2023, "A note on
DPO with noisy preferences"). With an offset it is ODPO (Amini, Vieira and Cotterell 2024, "Direct Preference
Optimization with an Offset", arXiv:2402.10571). With the weight `nll` it is the loss of Iterative RPO (Pang, Yuan, Cho,
He, Sukhbaatar and Weston 2024, arXiv:2404.19733, equation 1).
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
    offset: float | Literal["data"] = 0.0
    """The reward difference that a pair should reach (ODPO). data reads it from each row's `margin`."""
    nll: float = 0.0
    """Weight of −log π(chosen) per token. It helps if the log-probability of chosen falls."""

    remedy = "objective.nll=1"
    margin_setting = "offset"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.label_smoothing < 0.5, "label_smoothing must be in [0, 0.5)")
        require(self.nll >= 0, "nll must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        reference = () if self.reference_free else ("ref_logp",)
        return (*reference, "margin") if self.offset == "data" else reference

    @trait
    def margin_weighted(self) -> bool:
        return self.offset == 0

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch, reference=not self.reference_free)
        reward = self.beta * pairs.logratio
        loss_P = smoothed(reward.margin - pairs.wanted(self.offset), self.label_smoothing)
        return Loss({"dpo": Term(loss_P, "pair"), **nll(pairs, self.nll)}, pairs.metrics(reward))
