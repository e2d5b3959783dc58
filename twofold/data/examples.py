"""The texts of a few faulty rows of each kind, to be shown with their faults."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twofold.data.formats import Stream
from twofold.data.issues import Issue, Texts
from twofold.data.reading import Reading
from twofold.data.report import Kind


def kinds(faults: Sequence[Issue], reading: Reading, each: int) -> list[Kind]:
    """The kinds of `faults`, errors first, then the most frequent, with `each` examples that are read again."""
    grouped: dict[tuple[str, str], list[Issue]] = {}
    for fault in faults:
        grouped.setdefault((fault.severity, fault.check), []).append(fault)
    ordered = sorted(grouped.items(), key=lambda item: (item[0][0] != "error", -len(item[1])))
    shown = [fault for _, group in ordered for fault in group[:each] if fault.file == reading.source]
    rows = _read({fault.row for fault in shown if fault.row}, reading)
    return [
        Kind(name, severity, len(group), tuple((fault, rows.get(fault.row, ())) for fault in group[:each]))
        for (severity, name), group in ordered
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
