"""Bytes and entries that are in a file when memory is full of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from twofold.data import scratch
from twofold.data.scratch import Scratch, Spool
from twofold.errors import DataError


def test_bytes_are_put_and_read_at_their_place() -> None:
    made = Scratch()
    assert (made.size, made.read(0, 9)) == (0, b"")
    made.append(b"abc")
    made.append(b"de")
    assert (made.size, made.read(0, 9), made.read(1, 3), made.read(4, 5), made.read(5, 1)) == (
        5, b"abcde", b"bcd", b"e", b"",
    )  # fmt: skip
    made.put(b"X", 1)
    assert (made.size, made.read(0, 5)) == (5, b"aXcde")
    made.put(b"YZ", 6)
    assert (made.size, made.read(4, 9)) == (8, b"e\0YZ")


def test_a_disk_that_writes_a_part_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(scratch.os, "pwrite", lambda file, data, place: write(file, data[:2], place))
    made = Scratch()
    made.append(b"abcde")
    assert (made.size, made.read(0, 9)) == (5, b"abcde")


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(DataError) as error:
        Scratch().append(b"a")
    assert error.value.what == "cannot be written: No such file or directory"
    assert (error.value.where, error.value.remedy) == (
        str(tmp_path / "absent"), "free space there, or name another folder: TMPDIR=FOLDER",
    )  # fmt: skip


def test_entries_are_read_over_file_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "AT_ONCE", 3)
    made = Spool(np.int64)
    lengths = list[int]()
    for number in range(8):
        made.append(10 * number)
        lengths.append(made._scratch.size)
    assert lengths == [0, 0, 24, 24, 24, 48, 48, 48], "three at a time, when there are three"
    assert len(made) == 8
    assert [made.read(*where).tolist() for where in ((0, 8), (0, 6), (5, 7), (6, 8), (2, 4), (7, 8), (3, 3))] == [
        [0, 10, 20, 30, 40, 50, 60, 70], [0, 10, 20, 30, 40, 50], [50, 60], [60, 70], [20, 30], [70], [],
    ]  # fmt: skip
    assert [block.tolist() for block in made.blocks()] == [[0, 10, 20], [30, 40, 50], [60, 70]]
    assert [made.at(place) for place in (0, 5, 6, 7)] == [0, 50, 60, 70]
    assert isinstance(made.at(0), int)


def test_entries_of_several_fields_are_tuples() -> None:
    made = Spool([("row", np.int64), ("share", np.float64)])
    made.append((3, 0.5))
    assert (made.at(0), len(made), len(Spool(np.int64))) == ((3, 0.5), 1, 0)
    assert list(Spool(np.int64).blocks()) == []
