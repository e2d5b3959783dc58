"""Checks of a whole source beyond the plain ones: each sees every usable row once, and reports at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twofold.data.contamination import Contamination, EvaluationPrompts
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.near import NearDuplicates, NearPrompts
from twofold.data.repeats import Overlap
from twofold.data.scores import LowMargins
from twofold.data.scripts import OtherScripts
from twofold.records import Record


class Look(Protocol):
    """One further check of a source."""

    def see(self, record: Record, row: Row) -> None:
        """See a record and the row that it was made of."""
        ...

    def faults(self, source: str) -> Iterable[Issue]:
        """What is wrong, when all rows were seen."""
        ...


@dataclass(frozen=True)
class Further:
    """Which further checks are made. `near` is the similarity from which rows are near-duplicates, None for no such
    check; `overlap` is the share of an evaluation prompt's n-grams from which a row is contaminated;
    `least_margin` is the difference of scores that a pair must have; `scripts` finds completions in another script
    than their prompt; `looks` are others."""

    near: float | None = None
    overlap: float = 0.5
    least_margin: float | None = None
    scripts: bool = False
    looks: tuple[Look, ...] = ()

    def made(self, compared: bool) -> tuple[Sequence[Look], Sequence[Look]]:
        """The looks at a source, and those at the one it is `compared` with, which must see all its rows before."""
        ours, theirs = list(self.looks), list[Look]()
        if self.near is not None:
            ours.append(NearDuplicates(self.near))
        if self.least_margin is not None:
            ours.append(LowMargins(self.least_margin))
        if self.scripts:
            ours.append(OtherScripts())
        if compared:
            evaluation = EvaluationPrompts()
            ours.append(Contamination(evaluation, self.overlap))
            theirs.append(evaluation)
            shared = Overlap()
            ours.append(shared)
            theirs.append(shared.other)
        if compared and self.near is not None:
            prompts = NearPrompts(self.near)
            ours.append(prompts)
            theirs.append(prompts.other)
        return ours, theirs
