"""What a table can hold: its numbers are read wherever they count, its texts stay texts, no column gets lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data.fix import fix
from twofold.data.formats import read, scan
from twofold.data.looks import Further
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Labelled, Message, Pair

Write = Callable[[str, str], str]
HEADER = "prompt,completion,label\n"
PAIR = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return written


@pytest.mark.parametrize("name", ["ROWS.CSV", "rows.Csv"])
def test_a_name_in_capitals_is_csv_in_all_respects(write: Write, name: str) -> None:
    rows = read(write(name, HEADER + "q,a,true\nq,b,0\nq,c, 0.25 \n")).records
    assert [(r.desirable, r.probability) for r in rows if isinstance(r, Labelled)] == [
        (True, None), (False, None), (False, 0.75),
    ]  # fmt: skip


def test_a_folder_called_csv_makes_no_csv_of_json(write: Write) -> None:
    path = write("rows.csv.d/rows.jsonl", json.dumps({"prompt": "q", "completion": "a", "label": "true"}))
    assert scan(path).faults[0].reason == "is text, not true, false or a probability"


@pytest.mark.parametrize("weight", ["1_000", "٣", "0x10", "1e", "two"])
def test_a_weight_in_a_cell_is_written_as_json_writes_it(write: Write, weight: str) -> None:
    fault = scan(write("rows.csv", f"prompt,completion,weight\nq,a,{weight}\n")).faults[0]
    assert (fault.field, fault.reason) == ("weight", "is text, not a finite number")


def test_scores_in_cells_count_for_the_margin(write: Write) -> None:
    path = write("rows.csv", "prompt,chosen,rejected,score_chosen,score_rejected\nq,a,b,1,5\nr,a,b,2.5,1\ns,a,b,x,1\n")
    (fault,) = check(path, further=Further(least_margin=0.5)).faults
    assert (fault.row, fault.reason) == (2, "chosen scores -4 against rejected, less than 0.5")


@pytest.mark.parametrize(
    ("header", "cells", "chosen"),
    [
        ("prompt,response_1,response_2,preference_strength", "q,a,b,-2", "a"),
        ("prompt,response_1,response_2,preference_strength", "q,a,b,0.5", "b"),
        ("history,human_ref_A,human_ref_B,labels", "q,a,b,1", "a"),
        ("history,human_ref_A,human_ref_B,labels", "q,a,b,0", "b"),
        ("prompt,response_0,response_1,better_response_id", "q,a,b,1.0", "b"),
    ],
)
def test_verdicts_in_cells_are_numbers(write: Write, header: str, cells: str, chosen: str) -> None:
    (row,) = read(write("rows.csv", f"{header}\n{cells}\n")).records
    assert isinstance(row, Pair)
    assert row.chosen == chosen


def test_a_score_beyond_every_float_is_none(write: Write) -> None:
    row = json.dumps(PAIR)[:-1] + f', "score_chosen": 1{"0" * 400}, "score_rejected": 1}}'
    (fault,) = check(write("rows.jsonl", row), further=Further(least_margin=0.5)).faults
    assert fault.check == "no scores"


def test_a_completion_of_json_stays_text(write: Write) -> None:
    (row,) = read(write("rows.csv", 'prompt,chosen,rejected\nq,"[{""a"": 1, ""a"": 2}]",n\n')).records
    assert isinstance(row, Pair)
    assert row.chosen == '[{"a": 1, "a": 2}]'


def test_a_null_system_message_is_none_and_an_empty_one_makes_a_chat(write: Write) -> None:
    rows = [{**PAIR, "system": "s"}, {**PAIR, "system": None}, PAIR, {**PAIR, "system": ""}, {**PAIR, "system": 0}]
    found = scan(write("rows.jsonl", "\n".join(map(json.dumps, rows))))
    ask = Message("user", "1 + 1?")
    assert [r.prompt for r in found.table.records] == [(Message("system", "s"), ask), "1 + 1?", "1 + 1?", (ask,)]
    assert [(f.row, f.field, f.reason) for f in found.faults] == [(5, "system", "is a number, not text or a chat")]


def test_every_column_of_every_row_is_written(write: Write, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [PAIR, {**PAIR, "prompt": "b", "system": "s"}, {**PAIR, "prompt": "c", "weight": 3}]
    path = write("rows.jsonl", "\n".join(map(json.dumps, rows)))
    fixed = fix(check(path), str(tmp_path / "out.csv"), check)
    before, after = (read(each).records for each in (path, str(tmp_path / "out.csv")))
    assert fixed.rows_left == 3
    assert [(r.prompt, getattr(r, "weight", None)) for r in before] == [
        (r.prompt, getattr(r, "weight", None)) for r in after
    ]


def test_a_table_of_too_many_columns_and_one_of_lists_are_refused(write: Write, tmp_path: Path) -> None:
    wide = "\n".join(json.dumps({**PAIR, "prompt": f"{n}", f"{n}_id": 1}) for n in range(999))
    path = write("wide.jsonl", wide)
    with pytest.raises(DataError, match="has more than 1,000 different fields"):
        fix(check(path), str(tmp_path / "out.csv"), check)
    lists = write("lists.jsonl", json.dumps({"prompt": "q", "completions": ["a", "b"]}))
    with pytest.raises(DataError, match="no row is without faults") as refusal:
        fix(check(lists), str(tmp_path / "out.csv"), check)
    assert refusal.value.remedy == "CSV has no lists but chats: name an output that ends in .jsonl"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lists.jsonl", Path(path).name]


def test_a_number_that_is_none_is_no_repair_and_thousands_of_digits_are_left_out(write: Write, tmp_path: Path) -> None:
    nan = json.dumps({**PAIR, "score": float("nan")})
    path = write("rows.jsonl", nan + "\n" + json.dumps({**PAIR, "prompt": "b", "weight": "9" * 5000}))
    fixed = fix(check(path), str(tmp_path / "out.jsonl"), check)
    assert (fixed.rows_left, fixed.left_out, dict(fixed.repairs)) == (1, 1, {})
