"""The texts of a few faulty rows of each kind, to be shown with their faults."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twofold.data.fault_store import counts_of
from twofold.data.formats import Stream
from twofold.data.issues import Issue, Texts
from twofold.data.reading import Reading
from twofold.data.report import Kind


def kinds(faults: Sequence[Issue], reading: Reading, each: int) -> list[Kind]:
    """The kinds of `faults`, errors first, then the most frequent, with `each` examples that are read again."""
    counts = counts_of(faults)
    examples: dict[tuple[str, str], list[Issue]] = {key: [] for key in counts}
    wanted = sum(min(each, count) for count in counts.values())
    for fault in faults if wanted else ():
        first = examples[fault.severity, fault.check]
        if len(first) < each:
            first.append(fault)
            wanted -= 1
            if not wanted:
                break
    ordered = sorted(counts, key=lambda key: (key[0] != "error", -counts[key]))
    own = [f for first in examples.values() for f in first if f.file == reading.source]
    rows = _read({f.row for f in own if f.row}, reading)
    texts = {f: rows.get(f.row, ()) for f in own}
    return [
        Kind(name, severity, counts[severity, name], tuple((f, texts.get(f, ())) for f in examples[severity, name]))
        for severity, name in ordered
    ]


def _read(wanted: set[int], reading: Reading) -> dict[int, Texts]:
    found: dict[int, Texts] = {}
    for made in Stream(reading) if wanted else ():
        if made.number in wanted and made.record is not None:
            found[made.number] = made.texts
        elif made.number in wanted and made.row is not None:
            found[made.number] = (("row", json.dumps(made.row, ensure_ascii=False, default=str)),)
        if len(found) == len(wanted):
            break
    return found
