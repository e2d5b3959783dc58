"""Rows of published benchmarks: each form of their answers, and each fault by its file and row."""

from __future__ import annotations

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from twofold.data.issues import IssueError
from twofold.errors import DataError
from twofold.evaluation.published_rows import (
    PUBLISHED_AT,
    BenchmarkItem,
    MtQuestion,
    fields_of,
    gamed_rows,
    items,
    items_of,
    load,
    mt_questions,
    published_answers,
    refuse_unknown_difficulty,
    text_of,
    turns_in,
)
from twofold.records import Demonstration, Record, Request, Source


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def refused(call: Any, *given: Any) -> tuple[str, str, str]:
    with pytest.raises(DataError) as error:
        call(*given)
    return error.value.what, error.value.where, error.value.remedy


def item(index: int, name: str = "", prompt: str = "p") -> BenchmarkItem:
    return BenchmarkItem(Request(prompt, Source("q", index + 1)), index, "s", name)


ALPACA = [{"instruction": "a", "output": "x", "dataset": "d"}, {"instruction": "b"}, {"instruction": "c", "output": ""}]


def test_rows_are_read_up_to_a_limit(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", *ALPACA)
    table = load("alpaca-eval", file)
    records = [
        Demonstration("a", "x", Source(file, 1)), Request("b", Source(file, 2)),
        Demonstration("c", "", Source(file, 3)),
    ]  # fmt: skip
    assert list(table.records) == records
    assert load("alpaca-eval", file, 2).records == records[:2]
    assert (table.format, table.source) == ("alpaca-eval", file)
    assert table.sha256 == sha256(Path(file).read_bytes()).hexdigest()
    assert refused(load, "alpaca-eval", file, 0) == ("has no rows", file, PUBLISHED_AT["alpaca-eval"])


def test_a_broken_line_is_an_error_and_an_empty_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"instruction": "a"}\n\n{"instruction": "b"}\n', encoding="utf-8")
    assert [record.source.row for record in load("alpaca-eval", str(file)).records] == [1, 3]
    file.write_text('{"instruction": "a"}\n{"instruction":\n', encoding="utf-8")
    with pytest.raises(IssueError, match=r"a\.jsonl:2"):
        load("alpaca-eval", str(file))


