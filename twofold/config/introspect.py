"""The structure of settings classes: their fields, sections, choices by `kind`, and defaults."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def bare(type_: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    while get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    real = [m for m in members(type_) if m is not type(None)]
    return bare(real[0]) if len(real) == 1 and real[0] is not type_ else type_


def members(type_: Any) -> list[Any]:
    while get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    if get_origin(type_) not in (Union, types.UnionType):
        return [type_]
    return [m for member in get_args(type_) for m in members(member)]


def is_choice(type_: Any) -> bool:
    """Whether `type_` is a union whose members differ by their `kind`."""
    choices = members(type_)
    return len(choices) > 1 and any(kinds(choice) for choice in choices)


def kinds(type_: Any) -> tuple[str, ...]:
    """The values of `kind` that select this member of a union."""
    hints = get_type_hints(type_, include_extras=True) if dataclasses.is_dataclass(type_) else {}
    kind = hints.get("kind")
    return get_args(kind) if get_origin(kind) is Literal else ()


def member(type_: Any, value: Any) -> Any:
    """The member of a union for `value`: by its `kind`, or as its only section or list. Otherwise the type itself."""
    type_ = bare(type_)
    if isinstance(value, list):
        return next((m for m in members(type_) if get_origin(m) is tuple), type_)
    kind = entries(value).get("kind")
    sections = [m for m in members(type_) if dataclasses.is_dataclass(m)]
    alone = sections[0] if isinstance(value, Mapping) and len(sections) == 1 else type_
    return next((m for m in members(type_) if kind in kinds(m)), alone)


def entries(value: Any) -> Mapping[str | int, Any]:
    """The items of a mapping or a list, by key or by index; empty for anything else."""
    if isinstance(value, list):
        return dict(enumerate(cast("list[Any]", value)))
    return cast("Mapping[str | int, Any]", value) if isinstance(value, Mapping) else {}


def fields(type_: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(type_) if f.init] if dataclasses.is_dataclass(type_) else []


def paths(type_: Any, key: tuple[str, ...], value: Any = None) -> Iterator[tuple[str, ...]]:
    """Every key of a settings class, including sections and their fields. Of choices, only the member for `value`."""
    for choice in members(member(type_, value)):
        for name in fields(choice):
            yield (*key, name)
            yield from paths(inner(choice, name), (*key, name), entries(value).get(name))


def required(type_: Any) -> list[str]:
    """The fields that have no default."""
    missing = dataclasses.MISSING
    known = dataclasses.fields(type_) if dataclasses.is_dataclass(type_) else ()
    return [f.name for f in known if f.init and f.default is missing and f.default_factory is missing]


def inner(type_: Any, part: str | int) -> Any:
    """The type of a field, item or value of `type_`; None where there is no such field."""
    if dataclasses.is_dataclass(type_):
        return get_type_hints(type_, include_extras=True).get(str(part))
    arguments = [a for a in get_args(type_) if a is not Ellipsis]
    return arguments[-1] if arguments else Any


def completed(type_: Any, data: Any, default: Any = None) -> Any:
    """`data` with the missing keys of a section from that section's default instead of its class's default.

    So `evaluation.sampling.max_new_tokens=64` keeps the temperature of the recipe's own default, and
    `objective.beta=0.2` applies to the default objective. A choice that is not decided gets the `kind` None.
    """
    type_ = bare(type_)
    if isinstance(data, list):
        return [completed(inner(type_, i), value) for i, value in enumerate(cast("list[Any]", data))]
    if not isinstance(data, dict):
        return data
    given = cast("dict[str, Any]", data)
    base = _values(default) if given.get("kind", _kind(default)) == _kind(default) else {}
    kind = given.get("kind", base.get("kind"))
    if is_choice(type_):
        type_ = member(type_, {"kind": kind})
        if is_choice(type_):
            return {**given, "kind": kind}
    defaults = {**_defaults(type_), **base}
    return {**base, **{k: completed(inner(type_, k), value, defaults.get(k)) for k, value in given.items()}}


def _kind(default: Any) -> Any:
    return _values(default).get("kind")


def _values(default: Any) -> dict[str, Any]:
    if isinstance(default, Mapping):
        return dict(cast("Mapping[str, Any]", default))
    return {name: getattr(default, name) for name in fields(type(default))}


def _defaults(type_: Any) -> dict[str, Any]:
    """The default values of a settings class; only sections matter here."""
    if not dataclasses.is_dataclass(type_):
        return {}
    made = {
        f.name: f.default_factory() for f in dataclasses.fields(type_) if f.default_factory is not dataclasses.MISSING
    }
    return {**{f.name: f.default for f in dataclasses.fields(type_)}, **made}
