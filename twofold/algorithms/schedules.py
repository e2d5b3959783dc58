"""Schedules for settings of an objective, such as β or DPO-Shift's f. They are functions of the step, without state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, cast

from twofold.errors import RecipeError
from twofold.objectives.base import Objective
from twofold.settings import require, settings


@settings
class Ramp:
    """A schedule from the setting's own value to `to`, and constant after that."""

    to: float
    over: float = 1.0
    """Length of the ramp: steps (> 1) or a fraction of all steps (≤ 1)."""
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        require(self.over > 0, "over must be > 0")

    def at(self, start: float, step: int, steps: int) -> float:
        """The value in `step` of `steps`: `start` in the first step, `to` in the ramp's last step."""
        length = (self.over if self.over > 1 else self.over * steps) - 1
        done = min(1.0, step / length) if length > 0 else 1.0
        share = done if self.shape == "linear" else (1 - math.cos(math.pi * done)) / 2
        return start + share * (self.to - start)


Ramps = Mapping[str, Ramp]
"""Setting of the objective → its ramp."""


def scheduled(objective: Objective, ramps: Ramps, step: int, steps: int) -> Objective:
    """`objective` with its settings in `step`. Raises RecipeError for an unknown setting or a value that it does not
    accept."""
    if not ramps:
        return objective
    known = _numbers(objective)
    for name in ramps:
        if name not in known:
            raise RecipeError(
                f"{type(objective).__name__} has no number called {name!r}",
                where=f"algorithm.ramp.{name}",
                remedy=f"it has {', '.join(known) or 'none'}",
            )
        if name in objective.constant:
            raise RecipeError(
                f"{type(objective).__name__} reads {name!r} once, before step 0: it cannot change during a run",
                where=f"algorithm.ramp.{name}",
                remedy=f"set objective.{name} and leave it out of the ramp",
            )
    now = {name: ramp.at(known[name], step, steps) for name, ramp in ramps.items()}
    try:
        return replace(cast("Any", objective), **now)
    except ValueError as error:
        what = f"leads to a value that {type(objective).__name__} refuses: {error}"
        raise RecipeError(what, where="algorithm.ramp", remedy="let `to` be a value that it takes") from error


def refuse_bad_ramps(objective: Objective, ramps: Ramps) -> None:
    """Raise RecipeError before the run for an error that would occur during the ramp."""
    for step in (0, 1):
        scheduled(objective, ramps, step, 2)


def _numbers(objective: Objective) -> dict[str, float]:
    if not is_dataclass(objective):
        return {}
    values = {f.name: getattr(objective, f.name) for f in fields(objective)}
    return {name: value for name, value in values.items() if isinstance(value, float)}
