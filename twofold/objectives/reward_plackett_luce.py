"""The Plackett–Luce loss of a reward model: the likelihood of a ranking (Plackett 1975, Luce 1959).

Rafailov et al. 2023, arXiv:2305.18290, equation 18 (with an explicit reward).
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, scores
from twofold.objectives.comparisons import Comparisons
from twofold.objectives.rankings import contests
from twofold.settings import settings


@settings
class RewardPlackettLuce(Objective):
    """−Σₖ log(e^{sₖ} / Σ_{j ≥ k} e^{sⱼ}) over the ranks k of a group, where s is the reward model's score. Tied
    completions are not compared. With two completions it is Bradley–Terry."""

    kind: Literal["reward_plackett_luce"] = "reward_plackett_luce"

    data_kind = "rankings"
    reads = "scores"

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs, score_B = Comparisons.of(batch), scores(outputs)
        loss_G = contests(score_B, pairs.worse_BB, batch)
        return Loss({"plackett_luce": Term(loss_G, "group")}, pairs.metrics(score_B))
