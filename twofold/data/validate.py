"""Everything that is wrong with a source of rows, collected, not raised. A new check is a function in `CHECKS`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twofold.data.faults import Fault, FaultError
from twofold.data.formats import Scan, Table, scan
from twofold.data.split import overlaps, prompt_key
from twofold.data.turns import supervised
from twofold.errors import DataError
from twofold.records import Demonstration, Labelled, Pair, Ranking, Record, Source, said

if TYPE_CHECKING:
    from twofold.data.tokenize import Encoder

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_NOWHERE = Source("", 0)


@dataclass(frozen=True)
class Report:
    """What a check found. `rows` counts all rows, `records` the usable ones; `format` is the shape detected."""

    source: str
    format: str
    rows: int
    records: int
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        return tuple(f for f in self.faults if f.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        return tuple(f for f in self.faults if f.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether training would accept the source."""
        return not self.errors

    @property
    def counts(self) -> dict[str, int]:
        """How many faults of each kind, most frequent first."""
        return dict(Counter(f.check for f in self.faults).most_common())


def check(
    source: str,
    *,
    columns: Mapping[str, str] | None = None,
    split: str = "train",
    encoder: Encoder | None = None,
    against: str | None = None,
) -> Report:
    """Every fault of `source`, in order of rows. Never raises for broken input.

    With an `encoder` also what its tokenizer and max_length make of the rows; with `against`, the source that will be
    evaluated on (or trained on), also prompts that both have.
    """
    found = _scanned(source, columns or {}, split)
    records = found.table.records
    faults = list(found.faults)
    if not found.rows and not faults:
        faults.append(Fault(source, 0, "", "has no rows", "check the file and the split", check="no rows"))
    for look in CHECKS:
        faults += look(records)
    if encoder is not None:
        faults += [fault for record in records if (fault := unfit(record, encoder))]
    if against is not None:
        other = _scanned(against, columns or {}, split)
        faults += [f for f in other.faults if f.row == 0 and f.severity == "error"]
        faults += shared_prompts(records, other.table.records)
    faults.sort(key=lambda f: (f.file != source, f.row))
    return Report(source, found.table.format, found.rows, len(records), tuple(faults))


def _scanned(source: str, columns: Mapping[str, str], split: str) -> Scan:
    try:
        return scan(source, columns=columns, split=split)
    except DataError as error:
        fault = Fault(error.where or source, 0, "", error.what, error.remedy, check="unreadable")
        return Scan(Table([], "unknown", source, ""), [fault], 0)


def same_completions(records: Sequence[Record]) -> Iterator[Fault]:
    """Pairs that prefer a text to itself: they teach nothing."""
    for record in records:
        if isinstance(record, Pair) and record.chosen.strip() == record.rejected.strip():
            yield _warning(record, "rejected", "chosen = rejected", "is the same as `chosen`", "remove the row")


def tied_ranks(records: Sequence[Record]) -> Iterator[Fault]:
    """Rankings that put a text above itself."""
    for record in records:
        first: dict[str, str] = {}
        for field, text in said(record) if isinstance(record, Ranking) else ():
            if (other := first.setdefault(text.strip(), field)) != field:
                yield _warning(record, field, "same rank", f"is the same as `{other}`", "remove one of them")


def duplicates(records: Sequence[Record]) -> Iterator[Fault]:
    """Rows that repeat an earlier one word for word."""
    seen: dict[object, Record] = {}
    for record in records:
        first = seen.setdefault(replace(record, source=_NOWHERE), record)
        if first is not record:
            yield _warning(record, "", "duplicate", f"repeats row {first.source.row}", "remove the row")


def contradictions(records: Sequence[Record]) -> Iterator[Fault]:
    """Pairs whose reverse is there as well, named at both rows."""
    pairs = [r for r in records if isinstance(r, Pair) and r.chosen != r.rejected]
    rows: dict[object, Pair] = {}
    for pair in pairs:
        rows.setdefault((pair.prompt, pair.chosen, pair.rejected), pair)
    for pair in pairs:
        other = rows.get((pair.prompt, pair.rejected, pair.chosen))
        if other is not None:
            reason = f"prefers what row {other.source.row} rejects"
            yield _warning(pair, "", "contradiction", reason, "keep the row that is right")


def two_labels(records: Sequence[Record]) -> Iterator[Fault]:
    """Completions that are good in one row and bad in another, named at both rows."""
    labelled = [r for r in records if isinstance(r, Labelled)]
    rows: dict[object, Labelled] = {}
    for record in labelled:
        rows.setdefault((record.prompt, record.completion, record.desirable), record)
    for record in labelled:
        other = rows.get((record.prompt, record.completion, not record.desirable))
        if other is not None:
            reason = f"says the opposite of row {other.source.row}"
            yield _warning(record, "label", "contradiction", reason, "keep the row that is right")


def control_characters(records: Sequence[Record]) -> Iterator[Fault]:
    """Characters that no one types, and the mark that a broken decoder leaves."""
    for record in records:
        for field, text in _texts(record):
            found = _CONTROL.search(text)
            if found:
                reason = f"holds the control character U+{ord(found[0]):04X} at position {found.start() + 1}"
                yield _warning(record, field, "control character", reason, "clean the text")


def blank_prompts(records: Sequence[Record]) -> Iterator[Fault]:
    """Prompts that ask nothing."""
    if all(isinstance(r, Demonstration) and r.prompt == "" for r in records):
        return  # plain text
    for record in records:
        if not prompt_key(record.prompt).strip():
            yield _warning(record, "prompt", "empty prompt", "is empty or white space", "fill it or remove the row")


CHECKS: tuple[Callable[[Sequence[Record]], Iterator[Fault]], ...] = (
    same_completions,
    tied_ranks,
    duplicates,
    contradictions,
    two_labels,
    control_characters,
    blank_prompts,
)


def unfit(record: Record, encoder: Encoder) -> Fault | None:
    """What the tokenizer makes of a row: no boundary, nothing to learn from, too long, or cut."""
    for turn in supervised(record, encoder.settings.supervise):
        try:
            fitted = encoder.fit(turn)
        except FaultError as error:
            return error.fault
        if fitted.tokens > encoder.settings.max_length:
            return encoder.overlong(turn, fitted)
    return None


def shared_prompts(records: Sequence[Record], other: Sequence[Record]) -> Iterator[Fault]:
    """Rows whose prompt the other source has too."""
    for theirs, ours in overlaps(other, records):
        remedy = "remove the row here or there: nothing is evaluated on what was trained on"
        source = ours.source
        yield Fault(source.file, source.row, "prompt", f"is also at {theirs.source}", remedy, "error", "overlap")


def _texts(record: Record) -> Iterator[tuple[str, str]]:
    if isinstance(record.prompt, str):
        yield "prompt", record.prompt
    else:
        yield from (("prompt", m.content) for m in record.prompt)
    yield from said(record)


def _warning(record: Record, field: str, check: str, reason: str, remedy: str) -> Fault:
    return Fault(record.source.file, record.source.row, field, reason, remedy, "warning", check)
