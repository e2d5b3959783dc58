"""Tensors in parts: what each process writes, and how its own block is put together from the blocks of others."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from twofold.training import tensor_files
from twofold.training.tensor_files import Part, files_of, own_parts, read, write
from twofold.world import World

WHOLE = torch.arange(24.0).view(6, 4)


def blocks(rows: tuple[int, ...], columns: tuple[int, ...] = (0, 4)) -> list[Part]:
    """The whole, cut at these rows and columns."""
    return [Part(WHOLE[a:b, c:d], (a, c), (6, 4)) for a, b in pairwise(rows) for c, d in pairwise(columns)]


def stored(folder: Path, parts: list[Part]) -> list[Path]:
    """A file for each process; the first one has a vector of its own."""
    for rank, part in enumerate(parts):
        mine = {"w": part, **({"v": Part(torch.ones(3), [0], (3,))} if rank == 0 else {})}
        write(folder, "model", mine, World(rank=rank, size=len(parts)))
    return files_of(folder, "model")


def test_files_are_named_by_process_and_hold_where_their_parts_begin(tmp_path: Path) -> None:
    first, second = stored(tmp_path, blocks((0, 4, 6)))
    assert [first.name, second.name] == ["model.0-of-2.safetensors", "model.1-of-2.safetensors"]
    with safe_open(second, framework="pt") as file:
        assert json.loads(file.metadata()["parts"]) == {"w": [[4, 0], [6, 4]]}
    with safe_open(first, framework="pt") as file:
        assert json.loads(file.metadata()["parts"]) == {"w": [[0, 0], [6, 4]]}
    path = write(tmp_path, "alone", {"w": Part(WHOLE, [0, 0], (6, 4))}, World())
    assert path.name == "alone.safetensors"
    with safe_open(path, framework="pt") as file:
        assert not file.metadata()
    assert (files_of(tmp_path, "alone"), files_of(tmp_path, "absent")) == ([path], [])


@pytest.mark.parametrize(("rows", "columns"), [((0, 6), (0, 4)), ((0, 1, 3, 6), (0, 4)), ((0, 2, 6), (0, 3, 4))])
def test_blocks_are_the_whole_again(rows: tuple[int, ...], columns: tuple[int, ...], tmp_path: Path) -> None:
    found = read(stored(tmp_path, blocks(rows, columns)), lambda _: None)
    assert torch.equal(found["w"], WHOLE)
    assert found["v"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("begin", "size"), [((0, 0), (6, 4)), ((1, 0), (4, 4)), ((2, 1), (2, 2)), ((5, 0), (1, 4)), ((0, 3), (6, 1))]
)
def test_a_process_reads_its_own_block_of_them(
    begin: tuple[int, int], size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = torch.zeros(6, 4)
    monkeypatch.setattr(tensor_files, "place_of", lambda value: SimpleNamespace(begin=begin, size=size))
    monkeypatch.setattr(tensor_files, "as_part", lambda part, other: (part, other is like))
    found: Any = read(stored(tmp_path, blocks((0, 2, 5, 6), (0, 3, 4))), {"w": like}.get)
    part, is_like = found["w"]
    assert torch.equal(part, WHOLE[begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1]])
    assert (is_like, found["v"].tolist()) == (True, [1, 1, 1])


def test_a_block_of_another_shape_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "place_of", lambda value: SimpleNamespace(begin=(0, 0), size=(1, 1)))
    found = read(stored(tmp_path, blocks((0, 4, 6))), lambda _: torch.zeros(6, 5))
    assert torch.equal(found["w"], WHOLE)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files = stored(tmp_path, blocks((0, 2, 6)))
    for some in (files[:1], files[1:]):
        with pytest.raises(ValueError, match=r"^w is not there as a whole$"):
            read(some, lambda _: None)


def test_each_tensor_is_written_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whole tensors each has its share; of sharded ones the first copy is written, unless it is empty."""
    places = {
        4.0: SimpleNamespace(begin=(2, 0), size=(2, 2), first=True),
        5.0: SimpleNamespace(begin=(2, 0), size=(0, 2), first=True),
        6.0: SimpleNamespace(begin=(0, 0), size=(2, 2), first=False),
    }  # fmt: skip
    monkeypatch.setattr(tensor_files, "place_of", lambda value: places.get(float(value.flatten()[0])))
    monkeypatch.setattr(tensor_files, "part_here", lambda value: value[:1])
    tensors = {f"t{n:.0f}": torch.full((2, 2), n) for n in (4.0, 5.0, 6.0)} | {
        "a": torch.ones(9),
        "b": torch.ones(2, 3),
    }
    shares = [own_parts(tensors, World(rank=rank, size=2)) for rank in (0, 1)]
    assert [set(share) for share in shares] == [{"t4", "a"}, {"t4", "b"}]
    part, whole = shares[1]["t4"], shares[1]["b"]
    assert (part.value.tolist(), part.begin, part.shape) == ([[4.0, 4.0]], (2, 0), (2, 2))
    assert (whole.begin, tuple(whole.shape), tuple(whole.value.shape)) == ([0, 0], (2, 3), (2, 3))
