"""Values that nobody may change, of which many take little memory."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import FrozenInstanceError, fields, is_dataclass
from types import ModuleType
from typing import Any

import pytest


def refuse_changes(*values: Any, slots: bool = False) -> None:
    """Assert that no field of a dataclass's instances can be set; those with `slots` have no room for anything else."""
    for value in values:
        name = fields(value)[0].name
        before = getattr(value, name)
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, before)
        assert hasattr(value, "__dict__") != slots, type(value)


def changeable(room: ModuleType) -> set[str]:
    """Names of the dataclasses of `room` that are not frozen."""
    found: set[str] = set()
    for module in pkgutil.iter_modules(room.__path__):
        home = f"{room.__name__}.{module.name}"
        made = [m for m in vars(importlib.import_module(home)).values() if isinstance(m, type) and is_dataclass(m)]
        own: list[Any] = [m for m in made if m.__module__ == home]
        found |= {m.__name__ for m in own if not m.__dataclass_params__.frozen}
    return found
