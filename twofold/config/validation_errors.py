"""From pydantic's list of errors to a few lines for a person: where, which key, what is wrong, what was meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast, get_origin

import pydantic

from twofold.config.introspect import bare, fields, inner, is_choice, kinds, label, members, paths
from twofold.errors import RecipeError

Key: TypeAlias = tuple[str | int, ...]
MOST_FAULTS = 4


def explain(
    error: pydantic.ValidationError, type_: Any, data: Mapping[str, Any], place: Callable[[Key], str]
) -> RecipeError:
    """One error for all faults (at most ten lines), each at its `place`."""
    faults: dict[Key, RecipeError] = {}
    for fault in error.errors(include_url=False):
        spot = _locate(fault["loc"], type_, data)
        if spot is None:
            continue
        key, what, remedy = _say(cast("Mapping[str, Any]", fault), spot, type_)
        name = ".".join(map(str, key))
        faults.setdefault(key, RecipeError(f"{name}: {what}" if name else what, where=place(key), remedy=remedy))
    if len(faults) == 1:
        return next(iter(faults.values()))
    lines = [str(fault) for fault in list(faults.values())[:MOST_FAULTS]]
    rest = len(faults) - MOST_FAULTS
    return RecipeError("\n".join([*lines, f"… and {rest} more"] if rest > 0 else lines))


@dataclasses.dataclass(frozen=True)
class _Spot:
    """Where a fault is: the key, the type that stands there (of an unknown key: the settings around it), the value."""

    key: Key
    type_: Any
    value: Any


def _say(fault: Mapping[str, Any], spot: _Spot, type_: Any) -> tuple[Key, str, str]:
    """The key at fault, what is wrong with it and what to do, of one pydantic error."""
    key, owner = spot.key, spot.type_
    given = repr(fault["input"])
    given = given if len(given) <= 40 else given[:37] + "…"
    match fault["type"]:
        case "missing" | "missing_keyword_only_argument" | "missing_argument":
            return key, "missing", "give it in the recipe or as key=value"
        case _ if isinstance(spot.value, dict) and is_choice(owner):
            return _say_kind(spot)
        case "unexpected_keyword_argument" | "extra_forbidden":
            return key, "unknown key", _meant(str(key[-1]), fields(owner), type_)
        case "dataclass_type" | "model_attributes_type" | "union_tag_not_found":
            keys = fields(owner) or ["kind"]
            return key, f"expected a section of keys, not {given}", f"its keys are {_listed(keys)}"
        case "value_error":
            message = str(fault["msg"]).removeprefix("Value error, ")
            word = message.split(" ", 1)[0]
            return ((*key, word), message[len(word) :].strip(), "") if word in fields(owner) else (key, message, "")
        case _:
            message = str(fault["msg"]).removeprefix("Input ")
            return key, f"{message}, not {given}", ""


def _say_kind(spot: _Spot) -> tuple[Key, str, str]:
    known, key = [kind for member in members(spot.type_) for kind in kinds(member)], (*spot.key, "kind")
    given = spot.value.get("kind")
    if given is None:
        return key, "missing", f"one of {_listed(known)}"
    near = difflib.get_close_matches(str(given), known, n=1)
    return key, f"unknown kind {given!r}", f"did you mean `{near[0]}`?" if near else f"one of {_listed(known)}"


def _meant(word: str, siblings: Sequence[str], type_: Any) -> str:
    """A remedy for an unknown key: a sibling of nearly this name, or else the same name in another section."""
    if near := difflib.get_close_matches(word, siblings, n=1):
        return f"did you mean `{near[0]}`?"
    if elsewhere := next((path for path in paths(type_, ()) if path[-1] == word), None):
        return f"did you mean `{'.'.join(elsewhere)}`?"
    return f"the keys here are {_listed(siblings)}"


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:12])
    return shown + (", …" if len(words) > 12 else "")


def _locate(loc: tuple[str | int, ...], type_: Any, value: Any) -> _Spot | None:
    """The spot in the recipe that pydantic's `loc` means; None for the complaint of a union member never meant."""
    key: Key = ()
    for part in loc:
        type_ = bare(type_)
        choices = members(type_)
        if is_choice(type_):
            meant = next((m for m in choices if isinstance(value, Mapping) and _kind(value) in kinds(m)), None)
            if meant is None:
                break
            if part not in (*kinds(meant), label(meant)):
                return None
            type_ = meant
        elif len(choices) > 1:
            listed = next((m for m in choices if get_origin(m) is tuple), None) if isinstance(value, list) else None
            if listed is not None and not str(part).startswith("tuple"):
                return None
            type_ = listed or next((m for m in choices if label(m) == part), Any)
        else:
            owner, type_ = type_, inner(type_, part)
            key, value = (*key, part), _item(value, part)
            if type_ is None:
                return _Spot(key, owner, value)
    return _Spot(key, bare(type_), value)


def _kind(value: Any) -> Any:
    return cast("Mapping[str, Any]", value).get("kind")


def _item(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return cast("Mapping[str | int, Any]", data).get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(cast("list[Any]", data)):
        return cast("list[Any]", data)[part]
    return None
