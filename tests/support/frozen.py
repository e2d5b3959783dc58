"""Values that nobody may change, of which many take little memory."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import FrozenInstanceError, fields, is_dataclass
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


def dataclasses_of(package: Any) -> dict[str, type]:
    """Every dataclass that a module of `package` defines, by its name."""
    names = [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    members = [value for name in names for value in vars(importlib.import_module(name)).values()]
    made = [m for m in members if isinstance(m, type) and is_dataclass(m) and m.__module__ in names]
    return {cls.__name__: cls for cls in made}


def changeable(package: Any) -> set[str]:
    """Those whose members can be set."""
    known: dict[str, Any] = dataclasses_of(package)
    return {name for name, cls in known.items() if not cls.__dataclass_params__.frozen}


def slotted(package: Any) -> set[str]:
    """Those without a dictionary of their own: there are very many of them."""
    return {name for name, cls in dataclasses_of(package).items() if "__slots__" in vars(cls)}


def by_keyword(package: Any) -> set[str]:
    """Those with fields of their own, all of which are given by name."""
    own = {
        name: [field for field in fields(cls) if field.name in vars(cls).get("__annotations__", {}) and field.init]
        for name, cls in dataclasses_of(package).items()
    }
    return {name for name, several in own.items() if several and all(field.kw_only for field in several)}
