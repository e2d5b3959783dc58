"""What a run writes as it goes: `metrics.jsonl` and its like, reproducible to the byte, and `timings.jsonl`, which is
not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.errors import CheckpointError


class Log:
    """A JSONL file that a resumed run cuts back to where its checkpoint stood. A link in its place is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one object, its keys in the order given. Raises CheckpointError where the disk does not take it."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            remedy = "free or mend the disk, then give the same command again: it goes on from the last checkpoint"
            raise CheckpointError(f"cannot be written: {error.strerror}", where=str(self.path), remedy=remedy) from None

    def size(self) -> int:
        """Bytes on disk now, after making sure that they are there."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        return self.path.stat().st_size

    def cut(self, size: int) -> None:
        """Forget what was written after `size` bytes."""
        if self.path.is_symlink():
            self.path.unlink()
        self.path.touch()
        os.truncate(self.path, size)


def ordered(metrics: Mapping[str, float]) -> dict[str, float]:
    """Loss first, the rest by name."""
    names = sorted(metrics, key=lambda n: (n != "loss", not n.startswith("loss/"), n))
    return {n: metrics[n] for n in names}
