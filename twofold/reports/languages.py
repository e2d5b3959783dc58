"""The pages' own texts in English and Chinese: `zh.yaml` holds the Chinese of each English text, with the same fields.

A `Phrase` is its English text and carries its Chinese one. A template writes both, and the page's switch shows one.
Names, prompts, answers, and the warnings of a run stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup

SPAN = Markup('<span data-zh="{}">{}</span>')


class Phrase(str):
    """An English text with its Chinese translation."""

    zh: str

    def __new__(cls, english: str, zh: str) -> Phrase:
        made = super().__new__(cls, english)
        made.zh = zh
        return made

    def __add__(self, other: str) -> Phrase:
        return Phrase(str(self) + str(other), self.zh + chinese(other))


@cache
def catalog() -> Mapping[str, str]:
    """Chinese by English text."""
    return yaml.safe_load(files("twofold.reports").joinpath("zh.yaml").read_text(encoding="utf-8"))


def phrase(text: str, **fields: Any) -> Phrase:
    """`text` in both languages, with its `{fields}`. A text that the catalog lacks is English in both."""
    if isinstance(text, Phrase):
        return text
    zh = catalog().get(text, text)
    if not fields:
        return Phrase(text, zh)
    return Phrase(text.format_map(fields), zh.format_map({name: chinese(value) for name, value in fields.items()}))


def chinese(value: Any) -> Any:
    """The Chinese of a phrase; anything else as it is."""
    return value.zh if isinstance(value, Phrase) else value


def both(value: Any) -> Any:
    """How a template writes a value: of a phrase both languages, escaped."""
    if isinstance(value, Phrase):
        return SPAN.format(value.zh, str(value)) if value.zh != str(value) else str(value)
    return value
