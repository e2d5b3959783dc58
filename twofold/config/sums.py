"""A sum of objectives in a recipe. Its parts are sections of objectives that also have `weight` and `on`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any, TypeAlias, cast

import pydantic

from twofold.config.introspect import entries
from twofold.config.validation_errors import explain
from twofold.errors import RecipeError
from twofold.objectives import AnyObjective
from twofold.objectives.sum import On, Sum, Summand
from twofold.settings import settings

Place: TypeAlias = Callable[[tuple[str | int, ...]], str]
SUM = "sum"


@settings
class _Share:
    """What a part has next to the settings of its objective."""

    weight: float = 1.0
    on: On | None = None


_SHARES = tuple(f.name for f in fields(_Share))


def sum_of(section: Mapping[str, Any], place: Place) -> Sum:
    """The sum that an `objective` section describes. Raises RecipeError for what is wrong with it or with its parts."""
    parts = section.get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in cast("list[Any]", parts)):
        remedy = "write parts: [{kind: dpo, weight: 0.8}, {kind: sft, weight: 0.2, on: chosen}]"
        raise RecipeError("objective.parts: expected a list of sections", where=place(("objective",)), remedy=remedy)
    if other := next((key for key in section if key not in ("kind", "parts")), None):
        what, remedy = f"objective.{other}: a sum has no such key", "give it to one of objective.parts"
        raise RecipeError(what, where=place(("objective", other)), remedy=remedy)
    listed = [dict(entries(part)) for part in cast("list[Any]", parts)]
    shares = [{key: part.pop(key) for key in _SHARES if key in part} for part in cast("list[dict[str, Any]]", listed)]
    objectives = _validated(Annotated[AnyObjective, pydantic.Discriminator("kind")], listed, place)
    known = _validated(_Share, shares, place)
    try:
        made = [Summand(objective=o, weight=s.weight, on=s.on) for o, s in zip(objectives, known, strict=True)]
        return Sum(parts=tuple(made))
    except ValueError as error:
        where, what = place(("objective", "parts")), f"objective.{error}"
        raise RecipeError(what, where=where, remedy="see docs/several-losses.md") from None


def part_section(part: Summand, plain: Callable[[object], Any]) -> dict[str, Any]:
    """A part as `sum_of` reads it."""
    on = {} if part.on is None else {"on": part.on}
    return {**plain(part.objective), "weight": part.weight, **on}


def _validated(type_: Any, listed: list[Any], place: Place) -> list[Any]:
    inside: Any = make_dataclass("inside", [("parts", tuple[type_, ...])])
    whole: Any = make_dataclass("whole", [("objective", inside, field())])
    data = {"objective": {"parts": listed}}
    try:
        return list(pydantic.TypeAdapter(whole).validate_python(data).objective.parts)
    except pydantic.ValidationError as error:
        raise explain(error, whole, data, place) from None
