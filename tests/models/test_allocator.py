"""Freed tensors of a few MiB go back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
if sys.argv[1] == "yes":
    from twofold.models.allocator import return_large_blocks
    return_large_blocks()
import torch

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

torch.ones(16 << 20, dtype=torch.uint8)  # a freed block of so much: glibc keeps smaller ones from here on
before = resident()
blocks = [torch.ones(4 << 20, dtype=torch.uint8) for _ in range(32)]
last = torch.ones(4 << 20, dtype=torch.uint8)
del blocks
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_blocks_are_returned() -> None:
    def left(how: str) -> int:
        ran = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(ran.stdout)

    assert left("yes") < 16 << 20 < 100 << 20 < left("no")
