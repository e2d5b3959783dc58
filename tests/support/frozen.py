"""Which dataclasses of a room can be changed after they are made."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any


def changeable(room: ModuleType) -> set[str]:
    """Names of the dataclasses of `room` that are not frozen."""
    found: set[str] = set()
    for module in pkgutil.iter_modules(room.__path__):
        members: dict[str, Any] = vars(importlib.import_module(f"{room.__name__}.{module.name}"))
        found |= {
            name
            for name, member in members.items()
            if isinstance(member, type)
            and is_dataclass(member)
            and member.__module__ == f"{room.__name__}.{module.name}"
            and not member.__dataclass_params__.frozen  # type: ignore[attr-defined]  # every dataclass has them
        }
    return found
