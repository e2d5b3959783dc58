"""`@settings`: a frozen, keyword-only dataclass whose unknown keys are errors. Each is in the module that it sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import getdoc, signature
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, dataclass_transform

from twofold.errors import RecipeError

_LISTS = ("models", "judges")
T = TypeVar("T", bound=type)
A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")
S = TypeVar("S")
P = ParamSpec("P")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: T) -> T:
    """Make `cls` a settings class. A validator (config/) reads `__pydantic_config__`; pydantic is not imported here."""
    cls.__pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}
    return dataclass(frozen=True, kw_only=True)(cls)


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` holds; for `__post_init__` of settings."""
    if not condition:
        raise ValueError(message)


def with_keywords(how: Callable[P, S]) -> Callable[[Callable[[A, B, S], R]], Callable[Concatenate[A, B, P], R]]:
    """Converts `call(a, b, how)`, where `how` is settings, into a call with their fields as keywords:
    `call(a, b, field=…)`."""

    def decorate(call: Callable[[A, B, S], R]) -> Callable[Concatenate[A, B, P], R]:
        own = list(signature(call).parameters.values())[:2]

        @wraps(call)
        def flat(*args: Any, **kwargs: Any) -> R:
            named = {each.name: kwargs.pop(each.name) for each in own[len(args) :] if each.name in kwargs}
            if len(args) + len(named) < len(own):
                raise TypeError(f"{call.__name__}() needs {own[0].name} and {own[1].name}")
            first, second, *rest = (*args, *named.values())
            if isinstance(first, str) and own[0].name in _LISTS:
                remedy = f"write [{first!r}]"
                raise RecipeError(f"{own[0].name} are a list of names", where=f"{call.__name__}()", remedy=remedy)
            return cast("Any", call)(first, second, cast("Any", how)(*rest, **kwargs))

        told = signature(call).replace(parameters=[*own, *signature(how).parameters.values()])
        several = [each for each in reversed(getattr(how, "__mro__", (how,))) if each is not object]
        flat.__doc__ = "\n\n".join(str(getdoc(each)) for each in (call, *several))
        flat.__signature__ = told  # type: ignore[attr-defined]  # what help() and inspect.signature read
        return flat

    return decorate
