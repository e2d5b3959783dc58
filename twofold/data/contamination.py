"""Contamination: how much of an evaluation prompt, in word n-grams, is in a row that is trained on."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.data.digests import digest64
from twofold.data.grams import Grams, grams, prompt_words, words
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.scratch import Spool
from twofold.data.split import problem
from twofold.records import Record, Source, completion_fields, text_of

WORDS = 8
"""Words of an n-gram."""
MOST = 1 << 22
"""N-grams of the evaluation source that are stored; of a larger one a half, a quarter … of them, by their hash."""
TEMPLATE_ROWS, TEMPLATE_SHARE = 10, 0.01
"""An n-gram in more evaluation prompts than both is part of a template, and not counted."""


class EvaluationPrompts:
    """The n-grams of the prompts of an evaluation source, each with its row."""

    def __init__(self) -> None:
        self._grams, self._holders = array("Q"), array("I")
        self._prompts = Spool([("row", np.int64), ("problem", np.uint64)])
        self._file, self.divisor = "", 1

    def see(self, record: Record, row: Row) -> None:
        del row
        found = np.unique(_prompt(record))
        self._grams.frombytes(self.counted(found).tobytes())
        self._holders.extend([len(self._prompts)] * (len(self._grams) - len(self._holders)))
        self._prompts.append((record.source.row, digest64(problem(record))))
        self._file = record.source.file
        if len(self._grams) > MOST:
            self._thin()

    def counted(self, found: Grams) -> Grams:
        """Those of `found` that are compared: all, until there are too many."""
        return found if self.divisor == 1 else found[found % np.uint64(self.divisor) == 0]

    def _thin(self) -> None:
        self.divisor *= 2
        every, holders = np.frombuffer(self._grams, np.uint64), np.frombuffer(self._holders, np.uint32)
        left = every % np.uint64(self.divisor) == 0
        self._grams, self._holders = array("Q", every[left].tobytes()), array("I", holders[left].tobytes())

    def faults(self, source: str) -> tuple[Issue, ...]:
        del source
        return ()

    def index(self) -> Index:
        """To be asked once, when all rows were seen; then only the index has the n-grams."""
        every, holders = np.frombuffer(self._grams, np.uint64), np.frombuffer(self._holders, np.uint32)
        self._grams, self._holders = array("Q"), array("I")
        new = _changes(holders)
        prompts, order = holders[new], np.argsort(every)
        holders = (np.cumsum(new, dtype=np.uint32) - np.uint32(1))[order]
        every = every[order]
        begins = np.flatnonzero(_changes(every)).astype(np.int32)
        counts = np.diff(begins, append=np.int32(len(every)))
        shown = counts <= max(TEMPLATE_ROWS, TEMPLATE_SHARE * len(self._prompts))
        sizes = np.bincount(holders[np.repeat(shown, counts)], minlength=len(prompts))
        return Index(every[begins[shown]], begins[shown], counts[shown], holders, sizes, prompts)

    def equal(self, prompt: int, record: Record) -> bool:
        """Whether the prompt with this index is the record's own."""
        return self._prompts.at(prompt)[1] == digest64(problem(record))

    def place(self, prompt: int) -> Source:
        """Where the prompt with this index is."""
        return Source(self._file, self._prompts.at(prompt)[0])


@dataclass(frozen=True)
class Index:
    """Where each n-gram is: of `grams[i]` in `prompts[holders[begins[i]:][:counts[i]]]`. `sizes` counts the n-grams of
    each of the `prompts`."""

    grams: Grams
    begins: NDArray[np.int32]
    counts: NDArray[np.int32]
    holders: NDArray[np.uint32]
    sizes: NDArray[np.int64]
    prompts: NDArray[np.uint32]

    def most(self, found: Grams) -> tuple[int, float]:
        """The prompt with the largest share of its n-grams among `found`, and that share; -1 where there is none."""
        if not len(self.grams):
            return -1, 0.0
        places = np.minimum(np.searchsorted(self.grams, found), len(self.grams) - 1)
        places = places[self.grams[places] == found].tolist()
        if not places:
            return -1, 0.0
        holders = np.concatenate([self.holders[self.begins[i] : self.begins[i] + self.counts[i]] for i in places])
        holder, shared = np.unique(holders, return_counts=True)
        shares = shared / self.sizes[holder]
        best = int(shares.argmax())
        return int(self.prompts[holder[best]]), float(shares[best])


class Contamination:
    """Rows that contain a large part of an evaluation prompt, in their prompt or completions.

    Prompts that are equal are an `overlap`, and not reported again.
    """

    def __init__(self, evaluation: EvaluationPrompts, threshold: float) -> None:
        self._evaluation, self._threshold = evaluation, threshold
        self._index: Index | None = None
        self._found = Spool([("row", np.int64), ("prompt", np.int64), ("share", np.float64)])

    def see(self, record: Record, row: Row) -> None:
        del row
        self._index = self._index or self._evaluation.index()
        asked, answers = prompt_words(record.prompt), completion_fields(record)
        fields = [grams(hashed, WORDS) for hashed in (asked, *(words(text_of(told)) for _, told in answers))]
        prompt, share = self._index.most(np.unique(self._evaluation.counted(np.concatenate(fields))))
        if share >= self._threshold and prompt >= 0 and not self._evaluation.equal(prompt, record):
            self._found.append((record.source.row, prompt, share))

    def faults(self, source: str) -> Iterator[Issue]:
        for row, prompt, share in chain.from_iterable(block.tolist() for block in self._found.blocks()):
            reason = (
                f"contains {share:.0%} of the {WORDS}-word sequences of the prompt at {self._evaluation.place(prompt)}"
            )
            remedy = "remove the row here or there: what was trained on is no test"
            yield Issue(source, row, "", reason, remedy, "warning", "contamination")


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where another value begins."""
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return new


def _prompt(record: Record) -> Grams:
    """The n-grams of a prompt; none of one that is shorter than an n-gram, which anything may contain."""
    hashed = prompt_words(record.prompt)
    return grams(hashed, WORDS) if len(hashed) >= WORDS else hashed[:0]
