"""`@settings`: a frozen, keyword-only dataclass whose unknown keys are errors. It lives beside what it sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T", bound=type)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: T) -> T:
    """Make `cls` a settings class; a validator (config/) reads `__pydantic_config__`, nothing here imports it."""
    cls.__pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}
    return dataclass(frozen=True, kw_only=True)(cls)


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` holds; for `__post_init__` of settings."""
    if not condition:
        raise ValueError(message)
