"""An answer that is a number is refused by its row; it is not dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import read, scan
from twofold.errors import DataError


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "2+2?", "answer": 4}, "is a number"),
        ({"prompt": "2+2?", "completion": "It is 4.", "answer": 4}, "is no text"),
        ({"prompt": "2+2?", "completion": "It is 4.", "answer": 4.0}, "is no text"),
        ({"prompt": "2+2?", "completion": "It is 4.", "answer": True}, "is no text"),
    ],
)
def test_a_number_is_no_answer(row: dict[str, Any], what: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=what) as error:
        read(str(file))
    assert "answer" in str(error.value)


@pytest.mark.parametrize("answer", [None, ["4", "four"], {"value": "4"}])
def test_what_is_no_single_value_is_no_answer_to_check(answer: Any, tmp_path: Path) -> None:
    """The row is a demonstration; of its other columns only one that is filled is refused."""
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "2+2?", "completion": "It is 4.", "answer": answer}) + "\n", encoding="utf-8")
    assert scan(str(file)).table.format == "prompt + completion"
