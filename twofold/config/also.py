"""The objective of `data.also`: a section that is read like `objective`."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from twofold.data.settings import DataBeside
from twofold.objectives import AnyObjective
from twofold.objectives.base import Objective
from twofold.settings import require


def also_objective(also: DataBeside) -> Objective:
    """Raises ValueError for a section that is no objective, or one that the step cannot take next to another."""
    adapter: Any = pydantic.TypeAdapter(Annotated[AnyObjective, pydantic.Discriminator("kind")])
    try:
        made: Objective = adapter.validate_python(dict(also.objective))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["data.also.objective", *map(str, first["loc"][1:])])
        raise ValueError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
    name = also.objective.get("kind")
    free = not made.requires and made.reads == "logps" and made.data_kind != "prompts" and not made.couples
    fits = "one without a reference model or rollouts, such as sft, dft, eaft, simpo or orpo"
    require(free, f"data.also.objective.kind: {name} does not fit: name {fits}")
    return made
