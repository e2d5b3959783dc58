from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import read
from twofold.errors import DataError
from twofold.records import Demonstration, Message, Pair, Source, Task

Write = Callable[..., str]

PAIR = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}
USER = {"role": "user", "content": "1 + 1?"}
CHAT = (Message("user", "1 + 1?"),)


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("row", "shape", "record"),
    [
        (PAIR, "prompt + chosen + rejected", Pair("1 + 1?", "2", "3", Source("", 1))),
        (
            {"prompt": [USER], "chosen": [said("2")], "rejected": [said("3")]},
            "prompt + chosen + rejected",
            Pair(CHAT, "2", "3", Source("", 1)),
        ),
        (
            {"prompt": [USER], "chosen": [USER, said("2")], "rejected": [USER, said("3")]},
            "prompt + chosen + rejected",
            Pair(CHAT, "2", "3", Source("", 1)),
        ),
        (
            {"prompt": "1 + 1?", "chosen": [USER, said("2")], "rejected": [USER, said("3")], "score": 4.5},
            "prompt + chosen + rejected",
            Pair(CHAT, "2", "3", Source("", 1)),
        ),
        (
            {"chosen": [USER, said("2")], "rejected": [USER, said("3")]},
            "chosen + rejected (shared prompt)",
            Pair(CHAT, "2", "3", Source("", 1)),
        ),
        (
            {"chosen": [USER, said("2")], "rejected": [USER, said("2")]},
            "chosen + rejected (shared prompt)",
            Pair(CHAT, "2", "2", Source("", 1)),
        ),
        (
            {"prompt": [USER], "chosen": "2", "rejected": "3"},
            "prompt + chosen + rejected",
            Pair(CHAT, "2", "3", Source("", 1)),
        ),
        ({"prompt": "a", "completion": "b"}, "prompt + completion", Demonstration("a", "b", Source("", 1))),
        (
            {"prompt": [USER], "completion": [said("2")], "chosen": None, "rejected": None},
            "prompt + completion",
            Demonstration(CHAT, "2", Source("", 1)),
        ),
        ({"prompt": "a", "answer": "b"}, "prompt + answer", Task("a", "b", Source("", 1))),
        (
            {"prompt": "a", "completion": "It is b.", "answer": "b"},
            "prompt + completion + answer",
            Task("a", "b", Source("", 1), "It is b."),
        ),
        ({"question": "a", "answer": "b"}, "question + answer", Task("a", "b", Source("", 1))),
    ],
)  # fmt: skip
def test_shapes_are_told_by_their_keys(write: Write, row: Any, shape: str, record: Any) -> None:
    path = write("rows.jsonl", row)
    table = read(path)
    assert table.format == shape
    assert str(table.records[0].source) == f"{path}:1"
    expected = {name: getattr(record, name) for name in record.__slots__ if name != "source"}
    assert {name: getattr(table.records[0], name) for name in expected} == expected
    assert type(table.records[0]) is type(record)


def test_rows_are_numbered_as_an_editor_numbers_lines(write: Write) -> None:
    table = read(write("rows.jsonl", PAIR, "", PAIR))
    assert [r.source.row for r in table.records] == [1, 3]


def test_sha256_is_that_of_the_file(write: Write) -> None:
    path = write("rows.jsonl", PAIR)
    assert read(path).sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_limit_reads_no_further(write: Write) -> None:
    assert len(read(write("rows.jsonl", PAIR, PAIR, "{broken"), limit=2).records) == 2


def test_a_json_array_and_gzip_are_read(tmp_path: Path, write: Write) -> None:
    rows = [PAIR, {**PAIR, "chosen": "two"}]
    array = write("rows.json", json.dumps(rows, indent=1))
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    for path in (array, str(packed)):
        assert [(r.source.row, r.chosen) for r in read(path).records if isinstance(r, Pair)] == [(1, "2"), (2, "two")]


