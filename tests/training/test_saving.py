"""Checkpoints in the background: what is saved is what was there, one after the other, and a failure is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from twofold.errors import CheckpointError
from twofold.training import checkpoint, saving
from twofold.training.checkpoint import ALONE, Checkpoint
from twofold.training.saving import Saver


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing waits until this is set."""
    opened, write = threading.Event(), checkpoint.write_parts

    def waiting(*arguments: Any) -> Path:
        assert opened.wait(30)
        return write(*arguments)

    monkeypatch.setattr(saving.checkpoint, "write_parts", waiting)
    yield opened
    opened.set()


def saved(folder: Path, step: int) -> tuple[list[float], dict[str, Any]]:
    found = Checkpoint.open(folder / f"step-{step}")
    return found.tensors("policy")["w"].tolist(), found.state


def test_on_a_processor_a_save_is_written_at_once(tmp_path: Path) -> None:
    saver = Saver(tmp_path, 2, torch.device("cpu"))
    for step in (1, 2, 3, 4):
        saver.save(step, {"policy": {"w": torch.full((2,), step)}}, {"step": step}, protect=(1,))
        assert saved(tmp_path, step) == ([step, step], {"step": step})
        assert (saver._pending, saver._threads, saver.failed) == (None, None, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-3", "step-4"]
    saver.wait()


def test_beside_an_accelerator_a_copy_is_written_while_training_goes_on(tmp_path: Path, gate: threading.Event) -> None:
    saver, weights, state = Saver(tmp_path, None, torch.device("cuda")), torch.tensor([1.0, 2.0]), {"list": [1]}
    saver.save(1, {"policy": {"w": weights}}, state)
    weights.zero_()
    state["list"].append(2)
    assert not saver.failed
    assert not (tmp_path / "step-1").exists()
    gate.set()
    saver.save(2, {"policy": {"w": weights}}, state)
    threads = saver._threads
    saver.wait()
    assert saved(tmp_path, 1) == ([1.0, 2.0], {"list": [1]})
    assert saved(tmp_path, 2) == ([0.0, 0.0], {"list": [1, 2]})
    assert saver._pending is None
    saver.save(3, {"policy": {"w": weights}}, state)
    saver.wait()
    assert saver._threads is threads


def test_a_write_that_fails_is_told_when_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, step: Any, among: Any) -> Path:
        assert among == ALONE
        raise CheckpointError("the disk is full", where=str(folder), remedy="")

    monkeypatch.setattr(saving.checkpoint, "write_parts", fail)
    saver = Saver(tmp_path, None, torch.device("cuda"))
    assert not saver.failed
    saver.save(1, {"policy": {}}, {})
    assert saver._pending is not None
    saver._pending.exception(30)
    assert saver.failed
    with pytest.raises(CheckpointError, match="the disk is full"):
        saver.save(2, {"policy": {}}, {})
    assert not saver.failed
    saver.wait()
