"""Several training files as one stream of rows, each with the share that its weight asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twofold.batch import Group
from twofold.data.order import Mixture
from twofold.data.settings import DataSource
from twofold.data.stored_groups import StoredGroups
from twofold.errors import DataError
from twofold.progress import Progress


def mixture(portions: Sequence[DataSource], groups: Sequence[Group], seed: int, progress: Progress) -> Mixture | None:
    """The order of `groups` that the weights of `portions` ask for; None where they ask for none.

    Raises DataError where a file is left without a row, or its weight gives it none in an epoch.
    """
    weights = [p.weight for p in portions if p.weight is not None]
    if not weights:
        return None
    rows_of: dict[str, list[int]] = {p.file: [] for p in portions}
    for place, name in enumerate(_names(groups)):
        rows_of[name.rpartition(":")[0]].append(place)
    empty = next((file for file, rows in rows_of.items() if not rows), None)
    if empty is not None:
        raise DataError("no row of this file is left to train on", where=empty, remedy="leave it out, or look at it")
    mixed = Mixture(tuple(tuple(rows) for rows in rows_of.values()), tuple(weights), seed)
    for (file, rows), share in zip(rows_of.items(), mixed.shares, strict=True):
        if not share:
            raise DataError(f"its weight gives it no row in an epoch of {mixed.num}", where=file, remedy="raise it")
        told = f"{share / mixed.num:.1%} of the rows, {share / len(rows):.2f} passes an epoch"
        progress.note(f"mixture: {file}: {told}")
    return mixed


def _names(groups: Sequence[Group]) -> Iterable[str]:
    return groups.names() if isinstance(groups, StoredGroups) else (group.name for group in groups)
