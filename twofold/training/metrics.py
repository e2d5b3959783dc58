"""The logs of a run: `metrics.jsonl` and others are reproducible to the byte, `timings.jsonl` is not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.disk import own, sync
from twofold.errors import CheckpointError
from twofold.world import world


class Log:
    """A JSONL file. A resumed run verifies it and cuts it back to its end at the checkpoint. Of several processes only
    the first one writes it."""

    def __init__(self, path: Path) -> None:
        self.path, self._mine = path, world().first
        if self._mine:
            own(path)
        self._size, self._sum = 0, hashlib.sha256()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one object, its keys in the order given. Raises CheckpointError where the disk is full or fails."""
        if not self._mine:
            return
        line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            remedy = "free or repair the disk, then give the same command again: it resumes from the last checkpoint"
            raise CheckpointError(f"cannot be written: {error.strerror}", where=str(self.path), remedy=remedy) from None
        self._size += len(line)
        self._sum.update(line)

    def mark(self) -> dict[str, Any]:
        """Size and sha256 of what was written, after making sure that it is on disk."""
        if self._mine:
            sync(self.path)
        return {"size": self._size, "sha256": self._sum.hexdigest()}

    def cut(self, mark: Mapping[str, Any] | None = None) -> None:
        """Remove what was written after `mark`, or everything. Raises CheckpointError where the part before it has
        changed."""
        if not self._mine:
            return
        size = 0 if mark is None else int(mark["size"])
        self._size, self._sum = size, _sum(self.path, size)
        if mark is not None and self._sum.hexdigest() != mark["sha256"]:
            raise self._changed()
        os.truncate(self.path, size)

    def check(self) -> None:
        """Raise CheckpointError where the file has changed since it was written."""
        if self._mine and self._differs():
            raise self._changed()

    def _differs(self) -> bool:
        return self.path.stat().st_size != self._size or _sum(self.path, self._size).digest() != self._sum.digest()

    def _changed(self) -> CheckpointError:
        what = "is damaged or was changed since the run wrote it"
        return CheckpointError(what, where=str(self.path), remedy="put it back, or start over with --no-resume")


def _sum(path: Path, size: int) -> Any:
    """The sha256 of the first `size` bytes, ready for more."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            found.update(block)
            size -= len(block)
    return found


def ordered(metrics: Mapping[str, float]) -> dict[str, float]:
    """Loss first, the rest by name."""
    names = sorted(metrics, key=lambda n: (n != "loss", not n.startswith("loss/"), n))
    return {n: metrics[n] for n in names}
