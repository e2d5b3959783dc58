"""No process of several holds a model that they share as a whole: not to load it, not to save it, not to go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.memory import store
from support.processes import finish, start

pytestmark = pytest.mark.slow


def test_memory_of_each_process(tmp_path: Path) -> None:
    """Of four each has a quarter; weights are 1, with moments 3. Peaks beside what was there before."""
    store(tmp_path / "warm", layers=1, hidden=16)
    whole = store(tmp_path / "base", layers=12, hidden=512)
    code = "from support.memory import main; main()"
    written = finish(start(4, *(str(tmp_path / name) for name in ("warm", "base", "")), code=code))
    peaks = [json.loads(line.splitlines()[-1]) for line in written]
    most = {name: max(each[name] for each in peaks) / whole for name in peaks[0]}
    print({name: round(share, 3) for name, share in most.items()}, f"of {whole / 2**20:.0f} MiB")
    assert most["load"] < 0.5
    assert most["save"] < 3 * 0.5
    assert most["resume"] < 3 * 0.5
    assert most["model"] < 0.5
