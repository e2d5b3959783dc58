"""Converts pydantic's list of errors to a short message: the place, the key, the fault and a suggestion."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import pydantic

from twofold.config import advice
from twofold.config.introspect import bare, entries, fields, inner, member
from twofold.config.renamed import renamed
from twofold.errors import RecipeError

Key: TypeAlias = tuple[str | int, ...]
MAX_LINES = 8
_LISTED = re.compile(r"\w+(, \w+)* and \w+(?= )")
_SEVERAL = re.compile(r"and \w+ ")


def explain(
    error: pydantic.ValidationError, type_: Any, data: Mapping[str, Any], place: Callable[[Key], str]
) -> RecipeError:
    """One error for all faults (at most ten lines), each at its `place`."""
    faults: dict[Key, RecipeError] = {}
    raws = error.errors(include_url=False)
    for raw in sorted(raws, key=lambda raw: raw["type"] == "string_type" and isinstance(raw["input"], Mapping)):
        spot = _locate(raw["loc"], type_, data)
        key, what, remedy = _describe(cast("Mapping[str, Any]", raw), spot, (type_, data))
        if raw["type"] == "value_error" and key == spot.key:
            key, what = _blamed(spot, what, place)
        what = f"{dotted(key)}: {what}" if key else what
        faults.setdefault(key, RecipeError(what, where=place(key), remedy=remedy))
    # A union has an error for each member. The member that was validated furthest is the one that was meant.
    deepest = [fault for key, fault in faults.items() if not any(k[: len(key)] == key != k for k in faults)]
    if len(deepest) == 1:
        return deepest[0]
    shown = list(map(str, deepest))
    while len("\n".join(shown).splitlines()) > MAX_LINES:
        shown.pop()
    rest = len(deepest) - len(shown)
    return RecipeError("\n".join([*shown, f"… and {rest} more"] if rest else shown), where="", remedy="")


def dotted(key: Key) -> str:
    """The key as an override writes it: `objective.beta`."""
    return ".".join(map(str, key))


@dataclass(frozen=True)
class _Spot:
    """The location of a fault: the key, its type, the type around it, the possible types around it, and its value."""

    key: Key
    type_: Any
    around: Any
    choices: Any
    value: Any


def _blamed(spot: _Spot, message: str, place: Callable[[Key], str]) -> tuple[Key, str]:
    """The key at fault of a message that begins with several (`a and b must …`), and the rest of the message: the one
    that is set, or that has a place of its own; the section's key if that is not clear."""
    listed = _LISTED.match(message)
    names = re.split(r", | and ", listed[0]) if listed else []
    if listed and set(fields(spot.type_)).issuperset(names):
        typed = [name for name in names if name in entries(spot.value)]
        placed = [name for name in typed if place((*spot.key, name)) != place(spot.key)]
        for clear in (typed, placed):
            if len(clear) == 1:
                rest = message[listed.end() :].strip()
                return (*spot.key, clear[0]), rest if rest.startswith("must ") else message
    return spot.key, message


def _locate(loc: Sequence[str | int], type_: Any, value: Any) -> _Spot:
    """The location in `value` of pydantic's `loc`, without the tags that name the members of a union."""
    key: Key = ()
    choices = around = whole = type_
    type_ = around = member(whole, value)
    for part in loc:
        if part in (here := entries(value)):
            value, around, choices = here[part], type_, whole
            whole = bare(inner(type_, part))
            key, type_ = (*key, part), member(whole, value)
    return _Spot(key, type_, around, choices, value)


def _describe(fault: Mapping[str, Any], spot: _Spot, whole: tuple[Any, Any]) -> tuple[Key, str, str]:
    """The key at fault, what is wrong with it and what to do, of one pydantic error."""
    key, value = spot.key, fault["input"]
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "…"
    match fault["type"]:
        case "missing" | "missing_keyword_only_argument" | "missing_argument":
            return (*key, fault["loc"][-1]), "missing", "give it in the recipe or as key=value"
        case "union_tag_invalid":
            kind: Any = cast("Mapping[str, Any]", value).get("kind") if isinstance(value, Mapping) else value.kind
            return ((*key, "kind"), *advice.of_kind(kind, spot.type_, dotted(key), whole[0]))
        case "unexpected_keyword_argument" | "extra_forbidden":
            if became := renamed(dotted(key)):
                return key, became, ""
            return key, *advice.of_key(key, spot.around, spot.choices, *whole)
        case "dataclass_type" | "model_attributes_type" | "union_tag_not_found":
            return key, f"expected a section of keys, not {shown}", advice.of_value(dotted(key), value, spot.type_)
        case "value_error":
            message = str(fault["msg"]).removeprefix("Value error, ")
            word, _, rest = message.partition(" ")
            first = word in fields(spot.type_) and not _SEVERAL.match(rest)
            return ((*key, word), rest.strip(), "") if first else (key, message, "")
        case _:
            message = f"{str(fault['msg']).removeprefix('Input ')}, not {shown}"
            return key, renamed(f"{dotted(key)}={value}") or message, ""
