"""Two models of an earlier evaluation, by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError
from twofold.evaluation.earlier import Earlier, earlier


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(model: str, right: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [{"model": model, "name": f"n{i}", "strict": value, **more} for i, value in enumerate(right)]


LEFT, RIGHT = [True] * 4 + [False] * 6, [True] * 2 + [False] * 2 + [True] * 5 + [False]


def test_two_models_of_one_file_are_paired_by_item(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *rows("b", LEFT), *reversed(rows("a", RIGHT)))
    found, deviation = earlier([path]), pytest.approx((6.1 / 9) ** 0.5)
    assert found == Earlier(("b", "a"), "strict", 10, 0.4, 0.7, deviation)  # type: ignore[arg-type]  # near this number


def test_of_two_files_the_first_models_are_compared(tmp_path: Path) -> None:
    first = write(tmp_path / "1.jsonl", *rows("a", LEFT), *rows("x", RIGHT))
    second = write(tmp_path / "2.jsonl", *rows("b", RIGHT), *rows("y", LEFT))
    found = earlier([first, second])
    assert (found.models, found.base, found.discordance) == (("a", "b"), 0.4, 0.7)


def test_a_number_that_is_no_verdict_has_no_discordance(tmp_path: Path) -> None:
    left, right = [0.5, 1.0] * 5, [1.0, 2.0] * 5
    path = write(tmp_path / "rows.jsonl", *rows("a", left, score=2.0), *rows("b", right, score=2.0))
    found = earlier([path], "strict")
    assert (found.base, found.discordance) == (0.75, None)
    assert found.deviation == pytest.approx((0.625 / 9) ** 0.5)
    assert earlier([path], "score") == Earlier(("a", "b"), "score", 10, 2.0, None, 0.0)


def test_rows_of_one_item_are_averaged_and_items_of_one_model_left_out(tmp_path: Path) -> None:
    a = [*rows("a", [1.0] * 10), {"model": "a", "name": "n0", "strict": 0.5}, {"model": "a", "strict": 0.0}]
    b = [*rows("b", [0.0] * 12), {"model": "b", "name": "n3", "strict": None}]
    found = earlier([write(tmp_path / "rows.jsonl", *a, *b)])
    assert (found.n, found.base) == (10, 0.975)


@pytest.mark.parametrize(
    ("row", "metric"),
    [
        ({"truncated": True, "tokens": 3, "cut": True, "step": 1, "reward": 0.5, "right": True}, "right"),
        ({"truncated": True, "tokens": 3, "cut": True, "step": 1, "text": "x", "reward": 0.5}, "reward"),
        ({"truncated": False, "strict": 1}, "strict"),
    ],
)
def test_the_metric_is_the_first_verdict_or_else_the_first_number(
    tmp_path: Path, row: dict[str, Any], metric: str
) -> None:
    told = [{"model": model, "prompt": str(i), **row} for model in "ab" for i in range(10)]
    assert earlier([write(tmp_path / "rows.jsonl", *told)]).metric == metric


def test_an_item_is_named_by_the_first_key_that_it_has(tmp_path: Path) -> None:
    a = [{"model": "a", "name": str(i), "prompt": "p", "source": "s", "strict": True} for i in range(10)]
    b = [{"model": "b", "prompt": str(i), "source": "s", "strict": True} for i in range(10)]
    assert earlier([write(tmp_path / "rows.jsonl", *a, *b)]).n == 10


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "rows.jsonl: has no rows\n  → name rows.jsonl of"),
        (rows("a", LEFT), "rows.jsonl: has 1 models, not two\n  → name a file of two, or two files"),
        ([*rows("a", LEFT), {"model": 3}], "rows.jsonl:11: is no row of an evaluation\n  → name rows.jsonl of"),
        ([*rows("a", LEFT), "x"], "rows.jsonl:11: is no row of an evaluation"),
        (
            [*rows("a", LEFT), *rows("b", RIGHT[:9])],
            "rows.jsonl: the models have 9 common items with 'strict', fewer than 10\n  → name rows.jsonl of",
        ),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, lines: list[Any], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", *lines)
    with pytest.raises(DataError) as error:
        earlier([path])
    assert message in str(error.value)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"model": "a", "name": "n", "strict": true}\n{', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: is no row of an evaluation"):
        earlier([path])