def test_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    rows = [{"prompt": [USER], "chosen": [said("2")], "rejected": [said(str(i))]} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert read(str(path)).records[2] == Pair(CHAT, "2", "2", Source(str(path), 3))


def test_a_folder_saved_by_datasets_is_read_by_split(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list([PAIR])
    datasets.disable_progress_bars()
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "many")
    one, test = read(str(tmp_path / "one")), read(str(tmp_path / "many"), split="test")
    assert one.records == [Pair("1 + 1?", "2", "3", Source(str(tmp_path / "one"), 1))]
    assert test.records[0].prompt == "1 + 1?"
    assert one.sha256 == test.sha256
    with pytest.raises(DataError, match="has no split `tset`") as error:
        read(str(tmp_path / "many"), split="tset")
    assert error.value.remedy == "choose one of `train`, `test`"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what `datasets` caches inside the test's folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("cache")
def test_a_name_that_load_dataset_knows_is_read(tmp_path: Path, write: Write) -> None:
    (tmp_path / "folder").mkdir()
    write("folder/train.jsonl", PAIR, {**PAIR, "chosen": "two"})
    table = read(str(tmp_path / "folder"))
    assert table.records[1] == Pair("1 + 1?", "two", "3", Source(str(tmp_path / "folder"), 2))
    with pytest.raises(DataError, match="split `nowhere` cannot be loaded"):
        read(str(tmp_path / "folder"), split="nowhere")


@pytest.mark.usefixtures("cache")
def test_a_name_that_no_one_knows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"nobody/nothing: split `train` cannot be loaded") as error:
        read("nobody/nothing")
    assert error.value.remedy.startswith("check the name")


def test_columns_name_what_others_call_otherwise(write: Write) -> None:
    path = write("rows.jsonl", {"question": "a", "good": "b", "bad": "c"})
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert read(path, columns=columns).records == [Pair("a", "b", "c", Source(path, 1))]


def test_columns_turn_a_task_into_a_demonstration(write: Write) -> None:
    path = write("rows.jsonl", {"question": "a", "answer": "b"})
    table = read(path, columns={"prompt": "question", "completion": "answer"})
    assert table.records == [Demonstration("a", "b", Source(path, 1))]


def test_a_column_that_is_not_there_is_named(write: Write) -> None:
    path = write("rows.jsonl", {"question": "a", "good": "b"})
    with pytest.raises(DataError, match="the column `godo` is missing") as error:
        read(path, columns={"chosen": "godo"})
    assert (error.value.where, error.value.remedy) == (f"{path}:1, `chosen`", "did you mean `good`?")
    with pytest.raises(DataError, match="unknown field `chosn`") as error:
        read(path, columns={"chosn": "good"})
    assert error.value.remedy == "did you mean `chosen`?"


def test_an_unknown_shape_names_the_keys_and_the_nearest(write: Write) -> None:
    path = write("rows.jsonl", {"prompt": "a", "chosn": "b", "rejected": "c"})
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.where == f"{path}:1"
    assert "`prompt`, `chosn`, `rejected`" in error.value.what
    assert "`chosn`: did you mean `chosen`?" in error.value.remedy
    assert "prompt + completion" in error.value.remedy


def test_an_unknown_shape_without_a_near_key_tells_of_columns(write: Write) -> None:
    with pytest.raises(DataError, match="name yours with `columns`"):
        read(write("rows.jsonl", {"x": "a", "y": "b"}))


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"prompt": "a", "chosen": None, "rejected": "c"}, "chosen", "is null"),
        ({"prompt": "a", "chosen": 5, "rejected": "c"}, "chosen", "is a number, not text or a chat"),
        ({"prompt": "a", "chosen": "", "rejected": "c"}, "chosen", "is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": " \n"}, "rejected", "is only white space"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "prompt", "a chat without messages"),
        ({"prompt": ["a"], "chosen": "b", "rejected": "c"}, "prompt", "message 1 is text, not an object"),
        (
            {"prompt": [{"speaker": "human", "value": "a"}], "chosen": "b", "rejected": "c"},
            "prompt",
            "message 1 has the keys `speaker`, `value`, not `role` and `content`",
        ),
        ({"prompt": [{"role": "bot", "content": "a"}], "chosen": "b", "rejected": "c"}, "prompt", "unknown role 'bot'"),
        (
            {"prompt": [{"role": "user", "content": None}], "chosen": "b", "rejected": "c"},
            "prompt",
            "message 1 is null",
        ),
        ({"prompt": [USER, said("x")], "chosen": "b", "rejected": "c"}, "prompt", "ends with an assistant turn"),
        ({"prompt": [USER], "chosen": [USER], "rejected": "c"}, "chosen", "has no assistant turn"),
        (
            {"prompt": [USER], "chosen": [said("x"), said("y")], "rejected": "c"},
            "chosen",
            "has two assistant turns in a row",
        ),
        (
            {"prompt": "a", "chosen": [said("b")], "rejected": [said("c")]},
            "prompt",
            "is text, but the completions are chats",
        ),
        ({"chosen": [said("a")], "rejected": [said("c")]}, "chosen", "shares no prompt messages"),
        ({"prompt": "a", "completion": "b\ud800"}, "completion", "half a character"),
    ],
)
def test_a_fault_is_named_by_row_and_field(write: Write, row: Any, field: str, message: str) -> None:
    good = {"chosen": [USER, said("2")], "rejected": [USER, said("3")]}
    first = (
        PAIR if {"prompt", "chosen"} <= set(row) else good if "chosen" in row else {"prompt": "a", "completion": "b"}
    )
    path = write("rows.jsonl", first, row)
    with pytest.raises(DataError) as error:
        read(path)
    assert message in error.value.what
    assert error.value.where == f"{path}:2, `{field}`"
    assert error.value.remedy


