"""The scripts of texts, and completions that are in another one than their prompt: most often in a wrong language."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.scratch import Spool
from twofold.data.split import prompt_key
from twofold.records import Record, completion_fields, text_of

LETTERS = 400
"""Characters of a text that its script is found by."""
_FEW = 20
"""Letters below which the script of a text is no evidence of its language."""
_LITTLE = 0.1
"""The share of the prompt's script up to which a completion is in another one: names and code stay as they are."""
_ONE = {"HIRAGANA": "JAPANESE", "KATAKANA": "JAPANESE"}
_TOGETHER = {"Cjk", "Japanese"}


def main_script(text: str) -> str:
    """The script that most letters of a text are of; empty where it has no letters."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else ""
    found = scripts_of(text)
    return found.most_common(1)[0][0] if found else ""


def scripts_of(text: str) -> Counter[str]:
    """How many letters of a text are of each script."""
    return Counter(map(_script_of, filter(str.isalpha, text)))


@lru_cache(1 << 14)
def _script_of(letter: str) -> str:
    name = unicodedata.name(letter, "unknown").split(" ")[0].split("-")[0]
    return _ONE.get(name, name).title()


class OtherScripts:
    """Completions in another script than their prompt, or, behind an empty prompt, than the first completion."""

    def __init__(self) -> None:
        self._found = Spool([("row", np.int64), ("place", np.int64), ("theirs", "U24"), ("ours", "U24")])
        self._fields: dict[str, int] = {}

    def see(self, record: Record, row: Row) -> None:
        prompt = record.prompt if isinstance(record.prompt, str) else prompt_key(record.prompt)
        known = completion_fields(record)
        expected, begin = _known(prompt), 0
        if not expected and known:
            expected, begin = _known(text_of(known[0][1])), 1
        for field, completion in known[begin:] if expected else ():
            other = _other(text_of(completion), expected)
            if other:
                place = self._fields.setdefault(field, len(self._fields))
                self._found.append((record.source.row, place, other, expected))

    def faults(self, source: str) -> Iterator[Issue]:
        names = list(self._fields)
        remedy = "remove the row if the language is wrong; translations are in another script by right"
        for block in self._found.blocks():
            for row, place, theirs, ours in block.tolist():
                reason = f"is in {theirs} letters, the text that it belongs to in {ours} ones"
                yield Issue(source, row, names[place], reason, remedy, "warning", "other script")


def _known(text: str) -> str:
    """The script of a text with enough letters, else none."""
    some = text[:LETTERS]
    return main_script(some) if sum(map(str.isalpha, some)) >= _FEW else ""


def _other(text: str, expected: str) -> str:
    """The script of a text that is not in the `expected` one, else none."""
    some = text[:LETTERS]
    if expected == "Latin" and some.isascii():
        return ""
    found = scripts_of(some)
    letters = found.total()
    same = sum(found[name] for name in (_TOGETHER if expected in _TOGETHER else {expected}))
    return found.most_common(1)[0][0] if letters >= _FEW and same <= _LITTLE * letters else ""
