"""Which saves are in the background, and how many threads write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from twofold.training import saving
from twofold.training.saving import Saver
from twofold.world import World


@pytest.mark.parametrize(("size", "device", "apart"), [(1, "cpu", False), (1, "cuda", True), (2, "cpu", True)])
def test_one_thread_writes_beside_an_accelerator_or_other_processes(
    size: int, device: str, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    class Here(World):
        def apart(self) -> Any:
            return "apart"

        def gather(self, value: Any) -> list[Any]:
            return [value] * self.size

    monkeypatch.setattr(saving, "world", lambda: Here(size=size))
    monkeypatch.setattr(saving.checkpoint, "write_parts", lambda *arguments: calls.append(arguments))
    saver = Saver(tmp_path, 3, torch.device(device))
    value = torch.ones(1)
    saver.save(1, {"policy": {"w": value}}, {"a": 1}, protect=(7,))
    saver.wait()
    ((folder, saved, among),) = calls
    assert (folder, saved.step, saved.state, saved.keep, saved.protect) == (tmp_path, 1, {"a": 1}, 3, (7,))
    assert among == ("apart" if apart else saving.ALONE)
    assert (saved.parts["policy"]["w"].value.data_ptr() == value.data_ptr()) != apart
    if apart:
        assert saver._threads is not None
        assert saver._threads._max_workers == 1
    else:
        assert saver._threads is None
