"""Pairs of sums, as rows and as a file."""

from __future__ import annotations

import json
from pathlib import Path

ROWS = [
    {"prompt": f"{a}+{b}?", "chosen": f"{a}+{b}={a + b}\n#### {a + b}", "rejected": f"#### {a}"}
    for a in range(1, 7)
    for b in range(1, 4)
]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
