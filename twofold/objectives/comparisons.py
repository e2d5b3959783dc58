"""Comparisons and metrics shared by the objectives of reward models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from twofold.batch import Batch
from twofold.objectives.base import Term
from twofold.objectives.rankings import below

LEVEL = "level"
"""Column: the rank in a ranking, 0 for the best. Completions with equal values are tied."""


@dataclass(frozen=True)
class Comparisons:
    """All pairs of completions within the rankings of a batch, `better_C` over `worse_C` (indices of branches);
    `worse_BB` [B, B] (i, j) is true if completion j ranks below completion i. Tied completions are not compared."""

    batch: Batch
    worse_BB: Tensor
    better_C: Tensor
    worse_C: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Comparisons:
        """Raises ValueError for a group with branches that are not ranked, or whose branches are all tied."""
        worse_BB = below(batch)
        if LEVEL in batch.branch_columns:
            level_B = batch.branch_columns[LEVEL]
            worse_BB &= level_B[:, None] < level_B
        better_C, worse_C = worse_BB.nonzero(as_tuple=True)
        if int(torch.bincount(batch.group_B[better_C], minlength=len(batch.names)).min()) < 1:
            raise ValueError("every ranking needs completions that are not all tied")
        return cls(batch, worse_BB, better_C, worse_C)

    def lead(self, score_B: Tensor) -> Tensor:
        """The better completion's lead in each comparison [C]."""
        return score_B[self.better_C] - score_B[self.worse_C]

    def means(self, value_C: Tensor) -> Tensor:
        """The mean over the comparisons of each ranking [G]."""
        return self._means(value_C, self.better_C)

    def metrics(self, score_B: Tensor) -> dict[str, Term]:
        """Metrics of each ranking: strict accuracy over its comparisons, Kendall's τ, the difference best − worst, and
        the values and lengths of best and worst. Ties for best or worst use the mean."""
        score_B = score_B.detach()
        ahead_C = self.lead(score_B).sign()
        told = {"score": score_B, "length": self.batch.length_B.to(score_B.dtype)}
        best, worst = (~self.worse_BB.any(side) for side in (0, 1))
        ends = {
            f"{end}_{name}": self._means(value_B[of], of.nonzero().squeeze(1))
            for end, of in (("best", best), ("worst", worst))
            for name, value_B in told.items()
        }
        values = {
            "accuracy": self.means((ahead_C > 0).to(score_B.dtype)),
            "kendall_tau": self.means(ahead_C),
            "margin": ends["best_score"] - ends["worst_score"],
            **ends,
        }
        return {name: Term(value, "group") for name, value in values.items()}

    def _means(self, value_N: Tensor, of_N: Tensor) -> Tensor:
        """Means [G] of values of the branches `of_N`."""
        group_N, sums = self.batch.group_B[of_N], value_N.new_zeros(len(self.batch.names))
        return sums.index_add(0, group_N, value_N) / sums.index_add(0, group_N, torch.ones_like(value_N))
