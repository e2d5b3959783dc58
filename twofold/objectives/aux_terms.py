"""Auxiliary loss terms that a method adds to its preference loss. Each is an empty mapping if its weight is 0."""

from __future__ import annotations

from twofold.objectives.base import Term
from twofold.objectives.pairs import Pairs


def nll(pairs: Pairs, weight: float, *, per_token: bool = True) -> dict[str, Term]:
    """−log π(chosen), divided by its length with `per_token`. It keeps chosen likely, not only more likely than
    rejected."""
    if not weight:
        return {}
    value = -pairs.logp.chosen / pairs.length.chosen if per_token else -pairs.logp.chosen
    return {"nll": Term(value, "pair", weight)}
