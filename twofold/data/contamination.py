"""Contamination: how much of an evaluation prompt, in word n-grams, is in a row that is trained on."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twofold.data.digests import digest64
from twofold.data.grams import Grams, grams, prompt_words, words
from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.split import problem
from twofold.records import Record, Source, completion_fields, text_of

WORDS = 8
"""Words of an n-gram."""
MOST = 1 << 23
"""N-grams of the evaluation source that are stored; of a larger one a half, a quarter … of them, by their hash."""
TEMPLATE_ROWS, TEMPLATE_SHARE = 10, 0.01
"""An n-gram in more evaluation prompts than both is part of a template, and not counted."""


class EvaluationPrompts:
    """The n-grams of the prompts of an evaluation source, each with its row."""

    def __init__(self) -> None:
        self._grams, self._holders = array("Q"), array("I")
        self._rows, self._problems = array("q"), array("Q")
        self._file, self.divisor = "", 1

    def see(self, record: Record, row: Row) -> None:
        del row
        found = np.unique(_prompt(record))
        self._grams.frombytes(self.counted(found).tobytes())
        self._holders.extend([len(self._rows)] * (len(self._grams) - len(self._holders)))
        self._rows.append(record.source.row)
        self._problems.append(digest64(problem(record)))
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
        """To be asked when all rows were seen."""
        every, holders = np.frombuffer(self._grams, np.uint64), np.frombuffer(self._holders, np.uint32)
        order = np.argsort(every, kind="stable")
        different, begins, counts = np.unique(every[order], return_index=True, return_counts=True)
        shown = counts <= max(TEMPLATE_ROWS, TEMPLATE_SHARE * len(self._rows))
        holders = holders[order]
        sizes = np.bincount(holders[np.repeat(shown, counts)], minlength=len(self._rows))
        return Index(different[shown], begins[shown], counts[shown], holders, sizes)

    def equal(self, prompt: int, record: Record) -> bool:
        """Whether the prompt with this index is the record's own."""
        return self._problems[prompt] == digest64(problem(record))

    def place(self, prompt: int) -> Source:
        """Where the prompt with this index is."""
        return Source(self._file, self._rows[prompt])


@dataclass(frozen=True)
class Index:
    """Where each n-gram is: of `grams[i]` in the prompts `holders[begins[i]:][:counts[i]]`. `sizes` counts the n-grams
    of each prompt."""

    grams: Grams
    begins: NDArray[np.int64]
    counts: NDArray[np.int64]
    holders: NDArray[np.uint32]
    sizes: NDArray[np.int64]

    def most(self, found: Grams) -> tuple[int, float]:
        """The prompt with the largest share of its n-grams among `found`, and that share; -1 where there is none."""
        if not len(self.grams):
            return -1, 0.0
        places = np.minimum(np.searchsorted(self.grams, found), len(self.grams) - 1)
        places = places[self.grams[places] == found].tolist()
        if not places:
            return -1, 0.0
        prompts = np.concatenate([self.holders[self.begins[i] : self.begins[i] + self.counts[i]] for i in places])
        prompt, shared = np.unique(prompts, return_counts=True)
        shares = shared / self.sizes[prompt]
        best = int(shares.argmax())
        return int(prompt[best]), float(shares[best])


class Contamination:
    """Rows that contain a large part of an evaluation prompt, in their prompt or completions.

    Prompts that are equal are an `overlap`, and not reported again.
    """

    def __init__(self, evaluation: EvaluationPrompts, threshold: float) -> None:
        self._evaluation, self._threshold = evaluation, threshold
        self._index: Index | None = None
        self._found = list[tuple[int, int, float]]()

    def see(self, record: Record, row: Row) -> None:
        del row
        self._index = self._index or self._evaluation.index()
        asked, answers = prompt_words(record.prompt), completion_fields(record)
        fields = [grams(hashed, WORDS) for hashed in (asked, *(words(text_of(told)) for _, told in answers))]
        prompt, share = self._index.most(np.unique(self._evaluation.counted(np.concatenate(fields))))
        if share >= self._threshold and prompt >= 0 and not self._evaluation.equal(prompt, record):
            self._found.append((record.source.row, prompt, share))

    def faults(self, source: str) -> Iterator[Issue]:
        for row, prompt, share in self._found:
            reason = (
                f"contains {share:.0%} of the {WORDS}-word sequences of the prompt at {self._evaluation.place(prompt)}"
            )
            remedy = "remove the row here or there: what was trained on is no test"
            yield Issue(source, row, "", reason, remedy, "warning", "contamination")


def _prompt(record: Record) -> Grams:
    """The n-grams of a prompt; none of one that is shorter than an n-gram, which anything may contain."""
    hashed = prompt_words(record.prompt)
    return grams(hashed, WORDS) if len(hashed) >= WORDS else hashed[:0]
