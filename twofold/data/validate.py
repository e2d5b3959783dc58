"""Collects all errors and warnings of a source of rows in one pass that stores no rows.

A new check of single rows is a function in `CHECKS`. One that compares rows is a class as `Repeats` is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from twofold.data.fault_store import FaultStore
from twofold.data.formats import ParsedRow, Stream, reading_of
from twofold.data.issues import Issue, Severity, Texts
from twofold.data.lengths import Histogram, LengthBias, bias_fault
from twofold.data.looks import Further, Look
from twofold.data.markup import turn_markup
from twofold.data.readers import count
from twofold.data.reading import Reading
from twofold.data.repeats import Repeats
from twofold.data.report import Report
from twofold.data.scratch import Spool
from twofold.data.split import prompt_key
from twofold.data.supervision import supervised
from twofold.data.turns import GUESS_REMEDY, PromptTally, described, guessed
from twofold.data.values import Values
from twofold.data.weights import Weights
from twofold.errors import DataError
from twofold.progress import Progress, Silent
from twofold.records import Demonstration, Pair, Ranking, Record, text_of

if TYPE_CHECKING:
    from twofold.data.tokenize import Encoder

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_CONTROL_BYTES = bytes(n for n in range(128) if _CONTROL.match(chr(n)))
NOTHING_FURTHER = Further()
AT_ONCE = 256
"""Rows that are tokenized together."""


class Inspection:
    """One pass over a source: iterating gives every row as it was read and what became of it, `report` what was wrong.

    With an `encoder` also what its tokenizer and max_length make of the rows. Errors of the kinds that are in `accept`
    are warnings. Raises DataError for a source that is not there, and for a disk that is full.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        encoder: Encoder | None = None,
        progress: Progress | None = None,
        looks: Sequence[Look] = (),
        accept: Sequence[str] = (),
    ) -> None:
        self._looks = looks
        self._stream, self._encoder, self._progress = stream, encoder, progress or Silent()
        self._faults = FaultStore(stream.source, accept)
        self._rows = self._records = 0
        self._repeats, self._blank = Repeats(), BlankPrompts()
        self._bias, self._weights = LengthBias(), Weights()
        self._tokens, self._prompts_put = Values(), PromptTally()
        self._endless: tuple[int, int] = (0, 0)

    def __iter__(self) -> Iterator[ParsedRow]:
        task = f"check {self._stream.source}"
        self._progress.begin(task, count(self._stream.source))
        arriving = iter(self._stream)
        while chunk := list(islice(arriving, AT_ONCE if self._encoder else 16)):
            if self._encoder is not None:
                self._encoder.ahead([made.record for made in chunk if made.record is not None])
            for made in chunk:
                self._see(made)
                yield made
            self._faults.add(self._stream.remarks)
            self._stream.remarks.clear()
            self._progress.advance(task, sum(made.is_row for made in chunk))
        self._progress.end(task)

    def _see(self, made: ParsedRow) -> None:
        self._rows += made.is_row
        record = made.record
        self._faults.add(made.faults, spoils=record is not None)
        if record is None:
            return
        self._records += 1
        for check_row in CHECKS:
            self._faults.add(check_row(record, made.texts))
        self._repeats.see(record)
        self._blank.see(record)
        self._weights.add(getattr(record, "weight", None))
        for other in self._looks:
            other.see(record, made.row or {})
        if self._encoder is not None:
            self._tokenized(record, self._encoder)
        elif isinstance(record, Pair):
            self._bias.add(len(text_of(record.chosen)), len(text_of(record.rejected)))

    def _tokenized(self, record: Record, encoder: Encoder) -> None:
        for turn in supervised(record, encoder.settings.loss_on):
            fitted, fault = encoder.inspect(turn)
            if fitted is not None:
                self._tokens.append(fitted.tokens)
                self._prompts_put.add(fitted.form, fitted.guess, str(record.source))
                if fitted.unstopped:
                    first, number = self._endless
                    self._endless = first or record.source.row, number + 1
            if fault is not None:
                self._faults.add([fault])
                return
            if isinstance(record, Pair) and fitted is not None and fitted.group is not None:
                chosen, rejected = fitted.group.branches[:2]
                self._bias.add(len(chosen.tokens), len(rejected.tokens))

    def report(self, broken: Iterable[Issue] = ()) -> Report:
        """Everything that was found; to be asked when the pass is over. `broken` are errors of another source."""
        source, faults = self._stream.source, self._faults
        faults.add(self._stream.remarks)
        if not self._rows and not faults:
            faults.add([Issue(source, 0, "", "has no rows", "check the file and the split", check="no rows")])
        for found in (self._repeats, self._blank, *self._looks):
            faults.add(found.faults(source))
        faults.add(bias_fault(self._bias, source))
        faults.add(self._of_the_whole(source))
        faults.add(broken, last=True)
        bias = self._bias if self._bias.pairs else None
        tokens = Histogram.of(self._tokens) if len(self._tokens) else None
        usable = self._records - faults.spoiled()
        template = self._encoder is not None and self._encoder.turns.has_template
        prompts = described(self._prompts_put.forms, has_template=template)
        weights = self._weights if self._weights.weighted else None
        form, every = self._stream.format, faults.in_order()
        return Report(source, form, self._rows, usable, every, bias, tokens, prompts, weights)

    def _of_the_whole(self, source: str) -> Iterator[Issue]:
        if self._weights.nothing:
            remedy = "write the weights again, or drop them: data.ignore=[weight] (--ignore weight)"
            yield Issue(source, 0, "weight", "is 0 in every row: nothing counts", remedy, check="no weight")
        if self._encoder is not None and self._endless[1]:
            yield _stop_added(self._encoder, source, *self._endless)
        whole = self._encoder.turns.of_format(self._stream.format) if self._encoder is not None else ""
        for warning in (*([whole] if whole else []), *guessed(self._prompts_put.guesses)):
            yield Issue(source, 0, "prompt", warning, GUESS_REMEDY, "warning", "guessed prompt")


