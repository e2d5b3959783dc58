"""How this process takes memory from the system."""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 2**20


def return_large_blocks() -> None:
    """Give blocks of a MiB and more back to the system when they are freed. By its habit glibc raises that size to 32
    MiB as it goes, and what tensors of a few MiB leave behind then stays with the process: a fifth of a step's peak."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MMAP_THRESHOLD, _LARGE)
