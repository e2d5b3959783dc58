"""What a shape is: the keys that tell it, and how a row of it becomes a record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from twofold.data.shapes.fields import Fields
from twofold.records import Record


def _always(row: Mapping[str, Any]) -> bool:
    return True


def _nothing(row: Mapping[str, Any]) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class Shape:
    """A way to keep rows. `keys` must be there, `optional` ones are read where they are; `fits` looks at the values
    where keys alone do not tell. `beside` names what else a row of this shape may hold."""

    name: str
    keys: tuple[str, ...]
    parse: Callable[[Fields], Record]
    optional: tuple[str, ...] = ()
    fits: Callable[[Mapping[str, Any]], bool] = _always
    beside: Callable[[Mapping[str, Any]], Collection[str]] = _nothing
