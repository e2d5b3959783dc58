"""A user's own objective in a recipe: `kind: "package.module:Class"`, imported only if `allow_code` is true."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, is_dataclass, make_dataclass
from typing import Any, cast

import pydantic

from twofold.config.sums import SUM, Place, sum_of
from twofold.config.validation_errors import explain
from twofold.errors import RecipeError
from twofold.objectives.base import Objective, PlainObjective, as_objective

KIND = ("objective", "kind")


def own_objective(section: Any, ours: pydantic.ValidatorFunctionWrapHandler, info: pydantic.ValidationInfo) -> Any:
    """The objective that an `objective` section names by module and class, a sum of several, or what was passed as a
    Python object, with all its traits. Otherwise one of `ours`.

    `info` has the earlier settings of the recipe (`allow_code`) and, as its context, the place of each key. Raises
    RecipeError for code that is not allowed, not found, or not an objective, and for settings that it does not have.
    """
    if isinstance(section, PlainObjective) and not isinstance(section, type):
        return as_objective(section)
    if isinstance(section, Mapping) and cast("Mapping[str, Any]", section).get("kind") == SUM:
        return sum_of(cast("Mapping[str, Any]", section), cast("Place", info.context or _nowhere))
    if not isinstance(section, Mapping) or ":" not in str(cast("Mapping[str, Any]", section).get("kind")):
        return ours(section)
    given = dict(cast("Mapping[str, Any]", section))
    kind, place = str(given.pop("kind")), cast("Place", info.context or _nowhere)
    if not info.data.get("allow_code"):
        raise RecipeError(
            f"objective.kind: this would import {kind.partition(':')[0]} and run its code",
            where=place(KIND),
            remedy="if you trust it, set allow_code: true in the recipe, or allow_code=true on the line",
        )
    cls = _find(kind, place(KIND))
    whole: Any = make_dataclass("whole", [("objective", cls, field())])
    data = {"objective": given}
    try:
        return as_objective(pydantic.TypeAdapter(whole).validate_python(data).objective)
    except pydantic.ValidationError as error:
        raise explain(error, whole, data, place) from None


def _nowhere(key: tuple[str | int, ...]) -> str:
    return ".".join(map(str, key))


def _find(kind: str, where: str) -> type[PlainObjective]:
    """The class that `kind` names, after a check that it is the settings class of an objective."""
    name, _, path = kind.partition(":")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # third-party code may raise anything when it is imported
        fault = f"objective.kind: {name} cannot be imported: {type(error).__name__}: {error}"
        missing = isinstance(error, ModuleNotFoundError) and name.startswith(str(error.name))
        remedy = "install it, or put its folder on PYTHONPATH" if missing else ""
        raise RecipeError(fault, where=where, remedy=remedy) from None
    cls = getattr(module, path, None)
    if not inspect.isclass(cls):
        classes = [n for n, member in vars(module).items() if inspect.isclass(member)]
        near = difflib.get_close_matches(path, classes, n=1)
        remedy = f"did you mean `{name}:{near[0]}`?" if near else ""
        raise RecipeError(f"objective.kind: {name} has no class {path!r}", where=where, remedy=remedy)
    if not (is_dataclass(cls) and hasattr(cls, "__pydantic_config__")):
        raise RecipeError(
            f"objective.kind: {path} is no settings class",
            where=where,
            remedy="put @settings (from twofold.settings) over it, so that its keys are checked",
        )
    if not issubclass(cls, cast("Any", Callable)) or not hasattr(cls, "requires"):
        raise RecipeError(
            f"objective.kind: {path} is no objective",
            where=where,
            remedy="it needs `requires` and a `__call__(outputs, batch)` that returns a Loss: docs/extend.md",
        )
    return cast("type[PlainObjective]", cls)


def own_kind(value: object) -> str | None:
    """The name in a recipe of a user's own objective; None for anything with its own `kind`."""
    if not isinstance(value, Objective) or type(value).__module__.startswith("twofold."):
        return None
    return f"{type(value).__module__}:{type(value).__qualname__}"
