"""People as judges: stores verdicts on pairs of completions at once, in a random order that hides the source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args

from twofold.data.transcripts import as_chat
from twofold.errors import DataError
from twofold.ledger import Lines, key
from twofold.records import Completion, Prompt, shown

Choice = Literal["first", "second", "tie", "skip"]


def swapped(seed: int, row: int) -> bool:
    """Whether the second completion of `row` is shown on the left: a fair coin of (seed, row)."""
    return bool(hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=1).digest()[0] & 1)


def content_key(prompt: Prompt, first: Completion, second: Completion) -> str:
    """The key of a comparison that is once in its file."""
    if not (isinstance(first, str) and isinstance(second, str)):
        prompt = as_chat(prompt)
    return key({"prompt": shown(prompt), "first": shown(first), "second": shown(second)})


def verdicts_path(out: Path) -> Path:
    """The file of verdicts from which the pairs of `out` are made."""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.verdicts.jsonl")


class HumanVerdicts:
    """The verdicts by a pair's key, in order. The file is append-only, so an undo is a line too."""

    def __init__(self, path: Path) -> None:
        self._given: dict[str, Choice] = {}
        numbers = count(1)
        self._lines = Lines(path, lambda row, place: self._replay(row, f"{path}:{next(numbers)}"))

    def __enter__(self) -> HumanVerdicts:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def __contains__(self, key: object) -> bool:
        return key in self._given

    def get(self, key: str) -> Choice | None:
        """The verdict on a pair, or None."""
        return self._given.get(key)

    def give(self, key: str, choice: Choice, **details: Any) -> None:
        """Stores a verdict. It is on disk when this returns."""
        self._lines.append([{"key": key, "choice": choice, **details}])
        self._given[key] = choice

    def undo(self) -> str | None:
        """Undoes the last verdict and returns its pair; None if there is none."""
        if not self._given:
            return None
        key = next(reversed(self._given))
        self._lines.append([{"key": key, "undone": True}])
        del self._given[key]
        return key

    def _replay(self, row: Mapping[str, Any], where: str) -> None:
        key, choice = row.get("key"), row.get("choice")
        if isinstance(key, str) and row.get("undone"):
            self._given.pop(key, None)
        elif isinstance(key, str) and choice in get_args(Choice) and choice is not None:
            self._given.pop(key, None)
            self._given[key] = choice
        else:
            raise DataError("is no verdict", where=where, remedy="remove the line, or name another --out")
