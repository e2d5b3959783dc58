"""The CUDA branches of the model code, without a CUDA device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import fake_cuda


def test_the_cuda_path_in_a_process_of_its_own(tmp_path: Path, root: Path) -> None:
    """The tests of `cuda_path.py`, with a device guard that does nothing."""
    environment = {**os.environ, fake_cuda.GUARD: str(fake_cuda.compiled_guard(tmp_path))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("cuda_path.py")),
    ]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout
