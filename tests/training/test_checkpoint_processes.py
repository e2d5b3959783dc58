"""A checkpoint of several processes: each looks at its share of the files, and the first one completes the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from twofold.errors import CheckpointError
from twofold.training import checkpoint
from twofold.training.checkpoint import Checkpoint, Saved, save, write_parts
from twofold.training.tensor_files import Part


@dataclass
class Among:
    """One of several processes, whose others have `further` values."""

    rank: int = 0
    size: int = 2
    further: list[Any] = field(default_factory=list[Any])
    calls: list[Any] = field(default_factory=list[Any])

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        self.calls.append(value)
        return [value, *self.further]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        yield

    def deal(self, costs: Any, *, even: bool = False) -> list[Any]:
        return []


def test_each_process_looks_at_its_share_and_any_fault_is_one_of_all(tmp_path: Path) -> None:
    """The files in the order of their names: a, b, c, state.json."""
    path = save(tmp_path, 3, {name: {"w": torch.ones(1)} for name in "abc"}, {}, keep=None)
    (path / "b.safetensors").unlink()
    for rank, fault in ((0, ""), (1, "b.safetensors is missing")):
        assert checkpoint._fault(path, share=Among(rank)) == fault  # type: ignore[arg-type]  # as much as is asked
    assert checkpoint._fault(path, only="state.json") == ""
    assert checkpoint._fault(path, only="b.safetensors") == "b.safetensors is missing"
    assert Checkpoint.open(path, Among(0, further=[""])).step == 3  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="x is missing"):
        Checkpoint.open(path, Among(0, further=["x is missing"]))  # type: ignore[arg-type]


def part(value: float, begin: int) -> dict[str, dict[str, Part]]:
    return {"model": {"w": Part(torch.full((1, 2), value), (begin, 0), (2, 2))}}


def test_the_first_process_completes_what_each_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one writes its file beside the first one's, and lists it; it neither makes nor renames a folder."""
    monkeypatch.setattr(checkpoint.uuid, "uuid4", lambda: type("Id", (), {"hex": "0123456789"})())
    aside = tmp_path / ".unfinished-step-5.01234567"
    aside.mkdir()
    second: Any = Among(1, further=[])
    path = write_parts(tmp_path, Saved(5, part(2.0, 1), {"a": 1}, None), second)
    assert (path, [p.name for p in aside.iterdir()]) == (tmp_path / "step-5", ["model.1-of-2.safetensors"])
    (needed, mark, listed) = second.calls
    assert (needed, mark, list(listed)) == (2 * 4 + 512, "01234567", ["model.1-of-2.safetensors"])
    written = (aside / "model.1-of-2.safetensors").read_bytes()
    answers = iter([[needed], ["76543210"], [listed]])

    class First(Among):
        def gather(self, value: Any) -> list[Any]:
            if isinstance(value, dict):
                folder = tmp_path / ".unfinished-step-5.01234567"
                (folder / "model.1-of-2.safetensors").write_bytes(written)
            return [value, *next(answers)]

    first: Any = First(0)
    write_parts(tmp_path, Saved(5, part(1.0, 0), {"a": 1}, None), first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-5"]
    found = Checkpoint.open(path)
    assert found.tensors("model")["w"].tolist() == [[1, 1], [2, 2]]
    names = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert list(names) == ["model.0-of-2.safetensors", "model.1-of-2.safetensors", "state.json"]
    assert found.tensors("model", lambda name: torch.zeros(2, 2) if name == "w" else None)["w"].shape == (2, 2)
    assert load_file(path / "model.1-of-2.safetensors")["w"].tolist() == [[2, 2]]


def test_a_process_that_is_not_the_first_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise CheckpointError("no", where="", remedy="")

    monkeypatch.setattr(checkpoint, "_write", fails)
    monkeypatch.setattr(checkpoint.uuid, "uuid4", lambda: type("Id", (), {"hex": "0123456789"})())
    for rank, left in ((1, [".unfinished-step-5.01234567"]), (0, [])):
        (tmp_path / ".unfinished-step-5.01234567").mkdir(exist_ok=True)
        with pytest.raises(CheckpointError):
            write_parts(tmp_path, Saved(5, part(1.0, 0), {}, None), Among(rank))  # type: ignore[arg-type]
        assert [p.name for p in tmp_path.iterdir()] == left
