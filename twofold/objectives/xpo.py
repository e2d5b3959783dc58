"""Exploratory preference optimization (XPO): a preference loss plus α·log π(y') of a completion y' that the reference
model sampled. Lowering that probability is optimism about all other completions.

Xie, Foster, Krishnamurthy, Rosset, Awadallah and Rakhlin 2024, "Exploratory Preference Optimization: Harnessing
Implicit Q*-Approximation for Sample-Efficient RLHF", arXiv:2405.21046, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, as_objective, logps
from twofold.objectives.pairs import sums

OF_REFERENCE = "from_reference"
"""Column: 1 for a completion that the reference model sampled, 0 for the policy's own."""


@dataclass(frozen=True)
class XPO(Objective):
    """`base`, an objective on pairs, plus α times log π of the reference model's samples, summed over the
    completion."""

    base: Objective
    alpha: float

    def __post_init__(self) -> None:
        """Its traits are those of `base`, plus the column."""
        base = as_objective(self.base)
        traits = {name: getattr(base, name) for name in ("statistics", "couples", "remedy", "margin_weighted")}
        vars(self).update(traits, requires=(*self.base.requires, OF_REFERENCE))

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        loss = self.base(outputs, batch)
        logp_S = logps(outputs)
        of_reference_S = batch.branch_columns[OF_REFERENCE].to(logp_S.dtype)[batch.branch_S]
        drawn = sums(of_reference_S * logp_S, batch)
        return Loss({**loss.terms, "optimism": Term(drawn.chosen + drawn.rejected, "pair", self.alpha)}, loss.metrics)
