"""A packed file that unpacks too far is at fault as a whole, and the fault names the row that was not read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from twofold.data import unpacking
from twofold.data.issues import Issue
from twofold.data.readers import rows
from twofold.data.reading import RowBounds

ROW = {"prompt": "x" * 100, "chosen": "a", "rejected": "b"}


def test_a_refused_file_has_the_number_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "ALWAYS", 100_000)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode() * 1000))
    *read, (number, fault) = rows(str(path), bounds=RowBounds(growth=1))
    assert read == [(n, ROW) for n in range(1, len(read) + 1)]
    assert 100 < len(read) < 1000
    assert isinstance(fault, Issue)
    assert (number, fault.row, fault.check) == (0, 0, "unpacks too far")
    assert fault.reason == f"unpacks to more than 100,000 bytes; row {len(read) + 1} was not read, nor was what follows"


def test_a_file_that_breaks_off_is_at_fault_behind_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress((json.dumps(ROW) + "\n").encode() * 1000, compresslevel=0)
    path.write_bytes(whole[: len(whole) - 50])
    *read, (number, fault) = rows(str(path))
    assert isinstance(fault, Issue)
    assert (number, fault.row, fault.check) == (len(read) + 1, len(read) + 1, "unreadable")
    assert fault.reason.startswith("cannot be read to its end: ")
