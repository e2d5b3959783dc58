"""The definition of a row format: the keys that identify it, and the function that makes a record of a row."""

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
    """A row format. `keys` are required, `optional` ones are read if present. `fits` checks the values if keys are not
    enough to identify the format. `beside` names other keys that a row of this format may have."""

    name: str
    keys: tuple[str, ...]
    parse: Callable[[Fields], Record]
    optional: tuple[str, ...] = ()
    fits: Callable[[Mapping[str, Any]], bool] = _always
    beside: Callable[[Mapping[str, Any]], Collection[str]] = _nothing
