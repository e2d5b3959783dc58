"""Near-duplicates: rows of a source that nearly repeat an earlier one, and prompts that another source nearly has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from twofold.data.digests import digest64
from twofold.data.grams import Grams, grams, prompt_words, words
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.scratch import Spool
from twofold.data.signatures import Signatures
from twofold.data.split import problem
from twofold.records import Record, Source, completion_fields, text_of

WORDS = 3
"""Words of an n-gram. Prompts are short: one changed word of 30 leaves 82% of the triples as they were."""
_FIELD = np.uint64(0x2545F4914F6CDD1D)


class NearDuplicates:
    """Rows whose prompt, and whose completions together, are nearly those of an earlier row."""

    def __init__(self, threshold: float) -> None:
        self._threshold, self._signatures, self._rows = threshold, Signatures(2), Spool(np.int64)

    def see(self, record: Record, row: Row) -> None:
        del row
        fields = completion_fields(record)
        sides = [
            grams(words(text_of(told)), WORDS) + np.uint64(place) * _FIELD for place, (_, told) in enumerate(fields)
        ]
        both = [_prompt(record), np.concatenate(sides) if sides else np.empty(0, np.uint64)]
        if any(map(len, both)):
            self._signatures.add(both, digest64((record.prompt, fields)))
            self._rows.append(record.source.row)

    def faults(self, source: str) -> Iterator[Issue]:
        for first, second, share in self._signatures.alike(self._threshold):
            reason = f"nearly repeats row {self._rows.at(first)}: about {share:.0%} of its word triples are the same"
            yield Issue(source, self._rows.at(second), "", reason, "remove one of them", "warning", "near-duplicate")


class NearPrompts:
    """Prompts that are nearly those of another source: `other` sees that one's rows, and this the rows behind."""

    def __init__(self, threshold: float) -> None:
        self._threshold, self._signatures, self._rows = threshold, Signatures(1), Spool(np.int64)
        self.other = _Before(self)

    def see(self, record: Record, row: Row) -> None:
        del row
        asked = _prompt(record)
        if len(asked):
            self._signatures.add([asked], digest64(problem(record)))
            self._rows.append(record.source.row)

    def faults(self, source: str) -> Iterator[Issue]:
        theirs = self.other.rows
        for first, second, share in self._signatures.alike(self._threshold, theirs) if theirs else ():
            place = Source(self.other.source, self._rows.at(first))
            reason = f"is nearly that of {place}: about {share:.0%} of its word triples are the same"
            remedy = "remove the row here or there"
            yield Issue(source, self._rows.at(second), "prompt", reason, remedy, "warning", "near-overlap")


class _Before:
    """The rows of the other source, which come first."""

    def __init__(self, of: NearPrompts) -> None:
        self._of, self.rows, self.source = of, 0, ""

    def see(self, record: Record, row: Row) -> None:
        self._of.see(record, row)
        self.rows, self.source = len(self._of._rows), record.source.file

    def faults(self, source: str) -> tuple[Issue, ...]:
        del source
        return ()


def _prompt(record: Record) -> Grams:
    return grams(prompt_words(record.prompt), WORDS)
