"""Outputs that would destroy a file of another kind, or be read as one: refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.config.first_look import refuse_pages, refuse_rows
from twofold.errors import DataError

ROW = '{"prompt": "q", "chosen": "a", "rejected": "b"}\n'


def test_a_page_replaces_a_page_and_no_other_file(tmp_path: Path) -> None:
    rows, page, empty = (tmp_path / name for name in ("rows.jsonl", "old.html", "empty"))
    rows.write_text(ROW)
    page.write_text("<!DOCTYPE html>\n")
    empty.touch()
    refuse_pages(page, empty, None, tmp_path / "new" / "page.html", Path("/dev/null"))
    with pytest.raises(DataError, match="exists and is no page\n  → name another file for the page") as refusal:
        refuse_pages(page, rows)
    assert (refusal.value.where, rows.read_text()) == (str(rows), ROW)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl.gz", "ROWS.PARQUET", "rows.arrow", "rows.json.zst"])
def test_json_lines_are_not_named_as_other_rows(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="rows are written as JSON lines"):
        refuse_rows(tmp_path / "sub" / name)
    assert list(tmp_path.iterdir()) == []
    refuse_rows(tmp_path / "rows.jsonl", tmp_path / "rows", None)