def check(
    source: str | Reading,
    *,
    columns: Mapping[str, str] | None = None,
    encoder: Encoder | None = None,
    against: str | None = None,
    further: Further = NOTHING_FURTHER,
    progress: Progress | None = None,
) -> Report:
    """Every error and warning of `source`, in order of rows. Never raises for invalid input. A `Reading` defines how it
    is read.

    With an `encoder` it also checks the rows with its tokenizer and max_length. With `against`, the evaluation (or
    training) source, it also finds prompts that are in both, or nearly so. `further` checks are made, too.
    """
    reading = reading_of(source, columns or {})
    ours, theirs = further.made(against is not None)
    broken: tuple[Issue, ...] = ()
    try:
        if against is not None:
            other = _inspected(Inspection(Stream(replace(reading, source=against)), progress=progress, looks=theirs))
            broken = tuple(f for f in other.report().faults if f.row == 0 and f.severity == "error")
    except DataError as error:
        broken = (_unreadable(against or "", error),)
    try:
        return _inspected(Inspection(Stream(reading), encoder=encoder, progress=progress, looks=ours)).report(broken)
    except DataError as error:
        source = reading.source
        return Report(source, "unknown", 0, 0, (_unreadable(source, error),))


def _inspected(inspection: Inspection) -> Inspection:
    for _ in inspection:
        pass
    return inspection


def _unreadable(source: str, error: DataError) -> Issue:
    return Issue(error.where or source, 0, "", error.what, error.remedy, check="unreadable")


def same_completions(record: Record, read: Texts) -> Iterable[Issue]:
    """Pairs that prefer a text to itself: they teach nothing."""
    if not isinstance(record, Pair) or text_of(record.chosen).strip() != text_of(record.rejected).strip():
        return ()
    return (_fault(record, "rejected", "chosen = rejected", "is the same as `chosen`", "remove the row"),)


def tied_ranks(record: Record, read: Texts) -> Iterable[Issue]:
    """Rankings that put a text above itself."""
    return _tied_ranks(record, read) if isinstance(record, Ranking) else ()


def _tied_ranks(record: Ranking, read: Texts) -> Iterator[Issue]:
    first: dict[str, str] = {}
    for field, text in read:
        if field != "prompt" and (other := first.setdefault(text.strip(), field)) != field:
            yield _fault(record, field, "same rank", f"is the same as `{other}`", "remove one of them")


def control_characters(record: Record, read: Texts) -> Iterable[Issue]:
    """Characters that no one types, and the mark that a broken decoder leaves."""
    if not _may_have_controls("".join([text for _, text in read])):
        return ()
    found = ((field, _CONTROL.search(text)) for field, text in read)
    return [
        _fault(
            *(record, field, "control character"),
            reason=f"holds the control character U+{ord(first[0]):04X} at position {first.start() + 1}",
            remedy="clean the text",
            severity="warning",
        )
        for field, first in found
        if first
    ]


def _may_have_controls(text: str) -> bool:
    """Whether its bytes may be those of control characters, which takes a fifth of the time of a search."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data.translate(None, _CONTROL_BYTES)) < len(data) or b"\xc2" in data or b"\xef\xbf\xbd" in data


CHECKS: tuple[Callable[[Record, Texts], Iterable[Issue]], ...] = (
    same_completions,
    tied_ranks,
    control_characters,
    turn_markup,
)


class BlankPrompts:
    """Prompts that ask nothing; plain texts, which have none at all, are no fault."""

    def __init__(self) -> None:
        self._rows, self._plain = Spool(np.int64), True

    def see(self, record: Record) -> None:
        self._plain = self._plain and isinstance(record, Demonstration) and record.prompt == ""
        prompt = record.prompt
        if not (prompt if isinstance(prompt, str) else prompt_key(prompt)).strip():
            self._rows.append(record.source.row)

    def faults(self, source: str) -> Iterator[Issue]:
        reason, remedy = "is empty or white space", "fill it or remove the row"
        for block in () if self._plain else self._rows.blocks():
            for row in block.tolist():
                yield Issue(source, row, "prompt", reason, remedy, "warning", "empty prompt")


def _stop_added(encoder: Encoder, source: str, first: int, number: int) -> Issue:
    stop = encoder.tokenizer.decode([encoder.stop])
    reason = f"the chat template ends {number} answers (first in row {first}) without a stop token; {stop} is added"
    remedy = f"let the template end an assistant turn with {stop}, or generation may look different from training"
    return Issue(source, 0, "", reason, remedy, "warning", "stop token missing")


def _fault(record: Record, field: str, check: str, reason: str, remedy: str, severity: Severity = "error") -> Issue:
    return Issue(record.source.file, record.source.row, field, reason, remedy, severity, check)
