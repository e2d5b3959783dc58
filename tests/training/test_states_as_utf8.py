"""States and logs are UTF-8, also on a machine whose own encoding is another one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from twofold.progress import Silent
from twofold.training.checkpoint import Checkpoint, save
from twofold.training.metrics import Log
from twofold.training.track import Tracker


@pytest.fixture(autouse=True)
def latin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is latin-1 wherever no encoding is named."""
    opened = Path.open

    def open_path(path: Path, mode: str = "r", buffering: int = -1, encoding: str | None = None, **how: Any) -> Any:
        return opened(path, mode, buffering, encoding if encoding or "b" in mode else "latin-1", **how)

    read, write = Path.read_text, Path.write_text
    monkeypatch.setattr(Path, "open", open_path)
    monkeypatch.setattr(Path, "read_text", lambda path, encoding=None, errors=None: read(path, encoding or "latin-1"))
    monkeypatch.setattr(
        Path, "write_text", lambda path, data, encoding=None, **how: write(path, data, encoding or "latin-1")
    )


def test_a_state_has_its_own_letters(tmp_path: Path) -> None:
    state = {"name": "Zoë", "other": "中文"}
    path = save(tmp_path, 3, {"policy": {"w": torch.ones(1)}}, state, keep=None)
    assert json.loads((path / "state.json").read_bytes()) == state
    assert "中文".encode() in (path / "state.json").read_bytes()
    assert Checkpoint.open(path).state == state


def test_a_log_has_its_own_letters(tmp_path: Path) -> None:
    log = Log(tmp_path / "warnings.jsonl")
    log.write({"text": "Zoë 中文"})
    assert (tmp_path / "warnings.jsonl").read_bytes() == '{"text": "Zoë 中文"}\n'.encode()


def test_what_a_resumed_tracker_repeats_has_its_own_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int | None = None) -> None: ...

        def add_scalar(self, name: str, value: float, step: int) -> None:
            names.append(name)

    for name in ("tensorboard", "torch.utils.tensorboard"):
        module = ModuleType(name)
        module.__dict__["SummaryWriter"] = Writer
        monkeypatch.setitem(sys.modules, name, module)
    row = {"kind": "evaluation", "step": 5, "größe": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    Tracker("tensorboard", tmp_path, {}, Silent()).begin(5, resumed=True)
    assert names == ["größe"]
