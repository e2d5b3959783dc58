"""Tensors in safetensors files: whole, or in parts of several processes, which can be read in other parts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from twofold.world import World, as_part, part_here, place_of

SUFFIX = ".safetensors"
PARTS = "parts"
"""The entry of a file's metadata that holds, by tensor, where its part begins and the shape of the whole."""

Like = Callable[[str], Tensor | None]
"""By name, a tensor of which this process has a part. It reads the same part of the stored tensor."""


@dataclass(frozen=True)
class Part:
    """What one process writes of a tensor of `shape`: a block that begins at `begin`."""

    value: Tensor
    begin: Sequence[int]
    shape: Sequence[int]

    def apart(self) -> Part:
        """A copy in the host's memory, which training does not change."""
        return replace(self, value=self.value.to("cpu", copy=True))


def own_parts(tensors: Mapping[str, Tensor], here: World) -> dict[str, Part]:
    """What this process writes of `tensors`: its part of each sharded tensor, and its share of the whole ones."""
    mine: dict[str, Part] = {}
    whole = list[str]()
    for name, tensor in tensors.items():
        if (place := place_of(tensor)) is None:
            whole.append(name)
        elif place.first and math.prod(place.size):
            mine[name] = Part(part_here(tensor.detach()), place.begin, tensor.shape)
    for turn in here.deal([tensors[name].numel() for name in whole]):
        tensor = tensors[whole[turn.place]].detach()
        mine[whole[turn.place]] = Part(tensor, [0] * tensor.dim(), tensor.shape)
    return mine


def write(folder: Path, name: str, parts: Mapping[str, Part], here: World) -> Path:
    """A file in `folder` with the `parts` of this process. A single process writes to `name`."""
    path = folder / (f"{name}.{here.rank}-of-{here.size}{SUFFIX}" if here.size > 1 else f"{name}{SUFFIX}")
    places = {key: [*map(list, (p.begin, p.shape))] for key, p in parts.items() if p.value.shape != p.shape}
    about = {PARTS: json.dumps(places)} if places else None
    save_file({key: part.value.cpu().contiguous() for key, part in parts.items()}, path, about)
    return path


def files_of(folder: Path, name: str) -> list[Path]:
    """The files that hold tensors under `name`."""
    alone = folder / f"{name}{SUFFIX}"
    return [alone] if alone.is_file() else sorted(folder.glob(f"{name}.*-of-*{SUFFIX}"))


def read(files: Iterable[Path], like: Like) -> dict[str, Tensor]:
    """The tensors in `files`, on the CPU: whole, or this process's part where what they are `like` is in parts."""
    with ExitStack() as stack:
        stored: dict[str, list[_Stored]] = {}
        for path in files:
            file: Any = stack.enter_context(safe_open(path, framework="pt"))
            places = json.loads((file.metadata() or {}).get(PARTS, "{}"))
            for key in file.keys():  # noqa: SIM118  # no mapping
                shape = file.get_slice(key).get_shape()
                begin, whole = places.get(key, ([0] * len(shape), shape))
                stored.setdefault(key, []).append(_Stored(file, key, begin, shape, whole))
        return {key: _put_together(parts, like(key)) for key, parts in stored.items()}


@dataclass(frozen=True)
class _Stored:
    """A block of a tensor, in an open file."""

    file: Any
    key: str
    begin: Sequence[int]
    size: Sequence[int]
    shape: Sequence[int]


def _put_together(parts: Sequence[_Stored], like: Tensor | None) -> Tensor:
    shape = [*parts[0].shape]
    place = None if like is None or [*like.shape] != shape else place_of(like)
    if place is None and [*parts[0].size] == shape:
        return parts[0].file.get_tensor(parts[0].key)
    begin, size = ([0] * len(shape), shape) if place is None else (place.begin, place.size)
    made = torch.empty([*size], dtype=parts[0].file.get_slice(parts[0].key)[:0].dtype)
    filled = 0
    for part in parts:
        low = [max(a, b) for a, b in zip(begin, part.begin, strict=True)]
        high = [min(a + n, b + m) for a, n, b, m in zip(begin, size, part.begin, part.size, strict=True)]
        if any(h <= n for h, n in zip(high, low, strict=True)):
            continue
        there, here = (
            tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
            for origin in (part.begin, begin)
        )
        made[here] = part.file.get_slice(part.key)[there]
        filled += math.prod(b - a for a, b in zip(low, high, strict=True))
    if filled != made.numel():
        raise ValueError(f"{parts[0].key} is not there as a whole")
    return made if place is None or like is None else as_part(made, like)
