"""The report of a run whose chosen completions became less likely."""

from __future__ import annotations

from twofold.analysis.displacement import FEWEST, Displacement, displacement
from twofold.models.reference import COLUMN
from twofold.runs.context import RunContext
from twofold.training.trainer import Trainer

EXPLAINED, COUNTED = 200, 1000  # rows that the policy evaluates again, and rows whose patterns are counted


def chosen_displacement(run: RunContext, trainer: Trainer) -> Displacement | None:
    """How the current policy differs from its reference on its first training rows. None without a reference, or if
    there is nothing to compare: labels, or too few rows."""
    fixed = run.algorithm.fixed_rows
    compared = COLUMN in run.objective.requires and run.objective.data_kind in ("pairs", "rankings")
    if fixed is None or not compared or len(fixed[0]) < FEWEST:
        return None
    rows, order = fixed
    others = [rows[i] for i in order.at(0, min(len(rows), COUNTED))]
    pairs, step = others[:EXPLAINED], trainer.step
    if not all(g.has(COLUMN) for g in pairs):
        pairs = step.providers[COLUMN](pairs)
    return displacement(run.language_model, pairs, others=others, text=run.encoder.text, packing=step.packing)