def test_items_have_place_subset_and_id(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", *ALPACA[:2])
    records = load("alpaca-eval", file).records
    first, second = items_of("alpaca-eval", records)
    assert first == BenchmarkItem(records[0], 0, "d", "")
    assert second == BenchmarkItem(records[1], 1, "", "")
    hard = {"uid": 7, "category": "coding", "prompt": "p"}
    again = load("arena-hard", lines(tmp_path / "h.jsonl", hard)).records
    assert items("arena-hard")(again) == [BenchmarkItem(again[0], 0, "coding", "7")]
    assert refused(items_of, "arena-hard", []) == ("no rows", "arena-hard", PUBLISHED_AT["arena-hard"])


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question_id": 3, "choices": [{"turns": ["x", "y"]}]}, "x"),
        ({"question_id": 3, "choices": [{"turns": [{"content": "x"}]}]}, "x"),
        ({"uid": "3", "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}]}, "x"),
        ({"uid": "3", "messages": [{"role": "assistant", "content": {"answer": "x"}}]}, "x"),
        ({"instruction": "p", "output": "x"}, "x"),
        ({"instruction": "p", "output": ""}, ""),
    ],
)
def test_published_answers_have_three_forms(row: dict[str, Any], answer: str, tmp_path: Path) -> None:
    assert published_answers(lines(tmp_path / "a.jsonl", row), [item(0, "3")]) == [answer]


@pytest.mark.parametrize(
    "row",
    [
        {"question_id": 3, "choices": []}, {"question_id": 3, "choices": [{"turns": []}]},
        {"question_id": 3, "choices": [{"turns": "xy"}]}, {"uid": "3", "messages": []}, {"uid": "3", "messages": "x"},
        {"uid": "3", "messages": [{"role": "user", "content": "x"}]}, {"uid": "3", "messages": ["x"]},
        {"uid": "3", "messages": [{"role": "assistant", "content": {"answer": 4}}]},
        {"instruction": "p"}, {"instruction": "p", "output": 4},
    ],
)  # fmt: skip
def test_a_published_row_without_an_answer_is_named(row: dict[str, Any], tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", {"instruction": "other", "output": "x"}, row)
    remedy = "each row needs an answer: `output`, or the assistant's last message, or a turn of `choices`"
    assert refused(published_answers, file, [item(0, "3")]) == ("has no answer", f"{file}:2", remedy)


@pytest.mark.parametrize(
    "row", [{"prompt": "p", "completion": "x"}, {"choices": [{"turns": ["x"]}]}, {"instruction": 3, "output": "x"}]
)
def test_a_file_of_another_form_is_none_of_a_benchmark(row: dict[str, Any], tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", {"instruction": "p", "output": "x"}, row)
    assert published_answers(file, [item(0)]) is None
    (tmp_path / "b.jsonl").write_text('{"instruction":\n', encoding="utf-8")
    assert published_answers(str(tmp_path / "b.jsonl"), [item(0)]) is None


def test_answers_match_by_id_or_by_prompt_in_the_order_of_the_items(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", {"uid": "u", "messages": [{"role": "assistant", "content": "1"}]},
                 {"instruction": "p2", "output": "2"})  # fmt: skip
    several = [item(1, "", "p2"), item(0, "u", "p1")]
    assert published_answers(file, several) == ["2", "1"]
    lacking = [*several, item(2, "v", "p3"), item(3, "w", "p4")]
    what = "has no answer to 2 of 4 prompts, the first of q:3"
    assert refused(published_answers, file, lacking) == (what, file, "add these rows, or use --limit")


def test_fields_are_those_of_the_items(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "a.jsonl", {"uid": "u", "k": 1}, {"uid": "v"}, {"question_id": 7, "k": 2}, {"uid": "w", "k": 3}
    )
    several = [item(4, "7"), item(5, "u"), item(6, "v"), item(7, "x")]
    assert fields_of(file, several, "k") == {4: (f"{file}:3", 2), 5: (f"{file}:1", 1)}


def questions(path: Path, *rows: dict[str, Any]) -> list[Record]:
    file = lines(path / "question.jsonl", *({"turns": ["a", "b"], "category": "math", **row} for row in rows))
    return list(load("mt-bench", file).records)


def test_questions_have_their_second_turns_and_references(tmp_path: Path) -> None:
    """By category; a file of references goes before the rows' own."""
    own = ["r1", "r2", "r3"]
    categories = ("math", "math", "stem", "coding", "reasoning")
    rows: list[dict[str, Any]] = [
        {"question_id": n, "reference": own, "category": c} for n, c in enumerate(categories, 1)
    ]
    rows[1]["reference"] = ["r1"]
    records = questions(tmp_path, *rows)
    both = ("r1", "r2")
    assert mt_questions(records) == [
        MtQuestion(record, index, category, str(index + 1), "b", told)
        for index, (record, category, told) in enumerate(
            zip(records, categories, (both, None, None, both, both), strict=True)
        )
    ]
    (tmp_path / "reference_answer").mkdir()
    lines(tmp_path / "reference_answer" / "gpt-4.jsonl", {"question_id": 2, "choices": [{"turns": ["s1", "s2"]}]})
    assert [each.references for each in mt_questions(records)[:2]] == [both, ("s1", "s2")]


def test_a_judge_reads_the_references_up_to_the_turn() -> None:
    base = item(0)
    known = MtQuestion(base.record, 0, "math", "1", "b", ("r1", "r2"))
    assert known.truth(0) == "r1"
    assert known.truth(1) == "To the first question:\nr1\n\nTo the second question:\nr2"
    without = MtQuestion(base.record, 0, "math", "1", "b")
    assert (without.truth(0), without.truth(1)) == (None, None)


def test_a_question_that_occurs_twice_is_named(tmp_path: Path) -> None:
    records = questions(tmp_path, {"question_id": 1}, {"question_id": 2}, {"question_id": "1"})
    where = f"{tmp_path / 'question.jsonl'}:3"
    assert refused(mt_questions, records) == ("repeats question_id 1", where, "remove one of the rows")
    assert refused(mt_questions, []) == ("no rows", "mt-bench", PUBLISHED_AT["mt-bench"])


def test_references_are_one_file_with_two_turns_in_each_row(tmp_path: Path) -> None:
    records, folder = questions(tmp_path, {"question_id": 1}), tmp_path / "reference_answer"
    folder.mkdir()
    remedy = "use reference_answer/gpt-4.jsonl of FastChat, or remove the folder"
    for row in ({"question_id": 1, "choices": [{"turns": ["a"]}]}, {"choices": [{"turns": ["a", "b"]}]},
                {"question_id": 1}):  # fmt: skip
        file = lines(folder / "b.jsonl", {"question_id": 9, "choices": [{"turns": ["a", "b"]}]}, row)
        what = "has no question_id with two turns in `choices`"
        assert refused(mt_questions, records) == (what, f"{file}:2", remedy)
    (folder / "b.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(IssueError):
        mt_questions(records)
    lines(folder / "a.jsonl")
    what = "has 2 files of reference answers: a.jsonl, b.jsonl"
    assert refused(mt_questions, records)[:2] == (what, str(folder))


def test_turns_are_texts_in_two_forms() -> None:
    assert turns_in({"choices": [{"turns": ["a", {"content": "b"}, {"content": 3}, 4]}]}) == ["a", "b"]
    assert turns_in({"choices": [{"turns": "ab"}]}) is None
    for row in ({}, {"choices": []}, {"choices": [{}]}, {"choices": None}):
        assert turns_in(row) is None


HEAD = "index,instruction_difficulty,std_delta_len,preference\n"


def gamed(folder: Path, *rows: str) -> Any:
    (folder / "df_gamed.csv").write_text(HEAD + "".join(row + "\n" for row in rows), encoding="utf-8")
    return gamed_rows(str(folder / "data.json"))


def test_a_file_of_gamed_answers(tmp_path: Path) -> None:
    """A row without a preference has a difficulty alone; the first difficulty of an index counts."""
    assert gamed_rows(str(tmp_path / "data.json")) is None
    found = gamed(tmp_path, "0,0.5,1.0,0.25", "1,-1,2.0,", "2,3,x,nan", "3,4,,NaN", "0,9,-1.0,1", "4.0,2,0,0")
    assert found.difficulty == {0: 0.5, 1: -1.0, 2: 3.0, 3: 4.0, 4: 2.0}
    assert found.share_G.tolist() == [0.25, 1.0, 0.0]
    expected = [[math.tanh(1.0), 0.5, 0.0], [-math.tanh(1.0), 9.0, 0.0], [0.0, 2.0, 0.0]]
    assert found.feature_GK.tolist() == [pytest.approx(row) for row in expected]
    refuse_unknown_difficulty([item(0), item(4)], found)
    what = "df_gamed.csv has no instruction_difficulty of index 5"
    assert refused(refuse_unknown_difficulty, [item(4), item(5)], found)[:2] == (what, "q:6")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("1,0,0,1.5", "preference 1.5 is not from 0 to 1"), ("1,0,0,-0.5", "preference -0.5 is not from 0 to 1"),
        ("1,,0,1", "has no number in column `instruction_difficulty`"), ("x,0,0,1", "has no number in column `index`"),
        ("1,0,,1", "has no number in column `std_delta_len`"),
        ("1,inf,0,1", "column `instruction_difficulty` is not finite"),
        ("1,0,0,much", "has no number in column `preference`"),
    ],
)  # fmt: skip
def test_a_gamed_row_that_is_wrong_is_named_by_its_line(row: str, what: str, tmp_path: Path) -> None:
    assert refused(gamed, tmp_path, "0,0,0,1", row)[:2] == (what, f"{tmp_path / 'df_gamed.csv'}:3")


def test_a_gamed_file_without_preferences_has_no_rows(tmp_path: Path) -> None:
    where, remedy = str(tmp_path / "df_gamed.csv"), "download df_gamed.csv of tatsu-lab/alpaca_eval"
    assert refused(gamed, tmp_path, "0,1,1,") == ("has no rows", where, remedy)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (3, "has 3 as `k`, not a text"), (["a"], "has a list as `k`, not a text"),
        ({}, "has an object as `k`, not a text"),
        (True, "has true as `k`, not a text"), (10**50, f"has 1{'0' * 39} as `k`, not a text"),
        (None, "lacks the key `k`"),
        (" ", "`k` is empty"), ("", "`k` is empty"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_text_is_named(value: Any, what: str) -> None:
    assert refused(text_of, {"k": value}, "k", "f:1", "mend it") == (what, "f:1", "mend it")
    assert text_of({"k": " a "}, "k", "f:1", "mend it") == " a "
    assert text_of({"k": ""}, "k", "f:1", "mend it", empty=True) == ""


@pytest.mark.parametrize(
    ("task", "row", "what"),
    [
        ("arena-hard", {"category": "c", "prompt": "p"}, "lacks the key `uid`"),
        ("arena-hard", {"uid": "u", "prompt": "p"}, "lacks the key `category`"),
        ("arena-hard", {"uid": "u", "category": "c", "turns": [{"content": "a"}] * 2}, "lacks the key `prompt`"),
        ("arena-hard", {"uid": "u", "category": "c", "turns": ["a"]}, "lacks the key `prompt`"),
        ("arena-hard", {"uid": "u", "category": "c", "turns": [{}]}, "lacks the key `content`"),
        ("mt-bench", {"category": "c", "turns": ["a", "b"]}, "lacks the key `question_id`"),
        ("mt-bench", {"question_id": "", "category": "c", "turns": ["a", "b"]}, "lacks the key `question_id`"),
        ("mt-bench", {"question_id": 1, "turns": ["a", "b"]}, "lacks the key `category`"),
        ("mt-bench", {"question_id": 1, "category": "c", "turns": ["a", " "]}, "`turns` are not two texts"),
        ("mt-bench", {"question_id": 1, "category": "c", "turns": ["a", 3]}, "`turns` are not two texts"),
        ("mt-bench", {"question_id": 1, "category": "c", "turns": ["a"]}, "`turns` are not two texts"),
        ("mt-bench", {"question_id": 1, "category": "c", "turns": "ab"}, "`turns` are not two texts"),
    ],
)  # fmt: skip
def test_a_row_that_lacks_something_is_named(task: str, row: dict[str, Any], what: str, tmp_path: Path) -> None:
    file = lines(tmp_path / "q.jsonl", row)
    assert refused(load, task, file) == (what, f"{file}:1", PUBLISHED_AT[task])


def test_prompts_of_arena_hard_have_two_forms(tmp_path: Path) -> None:
    base = {"question_id": 0, "category": "c"}
    turns = {"turns": [{"content": "t"}]}
    file = lines(tmp_path / "q.jsonl", {**base, "prompt": "p"}, {**base, **turns}, {**base, **turns, "prompt": "p"})
    assert [record.prompt for record in load("arena-hard", file).records] == ["p", "t", "p"]
