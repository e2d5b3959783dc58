"""What is recorded stays, whatever happens to the process that recorded it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from twofold.errors import DataError
from twofold.ledger import Ledger, Lines, key, recorded, write_rows


def test_a_reply_is_known_by_its_request_s_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Ledger(path) as ledger:
        ledger.add([({"a": 1, "b": "é"}, "yes")])
        ledger.fail({"a": 2}, "timed out", attempt=1)
    with Ledger(path) as ledger:
        assert ledger.get({"b": "é", "a": 1}) == "yes"
        assert ledger.get({"a": 2}) is None
    assert recorded(path) == 1
    assert recorded(tmp_path / "none.jsonl") == 0
    assert key({"a": 1}) != key({"a": "1"})


def test_half_a_last_line_is_cut_off_and_a_whole_one_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    with Lines(path) as lines:
        assert lines.found == [{"n": 1}, {"n": 2}]
        lines.append([{"n": 3}])
    with path.open("ab") as file:
        file.write('{"n": "é'.encode()[:-1])
    with Lines(path) as lines:
        assert lines.found == [{"n": 1}, {"n": 2}, {"n": 3}]
        lines.append([{"n": 4}])
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_broken_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n"\n{"n": 3}\n')
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"a\.jsonl:2: is damaged"):
        Lines(path)
    assert path.read_bytes() == before


def test_one_process_holds_a_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Lines(path), pytest.raises(DataError, match="another run is writing here"):
        Lines(path)
    Lines(path).close()


def test_a_killed_writer_loses_nothing_that_it_was_told_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        with Lines(path) as lines:
            for n in range(10**6):
                lines.append([{"n": n, "text": "x" * 2000}])
                os.write(telling, b".")
        os._exit(0)
    os.close(telling)
    heard = b""
    while len(heard) < 20:
        heard += os.read(told, 1)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while more := os.read(told, 4096):
        heard += more
    os.close(told)
    with Lines(path) as lines:
        kept = [row["n"] for row in lines.found]
    assert kept == list(range(len(kept)))
    assert len(kept) >= len(heard)


def test_rows_replace_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    write_rows(path, [{"a": 1}, {"a": "é\u2028"}])
    write_rows(path, [{"a": 2}])
    assert path.read_text(encoding="utf-8") == '{"a": 2}\n'
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]
