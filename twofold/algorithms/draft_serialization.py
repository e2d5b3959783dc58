"""Serializes samples that later steps reuse as JSON: their tokens, and all their columns from sampling time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from twofold.batch import Branch, Role

Drafts: TypeAlias = Sequence[tuple[Branch, ...]]
"""Samples per task, in order."""


def dump_drafts(drafts: Drafts) -> list[list[dict[str, Any]]]:
    """`drafts` as JSON. Every number is restored bit for bit."""
    return [[_as_json(draft) for draft in row] for row in drafts]


def load_drafts(remembered: Sequence[Sequence[Mapping[str, Any]]]) -> Drafts:
    """The samples that `remember` serialized."""
    return [tuple(_from_json(draft) for draft in row) for row in remembered]


def _as_json(branch: Branch) -> dict[str, Any]:
    columns = {k: v.tolist() for k, v in branch.token_columns.items()}
    return {"tokens": branch.tokens.tolist(), "token_columns": columns, "columns": dict(branch.columns)}


def _from_json(told: Mapping[str, Any]) -> Branch:
    columns = {k: torch.tensor(v, dtype=torch.float64) for k, v in told["token_columns"].items()}
    return Branch(torch.tensor(told["tokens"], dtype=torch.int64), Role.DRAFT, columns, told["columns"])
