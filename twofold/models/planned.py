"""A GPU that a run is planned for, on a machine that need not have it: its estimates take the paths of that GPU.

Tensors without data stay on the processor, since a build of torch without CUDA makes none of that device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_MEMORY: ContextVar[int | None] = ContextVar("planned_gpu_memory", default=None)


@contextmanager
def planned_gpu(memory: int | None) -> Iterator[None]:
    """Within it the device is a GPU with this many bytes of memory; None changes nothing. Nothing may be computed:
    only estimates."""
    token = _MEMORY.set(memory)
    try:
        yield
    finally:
        _MEMORY.reset(token)


def planned_memory() -> int | None:
    """Bytes of the planned GPU, if there is one."""
    return _MEMORY.get()


def on_gpu(device: torch.device) -> bool:
    """Whether what is on `device` takes the paths of a GPU."""
    return device.type == "cuda" or planned_memory() is not None