def test_a_row_with_fewer_keys_says_which(write: Write) -> None:
    path = write("rows.jsonl", PAIR, {"prompt": "a", "chosen": "b", "rejcted": "c"})
    with pytest.raises(DataError, match="is missing; the row has `prompt`, `chosen`, `rejcted`") as error:
        read(path)
    assert (error.value.where, error.value.remedy) == (f"{path}:2, `rejected`", "`rejcted`: did you mean `rejected`?")


def test_mixed_shapes_are_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"has the shape question [+] answer, but the rows before it prompt [+] chosen"):
        read(write("rows.jsonl", PAIR, {"question": "a", "answer": "b"}))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b'{"prompt": oops}\n', "bad JSON at column 12: Expecting value"),
        (b'{"prompt": "a', "the last line is cut off"),
        (b'{"prompt": "\xff"}\n', "byte 13 (0xff) is not UTF-8"),
        (b"[1]\n", "the row is a list, not an object"),
        (b'{"prompt": ' + b"9" * 5000 + b"}\n", "bad JSON: Exceeds the limit"),
        (b'{"prompt": ' + b"[" * 100_000 + b"\n", "bad JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, second: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(PAIR).encode() + b"\n" + second)
    with pytest.raises(DataError) as error:
        read(str(path))
    assert error.value.where == f"{path}:2"
    assert error.value.what.startswith(message)


def test_a_last_line_without_a_line_end_is_read(write: Write) -> None:
    assert len(read(write("rows.jsonl", PAIR, PAIR, end="")).records) == 2


def test_a_byte_order_mark_is_passed_over(write: Write) -> None:
    assert len(read(write("rows.jsonl", "\ufeff" + json.dumps(PAIR))).records) == 1


def test_a_broken_gzip_or_parquet_file_is_named(tmp_path: Path) -> None:
    packed, parquet = tmp_path / "rows.jsonl.gz", tmp_path / "rows.parquet"
    packed.write_bytes(gzip.compress(b"\n".join([json.dumps(PAIR).encode()] * 50))[:-12])
    parquet.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read to its end"):
        read(str(packed))
    with pytest.raises(DataError, match="not readable as parquet"):
        read(str(parquet))


def test_a_missing_file_names_a_near_one(write: Write) -> None:
    path = write("pairs.jsonl", PAIR)
    with pytest.raises(DataError, match="no such file") as error:
        read(path.replace("pairs", "pair"))
    assert error.value.remedy == f"did you mean `{path}`?"


def test_another_kind_of_file_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"unknown kind of file `.xlsx`"):
        read(write("rows.xlsx", "a,b"))


@pytest.mark.parametrize("end", ["", "\n\n"])
def test_a_file_without_rows_is_refused(write: Write, end: str) -> None:
    with pytest.raises(DataError, match="has no rows"):
        read(write("rows.jsonl", end=end))


def test_gsm8k_is_read_as_it_is(shared: Path) -> None:
    table = read(str(shared / "data" / "gsm8k" / "test.jsonl"))
    assert (len(table.records), table.format) == (1319, "question + answer")
    first = table.records[0]
    assert isinstance(first, Task)
    assert first.answer.endswith("\n#### 18")
