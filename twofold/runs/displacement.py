"""What a run says of itself where its chosen completions fell."""

from __future__ import annotations

from twofold.algorithms import OfflineAlgorithm, PDPOAlgorithm
from twofold.analysis.displacement import FEWEST, Displacement, displacement
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN
from twofold.objectives.base import data_kind
from twofold.runs.context import RunContext
from twofold.training.trainer import Trainer

EXPLAINED, COUNTED = 200, 1000  # rows that the policy reads once more, and rows whose patterns are counted


def chosen_displacement(assembly: RunContext, loop: Trainer) -> Displacement | None:
    """How the policy as it is now stands to its reference on the first rows that `loop` trained on; None where there is
    no reference, or nothing to compare: labels, or hardly any rows."""
    algorithm = loop.algorithm.pairs if isinstance(loop.algorithm, PDPOAlgorithm) else loop.algorithm
    compared = COLUMN in assembly.objective.requires and data_kind(assembly.objective) in ("pairs", "rankings")
    if not isinstance(algorithm, OfflineAlgorithm) or not compared or len(algorithm.groups) < FEWEST:
        return None
    policy, rows = assembly.policy, algorithm.groups
    if not isinstance(policy, Policy):
        return None
    others = [rows[i] for i in algorithm.order.at(0, min(len(rows), COUNTED))]
    pairs = others[:EXPLAINED]
    if not all(g.has(COLUMN) for g in pairs):
        pairs = loop.step.providers[COLUMN](pairs)
    return displacement(policy, pairs, others=others, text=assembly.encoder.text, packing=loop.step.packing)
