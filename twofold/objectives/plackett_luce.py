"""DPO on rankings, with the Plackett–Luce model.

Rafailov, Sharma, Mitchell, Ermon, Manning and Finn 2023, "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", arXiv:2305.18290, appendix A.3, equation 20.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference, logps, logratios
from twofold.objectives.rankings import below, contests, metrics
from twofold.settings import settings


@settings
class PlackettLuce(WithReference):
    """−Σₖ log(e^{rₖ} / Σ_{j ≥ k} e^{rⱼ}) over the ranks k of a group, r = β·log-ratio. Each completion is compared with
    all that rank below it. With two completions it is DPO. Groups may differ in size; the loss of a group is not
    divided by its size."""

    kind: Literal["plackett_luce"] = "plackett_luce"

    data_kind = "rankings"
    remedy = "a lower learning rate, or the best and worst of each ranking as pairs for dpo with nll=1"
    margin_weighted = True

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """Branches are in the order of their ranks. Raises ValueError for a group with a single branch."""
        worse_BB = below(batch)
        reward_B = self.beta * batch.sum(logratios(outputs, batch))
        loss_G = contests(reward_B, worse_BB, batch)
        seen = metrics(reward_B, logps(outputs), worse_BB, batch)
        return Loss({"plackett_luce": Term(loss_G, "group")}, seen)
