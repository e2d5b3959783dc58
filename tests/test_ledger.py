"""What is recorded stays, whatever happens to the process that recorded it."""

from __future__ import annotations

import json
import os
import signal
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError
from twofold.ledger import Ledger, Lines, key, recorded, write_rows


def found(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    Lines(path, lambda row, place: rows.append(row)).close()
    return rows


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
    assert found(path) == [{"n": 1}, {"n": 2}]
    with Lines(path) as lines:
        lines.append([{"n": 3}])
    with path.open("ab") as file:
        file.write('{"n": "é'.encode()[:-1])
    assert found(path) == [{"n": 1}, {"n": 2}, {"n": 3}]
    with Lines(path) as lines:
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
    kept = [row["n"] for row in found(path)]
    assert kept == list(range(len(kept)))
    assert len(kept) >= len(heard)


def test_rows_replace_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    write_rows(path, [{"a": 1}, {"a": "é\u2028"}])
    write_rows(path, [{"a": 2}])
    assert path.read_text(encoding="utf-8") == '{"a": 2}\n'
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]


def test_the_last_reply_to_a_request_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    requests = [{"n": n} for n in range(50)]
    with Ledger(path) as ledger:
        ledger.add([(request, {"text": "é" * request["n"]}) for request in requests])
        ledger.add([({"n": 7}, "later")])
        assert ledger.get({"n": 7}) == "later"
    with Ledger(path) as ledger:
        assert [ledger.get(request) for request in (*requests[:3], {"n": 7}, {"n": 50})] == [
            {"text": ""}, {"text": "é"}, {"text": "éé"}, "later", None,
        ]  # fmt: skip
    assert recorded(path) == 50


def test_a_reply_that_is_damaged_while_the_file_is_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Ledger(path) as ledger:
        ledger.add([({"n": 1}, "one")])
        path.write_bytes(path.read_bytes().replace(b"one", b"two"))
        with pytest.raises(DataError, match="is damaged"):
            ledger.get({"n": 1})


def test_memory_does_not_grow_with_a_ledger(tmp_path: Path) -> None:
    """What Python holds at the peak of opening and reading 20 and 4,000 replies of 2 kB: 8 MB lie on disk."""
    peaks: list[int] = []
    for count in (20, 4000):
        path = tmp_path / f"{count}.jsonl"
        with Ledger(path) as ledger:
            ledger.add([({"n": n}, "x" * 2000) for n in range(count)])
        tracemalloc.start()
        with Ledger(path) as ledger:
            assert sum(len(ledger.get({"n": n}) or "") for n in range(count)) == 2000 * count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000
