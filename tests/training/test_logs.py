"""A log is what was written, byte for byte: marked, cut back to a mark, and refused where it is something else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from twofold.errors import CheckpointError
from twofold.training.metrics import Log, ordered

CHANGED = "is damaged or was changed since the run wrote it\n  → put it back, or start over with --no-resume"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "metrics.jsonl")


def mark_of(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_row_is_a_line_with_its_keys_in_order_and_its_letters_as_they_are(log: Log) -> None:
    assert log.path.read_bytes() == b""
    assert log.mark() == mark_of(b"")
    log.write({"step": 0, "b": 1.5, "a": "Δ"})
    log.write({"step": 1})
    assert log.path.read_bytes() == '{"step": 0, "b": 1.5, "a": "Δ"}\n{"step": 1}\n'.encode()
    assert log.mark() == mark_of(log.path.read_bytes())
    assert log.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_no_json_reader_takes_is_not_written(log: Log, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        log.write({"loss": value})
    assert log.path.read_bytes() == b""


def test_what_stands_there_is_appended_to_until_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    log = Log(path)
    assert path.read_text() == "old\n"
    log.cut()
    assert path.read_bytes() == b""
    log.write({"a": 1})
    log.check()
    assert log.mark() == mark_of(b'{"a": 1}\n')


def test_it_is_cut_back_to_a_mark_and_goes_on(log: Log) -> None:
    log.write({"a": 1})
    mark = log.mark()
    log.write({"a": 2})
    again = Log(log.path)
    again.cut(mark)
    assert log.path.read_bytes() == b'{"a": 1}\n'
    again.write({"a": 3})
    assert again.mark() == mark_of(b'{"a": 1}\n{"a": 3}\n')
    again.check()


def test_a_mark_may_lie_beyond_what_is_read_at_once(log: Log) -> None:
    """Reads are of a MiB: this line takes two and a piece, and a second line comes after the mark."""
    log.write({"text": "x" * 2_500_000})
    mark = log.mark()
    log.write({"text": "y"})
    log.check()
    Log(log.path).cut(mark)
    assert mark_of(log.path.read_bytes()) == mark


@pytest.mark.parametrize("now", [b'{"a": 7}\n{"a": 2}\n', b'{"a": 1}', b""])
def test_another_beginning_is_refused_and_left_as_it_is(log: Log, now: bytes) -> None:
    log.write({"a": 1})
    mark = log.mark()
    log.path.write_bytes(now)
    with pytest.raises(CheckpointError) as error:
        Log(log.path).cut(mark)
    assert str(error.value) == f"{log.path}: {CHANGED}"
    assert log.path.read_bytes() == now


@pytest.mark.parametrize("now", [b'{"a": 7}\n', b'{"a": 1}\n\n', b'{"a": 1}', b""])
def test_another_content_than_was_written_is_noticed_at_the_end(log: Log, now: bytes) -> None:
    log.write({"a": 1})
    log.check()
    log.path.write_bytes(now)
    with pytest.raises(CheckpointError) as error:
        log.check()
    assert str(error.value) == f"{log.path}: {CHANGED}"


def test_a_disk_that_does_not_take_a_row_is_one_message(log: Log) -> None:
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(CheckpointError) as error:
        log.write({"a": 1})
    assert str(error.value) == (
        f"{log.path}: cannot be written: Is a directory\n"
        "  → free or repair the disk, then give the same command again: it resumes from the last checkpoint"
    )


def test_a_link_becomes_a_file_of_the_runs_own(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept\n")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "theirs")
    log = Log(tmp_path / "metrics.jsonl")
    log.write({"a": 1})
    assert (tmp_path / "theirs").read_text() == "kept\n"
    assert log.path.read_bytes() == b'kept\n{"a": 1}\n'


def test_a_mark_is_on_the_disk(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    log.write({"a": 1})
    assert synced == []
    log.mark()
    assert synced == [str(log.path)]


def test_losses_come_first_and_the_rest_by_name() -> None:
    metrics = {"margin": 1.0, "loss/sft": 2.0, "accuracy": 3.0, "loss": 4.0, "loss/dpo": 5.0, "lossless": 6.0}
    assert list(ordered(metrics).items()) == [
        ("loss", 4.0), ("loss/dpo", 5.0), ("loss/sft", 2.0), ("accuracy", 3.0), ("lossless", 6.0), ("margin", 1.0),
    ]  # fmt: skip
