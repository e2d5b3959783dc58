"""Saving in the background: the state is copied, and a thread writes it while the next step is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.training import checkpoint
from twofold.training.checkpoint import ALONE, Saved
from twofold.training.tensor_files import own_parts
from twofold.world import World, world


@dataclass
class Saver:
    """Writes the checkpoints of a run into `folder`, one after the other, and keeps the `keep` newest.

    A single process with its model on the CPU waits for each: there a copy costs memory and saves no time.
    """

    folder: Path
    keep: int | None
    device: torch.device
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)
    _among: World = field(default=ALONE, init=False)
    _pending: Future[Path] | None = field(default=None, init=False)

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        protect: Collection[int] = (),
    ) -> None:
        """Write a checkpoint, or begin to. Raises CheckpointError, also for the previous one."""
        self.wait()
        here = world()
        parts = {name: own_parts(some, here) for name, some in tensors.items()}
        if here.size == 1 and self.device.type == "cpu":
            checkpoint.write_parts(self.folder, Saved(step, parts, state, self.keep, protect), ALONE)
            return
        copies = {name: {key: part.apart() for key, part in some.items()} for name, some in parts.items()}
        if self._threads is None:
            self._threads, self._among = ThreadPoolExecutor(1), here.apart()
        saved = Saved(step, copies, deepcopy(state), self.keep, protect)
        self._pending = self._threads.submit(checkpoint.write_parts, self.folder, saved, self._among)

    @property
    def failed(self) -> bool:
        """Whether the current write has failed."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def wait(self) -> None:
        """Wait until the current checkpoint is written. Raises CheckpointError, on all processes, if that fails."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with world().agreed():
                pending.result()
