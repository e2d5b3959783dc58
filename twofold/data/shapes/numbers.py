"""The numbers that a row of any format may have next to its texts: how much it counts, how sure it is, by how much the
better completion leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from twofold.data.keys import filled
from twofold.data.shapes.fields import Fields
from twofold.records import Demonstration, Labelled, Pair, Ranking, Record, Steps

NUMBERS = ("weight", "probability", "margin")
_OF: Mapping[type[Record], tuple[str, ...]] = {
    Pair: ("weight", "probability", "margin"),
    Ranking: ("weight", "margin"),
    Labelled: ("weight",),
    Demonstration: ("weight",),
    Steps: ("weight",),
}


def read_numbers(record: Record) -> tuple[str, ...]:
    """The keys that `with_numbers` reads for this kind of record."""
    return _OF.get(type(record), ())


def with_numbers(record: Record, row: Fields) -> Record:
    """`record` with the numbers of its row; faults go to `row`."""
    if row.row.keys().isdisjoint(NUMBERS):
        return record
    names = [name for name in read_numbers(record) if filled(row.row.get(name))]
    return replace(record, **{name: getattr(row, name)() for name in names}) if names else record
