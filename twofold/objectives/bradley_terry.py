"""The Bradley–Terry loss of a reward model, over all pairs of a prompt's K completions.

Ouyang et al. 2022, "Training language models to follow instructions with human feedback", arXiv:2203.02155, equation 1,
after Bradley and Terry 1952. Margin: Touvron et al. 2023 (Llama 2), arXiv:2307.09288, equation 2. Centering: Eisenstein
et al. 2023, "Helping or Herding?", arXiv:2312.09244.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, scores, trait
from twofold.objectives.comparisons import Comparisons
from twofold.objectives.pair_losses import logistic
from twofold.settings import require, settings


@settings
class BradleyTerry(Objective):
    """−log σ(s of the better − s of the worse − margin), averaged over the pairs within each prompt's ranking; s is the
    reward model's score."""

    kind: Literal["bradley_terry"] = "bradley_terry"
    margin: float | Literal["data"] = 0.0
    """Required lead of the better completion. data reads it from each row's `margin`."""
    centring: float = 0.0
    """Weight of (sum of a pair's scores)². It determines the constant that preferences leave open. 0.01 is common."""

    data_kind = "rankings"
    reads = "scores"
    margin_setting = "margin"

    def __post_init__(self) -> None:
        require(self.centring >= 0, "`centring` must be ≥ 0")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("margin",) if self.margin == "data" else ()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs, score_B = Comparisons.of(batch), scores(outputs)
        lead_C = pairs.lead(score_B)
        if self.margin == "data":
            lead_C = lead_C - batch.branch_columns["margin"][pairs.better_C].to(lead_C.dtype)
        else:
            lead_C = lead_C - self.margin
        terms = {"bradley_terry": Term(pairs.means(logistic(lead_C)), "group")}
        if self.centring:
            sum_C = score_B[pairs.better_C] + score_B[pairs.worse_C]
            terms["centring"] = Term(pairs.means(sum_C.square()), "group", self.centring)
        return Loss(terms, pairs.metrics(score_B))
