"""Names that are no file to read: each is refused for what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twofold.data.readers import rows
from twofold.errors import DataError


def test_a_device_or_a_pipe_is_not_called_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    for source in ("/dev/null", str(tmp_path / "rows.jsonl")):
        with pytest.raises(DataError, match="is no file and no folder, but a device, a pipe or a socket") as refusal:
            rows(source)
        assert (refusal.value.where, refusal.value.remedy) == (source, "write the rows to a file first")


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_name_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="an empty name is no file"):
        rows(source)


def test_a_folder_without_data_asks_for_no_connection(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        list(rows(str(tmp_path)))
    assert refusal.value.remedy == "name a file in it, or a pattern as `FOLDER/*.jsonl`, and check the split"
