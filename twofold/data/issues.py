"""What is wrong with a row, as data: raised where work must stop, collected where all of it should be seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from twofold.errors import DataError

Severity = Literal["error", "warning"]
Acceptable = Literal["chosen = rejected", "same rank", "contradiction"]
"""Errors of rows that can be read and trained on: people who disagree contradict each other."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with a row. An error is refused by training; a warning trains, but is seldom what was meant.

    `row` counts from 1, 0 stands for the file as a whole; `field` is empty where no single field is to blame; `check`
    names the kind of fault, so that many of one kind can be counted.
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


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The member of `known` that `name` most probably stands for, if any is close."""
    by_lower = {k.lower(): k for k in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def quoted(names: Iterable[str]) -> str:
    """Names as a sentence lists them."""
    return ", ".join(f"`{n}`" for n in names)
