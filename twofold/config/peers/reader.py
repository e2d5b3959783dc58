"""A configuration of another trainer, read key by key: what the recipe takes, what has no effect here, what is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe

SECTIONS = ("model", "data", "algorithm", "objective", "reference", "sampling", "optimizer", "training", "run", "seed")


@dataclass(frozen=True)
class Lost:
    """One key that the recipe cannot express: its value there, and what the run does instead."""

    key: str
    value: Any
    reason: str


@dataclass
class Reader:
    """Takes keys from `values` and writes `recipe`. A key that nothing reads is in `unknown` in the end."""

    values: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    lost: list[Lost] = field(default_factory=list[Lost])
    _read: set[str] = field(default_factory=set[str])

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`: of the file, else the trainer's own default, else `default`."""
        self._read.add(key)
        value = self.values.get(key)
        return value if value is not None else self.defaults.get(key, default)

    def set(self, path: str, value: Any) -> None:
        """Write `value` at the dotted `path` of the recipe."""
        *parents, name = path.split(".")
        here = self.recipe
        for parent in parents:
            here = here.setdefault(parent, {})
        here[name] = value

    def carry(self, key: str, path: str, convert: Callable[[Any], Any] = lambda value: value) -> None:
        """Write the value of `key`, if there is one, at `path`."""
        if (value := self.get(key)) is not None:
            self.set(path, convert(value))

    def lose(self, key: str, reason: str, without_effect: tuple[Any, ...] = ()) -> None:
        """Report `key` as lost, unless it is absent or its value changes nothing."""
        value = self.get(key)
        if value is not None and value is not False and value not in without_effect:
            self.lost.append(Lost(key, value, reason))

    def words(self, key: str) -> list[str]:
        """The value of `key` as a list of texts: a list of any kind, a text with commas, or nothing."""
        value = self.get(key)
        if value is None:
            return []
        words = value.split(",") if isinstance(value, str) else list(value)
        return [str(word).strip() for word in words if str(word).strip()]

    def sections(self, key: str) -> list[dict[str, Any]]:
        """The value of `key` as a list of mappings. Raises TypeError where it is something else."""
        value: object = self.get(key) or []
        parts = cast("list[object]", value) if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise TypeError(f"{key} is no list of mappings")
        return cast("list[dict[str, Any]]", parts)

    def skip(self, *keys: str) -> None:
        """These keys change no result: logging, loading, hardware."""
        self._read.update(keys)

    @property
    def unknown(self) -> list[str]:
        return [key for key in self.values if key not in self._read]


@dataclass(frozen=True)
class Imported:
    """A recipe as YAML, with what it could not take from the other trainer's file."""

    text: str
    lost: tuple[Lost, ...]


def finish(reader: Reader, source: str) -> Imported:
    """The valid recipe of `reader`. Raises RecipeError where its values make none, such as without a model."""
    unknown = [key for key in reader.unknown if reader.values[key] is not None]
    lost = [*reader.lost, *(Lost(key, reader.values[key], "twofold has no such setting") for key in unknown)]
    validate(Recipe, Document(source, reader.recipe, {}))
    return Imported(yaml.safe_dump(reader.recipe, sort_keys=False, allow_unicode=True), tuple(lost))
