"""What is wrong with a row, as data: raised where work must stop, collected where all of it should be seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Literal

from twofold.errors import DataError

Severity = Literal["error", "warning"]
Acceptable = Literal["chosen = rejected", "same rank", "contradiction"]
"""Errors of rows that can be read and trained on: people who disagree contradict each other."""
Texts = tuple[tuple[str, str], ...]
"""Every text of a row behind the name of its field."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem of a row. Training stops at an error. A row with a warning is trained on, but is probably a mistake.

    `row` counts from 1; 0 is the file as a whole. `field` is empty if no single field is the cause. `check` names the
    kind of problem, so that problems of one kind can be counted.
    """

    file: str
    row: int
    field: str
    reason: str
    remedy: str
    severity: Severity = "error"
    check: str = ""

    @property
    def where(self) -> str:
        """File, row and field, as an error names them."""
        place = f"{self.file}:{self.row}" if self.row else self.file
        return f"{place}, `{self.field}`" if self.field else place


class IssueError(DataError):
    """A fault that stops the work; `fault` is the same as data."""

    def __init__(self, fault: Issue) -> None:
        self.fault = fault
        super().__init__(fault.reason, where=fault.where, remedy=fault.remedy)


MOST_NAMES = 12
LONGEST_NAME = 60
_COMPARED = 500  # names at most that one is compared with


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The member of `known` that `name` is probably a typo of, if any is close; None for very long names."""
    short = (k for k in known if len(k) <= LONGEST_NAME)
    by_lower = {k.lower(): k for k in islice(short, _COMPARED)} if len(name) <= LONGEST_NAME else {}
    matches = get_close_matches(name.lower(), by_lower)
    return by_lower[matches[0]] if matches else None


def quoted(names: Iterable[str], most: int = MOST_NAMES) -> str:
    """Names as a sentence lists them: the first `most`, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(f"`{shortened(n)}`" for n in listed[:most]) + more


def shortened(name: str) -> str:
    """A name as a message can hold it: its first letters, without what a terminal would obey."""
    short = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    return short if short.isprintable() else short.encode("unicode_escape").decode()
