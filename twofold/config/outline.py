"""A check of settings without torch: `outline.json` describes the settings classes, and a document is checked against
classes made from it before large packages are imported.

`python scripts/make_recipe_page.py` writes the file from the real classes, and a test checks that it is current. Only
the real classes check values (`beta must be > 0`) and sections that do not fit each other. They do so later.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import pydantic

from twofold.config.advice import of_word
from twofold.config.introspect import is_choice, members
from twofold.config.load import Document, plain, validate

FILE = Path(__file__).with_name("outline.json")
SCALARS: Mapping[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "null": type(None)}
FAMILIES: Mapping[str, Any] = {"tuple": tuple, "mapping": Mapping}

Spelling: TypeAlias = "str | list[Any]"
"""A scalar or a section by its name, or a list that begins with `literal`, `one of`, `tuple` or `mapping`."""
Outline: TypeAlias = dict[str, dict[str, list[Any]]]
"""For each section its fields: the spelling of the type, and the default if there is one."""


def check(section: str, document: Document) -> None:
    """Raise RecipeError for unknown keys and kinds, missing keys and values of a wrong type in a `section`'s document.

    An objective of the user's own, and a sum of several, are left to the real classes.
    """
    objective = document.data.get("objective")
    kind = cast("dict[str, Any]", objective).get("kind") if isinstance(objective, dict) else None
    own = section == "Recipe" and (":" in str(kind) or kind == "sum")
    data = {key: value for key, value in document.data.items() if not (own and key == "objective")}
    validate(_classes()[section], dataclasses.replace(document, data=data))


def setting_path(section: str, word: str) -> str | None:
    """The path in a `section` of a key with this or a similar spelling."""
    return of_word(word, _classes()[section])


def outlined(types: Iterable[type]) -> Outline:
    """The outline of settings classes and all sections in them, inner ones first. Raises TypeError for a hint that it
    cannot spell, and for two sections of one name."""
    found: dict[str, tuple[type, dict[str, list[Any]]]] = {}
    for type_ in types:
        _outline(type_, found)
    return {name: fields for name, (_, fields) in found.items()}


def _outline(type_: type, found: dict[str, tuple[type, dict[str, list[Any]]]]) -> str:
    name = type_.__name__
    if name not in found:
        hints = get_type_hints(type_, include_extras=True)
        described = {f.name: [_spelling(hints[f.name], found), *_default(f)] for f in dataclasses.fields(type_)}
        found[name] = type_, described
    if found[name][0] is not type_:
        raise TypeError(f"two settings classes are called {name}")
    return name


def _spelling(hint: Any, found: dict[str, tuple[type, dict[str, list[Any]]]]) -> Spelling:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _outline(hint, found)
    if (scalar := next((name for name, type_ in SCALARS.items() if type_ is hint), None)) is not None:
        return scalar
    if len(choices := members(hint)) > 1:
        return ["one of", *(_spelling(choice, found) for choice in choices)]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ["literal", *arguments]
    family = next((name for name, type_ in FAMILIES.items() if origin is type_), None)
    if family is None:
        raise TypeError(f"no spelling for {hint}")
    return [family, *("..." if argument is ... else _spelling(argument, found) for argument in arguments)]


def _default(field: dataclasses.Field[Any]) -> list[Any]:
    if field.default is not dataclasses.MISSING:
        return [plain(field.default)]
    return [] if field.default_factory is dataclasses.MISSING else [plain(field.default_factory())]


@cache
def _classes() -> dict[str, type]:
    made: dict[str, type] = {}
    for name, fields in cast("Outline", json.loads(FILE.read_text(encoding="utf-8"))).items():
        members = [(key, _type(spelling, made), _field(default)) for key, (spelling, *default) in fields.items()]
        strict = {"__pydantic_config__": {"extra": "forbid"}}
        made[name] = dataclasses.make_dataclass(name, members, kw_only=True, frozen=True, namespace=strict)
    return made


def _type(spelling: Spelling, made: Mapping[str, type]) -> Any:
    if isinstance(spelling, str):
        return ... if spelling == "..." else made.get(spelling) or SCALARS[spelling]
    family, arguments = spelling[0], tuple(spelling[1:])
    if family == "literal":
        return Literal[arguments]
    inner = tuple(_type(argument, made) for argument in arguments)
    if family == "one of":
        union: Any = Union[inner]  # noqa: UP007 (made of a tuple)
        return Annotated[union, pydantic.Discriminator("kind")] if is_choice(union) else union
    return FAMILIES[family][inner]


def _field(default: list[Any]) -> Any:
    return dataclasses.field(default_factory=lambda: default[0]) if default else dataclasses.field()
