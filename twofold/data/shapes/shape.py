"""What a shape is: the keys that tell it, and how a row of it becomes a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twofold.data.shapes.fields import Fields
from twofold.records import Record


def _always(row: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True)
class Shape:
    """A way to keep rows. `keys` must be there, `optional` ones are read where they are; `fits` looks at the values
    where keys alone do not tell."""

    name: str
    keys: tuple[str, ...]
    parse: Callable[[Fields], Record]
    optional: tuple[str, ...] = ()
    fits: Callable[[Mapping[str, Any]], bool] = _always
