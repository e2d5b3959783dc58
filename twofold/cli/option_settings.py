"""Settings from options and `key=value`, whose faults name what was typed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from twofold.config.load import Document, overridden, validate
from twofold.config.validation_errors import Key
from twofold.errors import RecipeError

T = TypeVar("T")


def settings_of(
    type_: type[T], assignments: Sequence[str], verb: str, options: Mapping[str, tuple[str, Any]] | None = None
) -> T:
    """Settings of `assignments` over `options`: by setting, the option's name and its value, None if it is not set.

    Raises RecipeError at the option or the assignment that a fault is about; at `verb` if it is about none of them.
    """
    options = options or {}
    places: dict[Key, str] = {(setting,): name for setting, (name, value) in options.items() if value is not None}
    data = {setting: value for setting, (_, value) in options.items() if value is not None}
    document = overridden(Document(verb, data, places), assignments)
    try:
        return validate(type_, document)
    except RecipeError as error:
        if error.where != verb:
            raise
        typed = {str(key[-1]): place for key, place in document.places.items()}
        spelled = {setting: name for setting, (name, _) in options.items()}
        where = _first(error.what, typed) or _first(error.what, spelled) or verb
        raise RecipeError(error.what, where=where, remedy=error.remedy) from None


def _first(what: str, places: Mapping[str, str]) -> str | None:
    """The place of the setting that a message names first."""
    found = {place: re.search(rf"\b{re.escape(setting)}\b", what) for setting, place in places.items()}
    at = {place: match.start() for place, match in found.items() if match is not None}
    return min(at, key=lambda place: at[place], default=None)
