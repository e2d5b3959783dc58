"""Each task measures on rows of its own kinds, and says what it wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError
from twofold.evaluation.rows import rows_of
from twofold.records import Demonstration, Labelled, Pair, Ranking, Record, Request, Source, Task

AT = Source("rows.jsonl", 3)
ROWS: dict[str, Record] = {
    "pair": Pair("p", "a", "b", AT), "demonstration": Demonstration("p", "a", AT), "task": Task("p", "1", AT),
    "ranking": Ranking("p", ("a", "b"), AT), "labelled": Labelled("p", "a", True, AT), "request": Request("p", AT),
}  # fmt: skip
PROMPTS = {"pair", "demonstration", "ranking", "request", "task"}
WANTED: dict[Any, tuple[set[str], str, str]] = {
    "answers": ({"task"}, "problems with answers", "rows need a prompt and an answer"),
    "preference": ({"pair"}, "pairs", "rows need chosen and rejected"),
    "perplexity": ({"pair", "demonstration"}, "pairs or completions",
                   "rows need chosen and rejected, or prompt and completion"),
    "win-rate": (PROMPTS, "rows of one shape with prompts",
                 "rows need prompts, and answers unless there is --against MODEL"),
    "contest": (PROMPTS, "rows of one shape with prompts", "rows need prompts, and answers for `reference`"),
    "frontier": (PROMPTS, "rows of one shape with prompts", "rows need prompts"),
}  # fmt: skip


@pytest.mark.parametrize("task", WANTED)
@pytest.mark.parametrize("kind", ROWS)
def test_a_task_takes_rows_that_it_can_use(task: Any, kind: str) -> None:
    kinds, what, remedy = WANTED[task]
    rows = [ROWS[kind]] * 2
    if kind in kinds:
        assert rows_of(rows, task) == rows
        return
    with pytest.raises(DataError) as refused:
        rows_of(rows, task)
    other = "; for pairs choose --task preference" if kind == "pair" else ""
    assert str(refused.value) == f"rows.jsonl: --task {task} requires {what}\n  → {remedy}{other}"


def test_rows_are_of_one_kind_and_there_are_some() -> None:
    with pytest.raises(DataError) as refused:
        rows_of([ROWS["demonstration"], ROWS["pair"]], "perplexity")
    assert "; for pairs choose" not in str(refused.value)
    with pytest.raises(DataError) as refused:
        rows_of([], "frontier")
    assert str(refused.value) == "frontier: no rows\n  → name a file with rows"


def test_a_file_is_read_and_of_a_folder_what_is_to_test_on(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "answer": "1"}) + "\n")
    assert [row.prompt for row in rows_of(str(tmp_path / "train.jsonl"), "answers")] == ["train"]
    assert [row.prompt for row in rows_of(str(tmp_path), "answers")] == ["test"]
