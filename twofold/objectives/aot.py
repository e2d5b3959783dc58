"""Alignment via optimal transport (AOT): compares sorted values of a whole step instead of single pairs. The
distribution of the better side should exceed the other one at every quantile (stochastic dominance).

Melnyk, Mroueh, Belgodere, Rigotti, Nitsure, Yurochkin, Greenewald, Navratil and Ross 2024, "Distributional Preference
Alignment of LLMs via Optimal Transport", arXiv:2406.05882.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Term, WithReference
from twofold.objectives.pair_losses import smoothed
from twofold.objectives.pairs import Pairs, sums
from twofold.settings import require, settings


@settings
class AOT(WithReference):
    """−log σ(β·[k-th smallest value of the better side − k-th smallest value of the worse side]), over all ranks k of a
    step.

    paired compares chosen − rejected under the policy (better) with chosen − rejected under the reference (worse).
    unpaired compares the log-ratios of chosen with those of rejected. With a single pair both are DPO.
    """

    kind: Literal["aot"] = "aot"
    form: Literal["paired", "unpaired"] = "paired"
    """What is sorted. paired: the differences within pairs. unpaired: chosen and rejected separately."""
    label_smoothing: float = 0.0
    """Assumed share of pairs with a wrong label."""

    couples = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.label_smoothing < 0.5, "label_smoothing must be in [0, 0.5)")

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """The loss of a rank is assigned to the pair whose difference (unpaired: whose chosen) has that rank."""
        pairs = Pairs.of(outputs, batch)
        ahead, behind = pairs.logratio.chosen, pairs.logratio.rejected
        if self.form == "paired":
            reference = sums(batch.token_columns["ref_logp"].to(ahead.dtype), batch)
            ahead, behind = pairs.logp.margin, reference.margin
        rank_P = ahead.argsort(stable=True).argsort()
        margin_P = self.beta * (ahead - behind[behind.argsort()][rank_P])
        loss_P = smoothed(margin_P, self.label_smoothing)
        seen = pairs.metrics(self.beta * pairs.logratio)
        return Loss({"aot": Term(loss_P, "pair")}, seen | {"quantile_margin": Term(margin_P.detach(), "pair")})
