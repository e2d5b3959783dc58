"""docs/data.md shows every format, and its rows are read as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from twofold.data.formats import read
from twofold.data.shapes import SHAPES
from twofold.records import Demonstration, Labelled, Pair, Ranking, Request, Steps, Task

KINDS = {
    "Pairs": (Pair,),
    "Rankings": (Ranking,),
    "Labeled": (Labelled,),
    "Steps": (Steps,),
    "Demonstrations": (Demonstration,),
    "Problems": (Task, Request),
}


def shown(root: Path) -> list[tuple[str, str, str]]:
    """(section, format, row) of each line of the tables of formats."""
    found: list[tuple[str, str, str]] = []
    section = ""
    for line in (root / "docs" / "data.md").read_text(encoding="utf-8").splitlines():
        head = re.match(r"\| (\w+).*\| who writes it \|", line)
        section = head[1] if head else section
        row = re.fullmatch(r"\| (.+?) \| .*? ?\| `(\{.*\})` \|", line)
        if row:
            found.append((section, row[1], row[2]))
    return found


def test_every_format_is_shown_once(root: Path) -> None:
    assert sorted(name for _, name, _ in shown(root)) == sorted(shape.name for shape in SHAPES)


def test_every_row_shown_is_read_as_the_page_says(root: Path, tmp_path: Path) -> None:
    for section, name, row in shown(root):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(json.loads(row)) + "\n", encoding="utf-8")
        table = read(str(path))
        assert table.format == name
        assert isinstance(table.records[0], KINDS[section])


@pytest.mark.parametrize("name", ["loss_on", "weight", "columns", "generator: {count: 1473}"])
def test_the_page_tells_of_the_settings(root: Path, name: str) -> None:
    assert name in (root / "docs" / "data.md").read_text(encoding="utf-8")
