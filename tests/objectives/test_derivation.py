"""The page that derives DPO runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch


def test_every_step_of_the_derivation_holds(root: Path) -> None:
    page = (root / "docs" / "objectives" / "derivation.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert program.count("assert ") == 7
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(program, "docs/objectives/derivation.md", "exec"), {})
