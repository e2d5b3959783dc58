"""Rows whose weights give every training file the share of the loss that it should have, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

from twofold.batch import WEIGHT, Group
from twofold.data.lazy import LazySequence, key
from twofold.data.settings import DataSource
from twofold.data.weights import Weights
from twofold.errors import DataError


class BalancedGroups(LazySequence[Group]):
    """Groups with a weight by their file, in addition to their own."""

    def __init__(self, of: Sequence[Group], factors: Mapping[str, float]) -> None:
        self.of, self.factors = of, factors
        self.key = sha256(f"{key(of)} {sorted(factors.items())}".encode()).hexdigest()[:32]

    def __len__(self) -> int:
        return len(self.of)

    def at(self, place: int) -> Group:
        group = self.of[place]
        weight = (1.0 if group.weight is None else group.weight) * self.factors[_file(group)]
        return group.with_columns([{WEIGHT: weight}] * len(group.branches))


def balanced(groups: Sequence[Group], portions: Sequence[DataSource]) -> Sequence[Group]:
    """`groups` whose weights sum to the same in every file. Where files are sampled by weights, the mean weight is 1 in
    each of them instead, so that their shares of the loss are those of the sampling.

    Raises DataError for a single file, and for one without a row that counts.
    """
    if len(portions) < 2:
        what, remedy = "data.balance=sources needs several files", "leave it out"
        raise DataError(what, where=portions[0].file if portions else "data.train", remedy=remedy)
    known = {portion.file: Weights() for portion in portions}
    for group in groups:
        known[_file(group)].add(group.weight)
    empty = next((file for file, weights in known.items() if not weights.total), None)
    if empty is not None:
        raise DataError("no row of this file counts", where=empty, remedy="leave it out, or look at its weights")
    sampled = any(portion.weight is not None for portion in portions)
    share = len(groups) / len(known)
    factors = {file: (w.rows if sampled else share) / w.total for file, w in known.items()}
    made = BalancedGroups(groups, factors)
    return list(made) if isinstance(groups, list) else made


def _file(group: Group) -> str:
    return group.name.rpartition(":")[0]
