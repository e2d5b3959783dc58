"""Values that nobody may change, of which many take little memory."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
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
