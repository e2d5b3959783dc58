"""Logs of several processes: only the first one has files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from twofold.training import metrics
from twofold.training.metrics import Log


def test_other_processes_write_nothing_and_find_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "world", lambda: SimpleNamespace(first=False))
    log = Log(tmp_path / "metrics.jsonl")
    log.write({"a": 1})
    mark = log.mark()
    assert mark["size"] == 0
    log.cut({"size": 3, "sha256": "x"})
    log.cut()
    log.check()
    assert list(tmp_path.iterdir()) == []


def test_what_is_after_a_mark_of_nothing_is_removed(tmp_path: Path) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    nothing = log.mark()
    log.write({"a": 1})
    log.cut(nothing)
    assert (log.path.read_bytes(), log.mark()) == (b"", nothing)
