"""How far a file may unpack, to the byte, and what is said beyond it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from twofold.data import unpacking
from twofold.data.issues import Issue
from twofold.data.unpacking import Allowance, UnpackedError, bounded


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 1,200 bytes, where any may unpack to 2,400."""
    assert unpacking.ALWAYS == 64 * 2**20
    monkeypatch.setattr(unpacking, "ALWAYS", 2400)
    path = tmp_path / "f.gz"
    path.write_bytes(b"x" * 1200)
    return path


@pytest.mark.parametrize(
    ("growth", "most", "reason"),
    [
        (1, 2400, "unpacks to more than 2,400 bytes"),
        (2, 2400, "unpacks to more than 2,400 bytes"),
        (3, 3600, "unpacks to more than 3,600 bytes, 3 times its own 1,200"),
    ],
)
def test_a_file_may_grow_or_have_what_any_may(growth: int, most: int, reason: str, packed: Path) -> None:
    allowance = Allowance(packed, growth)
    allowance.refuse(most)
    allowance.take(most - 1)
    allowance.take(1)
    for work in (allowance.take, lambda count: allowance.refuse(most + count)):
        with pytest.raises(UnpackedError):
            work(1)
    assert allowance.reason == reason
    assert allowance.issue("f.gz", 7) == Issue(
        "f.gz", 0, "", f"{reason}; row 7 was not read, nor was what follows",
        "check where the file comes from; where it is meant so, raise data.bounds.growth (--growth)",
        check="unpacks too far",
    )  # fmt: skip


def test_a_stream_is_counted_as_it_is_read(packed: Path) -> None:
    stream = bounded(io.BytesIO(b"y" * 2400), Allowance(packed, 1))
    assert stream.readable()
    assert (stream.read(1000), len(stream.read())) == (b"y" * 1000, 1400)
    stream.close()
    assert stream.closed
    with pytest.raises(UnpackedError):
        bounded(io.BytesIO(b"y" * 2401), Allowance(packed, 1)).read()


def test_the_stream_below_is_closed_too(packed: Path) -> None:
    below = io.BytesIO(b"y")
    bounded(below, Allowance(packed, 1)).close()
    assert below.closed
