"""Alignment via optimal transport (AOT): compares sorted values of a whole step instead of single pairs. The
distribution of the better side should exceed the other one at every quantile (stochastic dominance).

Melnyk, Mroueh, Belgodere, Rigotti, Nitsure, Yurochkin, Greenewald, Navratil and Ross 2024, "Distributional Preference
Alignment of LLMs via Optimal Transport", arXiv:2406.05882.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

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
        weight_P = batch.weights("pair")
        if weight_P is None:
            rank_P = ahead.argsort(stable=True).argsort()
            margin_P = self.beta * (ahead - behind[behind.argsort()][rank_P])
            loss_P = smoothed(margin_P, self.label_smoothing)
        else:
            margin_P, loss_P = self._by_weight(ahead, behind, weight_P.to(ahead.dtype))
        seen = pairs.metrics(self.beta * pairs.logratio)
        return Loss({"aot": Term(loss_P, "pair")}, seen | {"quantile_margin": Term(margin_P.detach(), "pair")})

    def _by_weight(self, ahead: Tensor, behind: Tensor, weight_P: Tensor) -> tuple[Tensor, Tensor]:
        """Margins and losses of pairs that are quantiles as wide as their weights: where the quantile of a pair meets
        several of the other side, the mean over them."""
        better_P, worse_P = ahead.argsort(stable=True), behind.argsort()
        ends = weight_P[better_P].cumsum(0), weight_P[worse_P].cumsum(0)
        cut_I = torch.cat(ends).sort().values
        width_I = cut_I.diff(prepend=cut_I.new_zeros(1))
        middle_I, last = cut_I - width_I / 2, len(ahead) - 1
        found = zip((better_P, worse_P), ends, strict=True)
        i, j = (order[torch.searchsorted(end, middle_I).clamp(max=last)] for order, end in found)
        margin_I = self.beta * (ahead[i] - behind[j])
        share_I = width_I / weight_P[i].clamp(min=torch.finfo(weight_P.dtype).tiny)
        nothing_P = torch.zeros_like(ahead)
        of_pairs = (share_I * margin_I, share_I * smoothed(margin_I, self.label_smoothing))
        margin_P, loss_P = (nothing_P.index_add(0, i, value_I) for value_I in of_pairs)
        return margin_P, loss_P
