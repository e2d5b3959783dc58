"""Every filled key of a row and of a message is read, harmless, or refused by name with its row and a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.batch import DataKind
from twofold.data.formats import read, scan
from twofold.data.keys import HARMLESS, without
from twofold.data.kinds import RowNeeds, rows_of_kind
from twofold.data.reading import Reading
from twofold.data.tokenize import Encoder
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Message, Pair, Ranking, Source

Write = Callable[..., str]
TEXTS = {"prompt": "Which city?", "chosen": "Paris", "rejected": "Rome"}
ASK = {"role": "user", "content": "Which city?"}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def refused(path: str, **how: Any) -> list[tuple[int, str, str]]:
    report = check(Reading(path, **how))
    assert all(f.remedy for f in report.errors)
    return [(f.row, f.field, f.reason) for f in report.errors]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("images", ["heron.jpg"], "holds a picture, which is not read"),
        ("videos", ["a.mp4"], "holds sound or film, which is not read"),
        ("loss_weight", 0.5, "holds a training weight or mask, which is not supported yet"),
        ("mask", 0, "holds a training weight or mask, which is not supported yet"),
        ("train", False, "holds a training weight or mask, which is not supported yet"),
        ("reasoning_content", "since", "holds reasoning, which is read only as a text of a message"),
        ("tool_calls", [{"a": 1}], "holds a call of tools, which is read only in messages"),
        ("summary", "a city", "is filled, and twofold does not read it"),
        ("history", [["a", "b"]], "is filled, and twofold does not read it"),
    ],
)
def test_a_filled_key_of_a_row_that_nothing_reads_is_refused(write: Write, key: str, value: Any, reason: str) -> None:
    path = write("rows.jsonl", {**TEXTS, "prompt": "Where?"}, {**TEXTS, key: value})
    assert refused(path) == [(2, key, reason)]
    assert f"data.ignore=[{key}] (--ignore {key})" in check(path).errors[0].remedy
    assert refused(path, ignore=(key,)) == []
    assert [r.prompt for r in read(Reading(path, ignore=(key,))).records] == ["Where?", "Which city?"]


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_an_empty_key_says_nothing(write: Write, value: Any) -> None:
    path = write("rows.jsonl", {**TEXTS, "images": value, "summary": value, "mask": value})
    assert refused(path) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reasoning_details", ["since"]),
        ("label", False),
        ("mood", "glad"),
    ],
)
@pytest.mark.parametrize("place", ["prompt", "chosen", "rejected"])
def test_a_filled_key_of_a_message_that_nothing_reads_is_refused(
    write: Write, key: str, value: Any, place: str
) -> None:
    row: dict[str, Any] = {"prompt": [dict(ASK)], "chosen": [said("Paris")], "rejected": [said("Rome")]}
    row[place][0][key] = value
    path = write("rows.jsonl", row)
    ((number, field, reason),) = refused(path)
    assert (number, field) == (1, place)
    assert reason.startswith(f"message 1: its key `{key}` ")
    assert refused(path, ignore=(key,)) == []


def test_pairs_that_differ_in_their_reasoning_alone_are_not_the_same(write: Write) -> None:
    row = {"prompt": [ASK], "chosen": [said("5", thinking="a")], "rejected": [said("5", thinking="b")]}
    assert check(write("rows.jsonl", row)).ok
    same = check(write("same.jsonl", {**row, "rejected": row["chosen"]}))
    assert {f.check for f in same.errors} == {"chosen = rejected"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "input_audio", "input_audio": {"data": ""}},
        {"type": "text", "text": "a", "weight": 0},
        {"text": "a"},
    ],
)
def test_a_part_that_is_not_text_is_refused(write: Write, part: dict[str, Any]) -> None:
    content = [part, {"type": "text", "text": "What bird?"}]
    row = {"prompt": [{"role": "user", "content": content}], "chosen": "A heron.", "rejected": "A gull."}
    ((number, field, reason),) = refused(write("rows.jsonl", row))
    assert (number, field) == (1, "prompt")
    assert reason.startswith("message 1")


def test_parts_of_text_are_one_text(write: Write) -> None:
    content = [{"type": "text", "text": "What ", "image_url": None}, {"type": "text", "text": "bird?"}]
    row = {"prompt": [{"role": "user", "content": content}], "chosen": "A heron.", "rejected": "A gull."}
    assert read(write("rows.jsonl", row)).records[0].prompt == (Message("user", "What bird?"),)


def test_harmless_keys_may_stay(write: Write, root: Path) -> None:
    row = {**TEXTS, **{name: "x" for names in HARMLESS.values() for name in names}, "Prompt-ID": "7", "row_hash": "f"}
    assert refused(write("rows.jsonl", row)) == []
    page = (root / "docs" / "data.md").read_text(encoding="utf-8")
    assert [n for names in HARMLESS.values() for n in names if n and f"`{n}`" not in page] == []


def test_what_only_repeats_the_row_may_stay(write: Write) -> None:
    chosen, rejected = [ASK, said("Paris")], [ASK, said("Rome")]
    row = {"prompt": "Which city?", "chosen": chosen, "rejected": rejected, "messages": chosen}
    assert refused(write("rows.jsonl", row)) == []
    other = {**row, "summary": [ASK, said("Oslo")]}
    assert [f for _, f, _ in refused(write("other.jsonl", other))] == ["summary"]


def test_a_class_beside_a_text_may_stay_and_a_truth_may_not(write: Write) -> None:
    assert refused(write("rows.jsonl", {"text": "A film.", "label": 1})) == []
    assert [f for _, f, _ in refused(write("rows.jsonl", {"text": "A film.", "label": True}))] == ["label"]


def test_parts_of_rows_are_held_to_it_too(write: Write) -> None:
    scored = [{"text": "x", "score": 1, "model": "m"}, {"text": "y", "score": 2, "tool_calls": ["f"]}]
    assert refused(write("a.jsonl", {"prompt": "a", "completions": scored})) == [
        (1, "completions[2].tool_calls", "holds a call of tools, which is read only in messages")
    ]
    asked = {"messages": [ASK], "parallel_tool_calls": True, "reasoning": "high"}
    row = {"input": asked, "preferred_output": [said("a")], "non_preferred_output": [said("b")]}
    assert [f for _, f, _ in refused(write("b.jsonl", row))] == ["input.reasoning"]


def test_tools_and_system_messages_are_never_lost(write: Write) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert [f for _, f, _ in refused(write("a.jsonl", {**TEXTS, "tools": tools}))] == ["tools"]
    labelled = {"prompt": [ASK], "completion": "Paris", "label": True, "tools": tools}
    (read_,) = read(write("b.jsonl", labelled)).records
    assert isinstance(read_.prompt, tuple)
    assert [m.role for m in read_.prompt] == ["tools", "user"]
    ranked = {"prompt": [ASK], "completions": ["Paris", "Rome"], "tools": tools}
    assert read(write("e.jsonl", ranked)).records[0].prompt == read_.prompt
    system = {"role": "system", "content": "Be brief."}
    chat = {"prompt": [system, ASK], "chosen": "a", "rejected": "b", "system": "Be long."}
    assert [f for _, f, _ in refused(write("c.jsonl", chat))] == ["system"]
    assert refused(write("d.jsonl", {**chat, "system": "Be brief."})) == []


def needs(kind: DataKind, *columns: str) -> RowNeeds:
    return RowNeeds(kind, columns, "DPO")


@pytest.mark.parametrize(
    ("field", "kinds"),
    [
        ("margin", ("pairs", "labels", "prompts", "demonstrations")),
        ("probability", ("prompts", "demonstrations")),
        ("weight", ("prompts",)),
    ],
)
def test_what_an_objective_does_not_read_is_refused(field: str, kinds: tuple[DataKind, ...]) -> None:
    pair = replace(Pair("a", "b", "c", Source("f", 3)), **{field: 0.5})
    for kind in kinds:
        with pytest.raises(DataError, match=rf"f:3: `{field}` is filled.*\n.*data.ignore=\[{field}\]"):
            rows_of_kind([pair], needs(kind))
    assert rows_of_kind([pair], needs("pairs", *(["margin"] if field == "margin" else []))) == [pair]
    with pytest.raises(DataError):
        rows_of_kind([pair], needs("prompts", "margin", "win_rate"))
    with pytest.raises(DataError):
        rows_of_kind([Ranking("a", ("b", "c"), Source("f", 1), margin=1.0)], needs("rankings"))


TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}},
    {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "number"}}}}},
]
WITH_TOOLS = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_parquet_and_json_lines_give_the_same_tokens(write: Write, tmp_path: Path, tokenizer: Any, kind: str) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": [ASK], "chosen": [said("Paris")], "rejected": [said("Rome")], "tools": TOOLS[:1]},
        {"prompt": [{**ASK, "id": 3}], "chosen": [said("a")], "rejected": [said("b")], "tools": TOOLS[1:]},
    ]
    table, path = pa.Table.from_pylist(rows), tmp_path / f"rows.{kind}"
    assert table.to_pylist()[0]["tools"][0]["function"]["parameters"]["properties"] == {
        "a": None,
        "city": {"type": "string"},
    }
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    made = tokenizer(WITH_TOOLS, eos_token="<|im_end|>")
    encoder = Encoder(made, frozenset({made.eos_token_id}))
    one, other = (
        [encoder.group(record) for record in read(name).records] for name in (write("rows.jsonl", *rows), str(path))
    )
    assert [g.prompt.tolist() for g in one] == [g.prompt.tolist() for g in other]
    assert [[b.tokens.tolist() for b in g.branches] for g in one] == [
        [b.tokens.tolist() for b in g.branches] for g in other
    ]


def test_a_row_without_nulls_and_ignored_keys() -> None:
    row = {"a": [{"b": None, "c": 1, "name": "x"}], "tools": [{"name": "f", "d": None}], "e": [None]}
    cleaned = {"a": [{"c": 1}], "tools": [{"name": "f"}], "e": [None]}
    assert without(row, ("name",)) == cleaned


def test_a_column_or_a_key_that_is_there_twice_is_refused(tmp_path: Path, write: Write) -> None:
    columns = ["prompt", "chosen", "rejected", "chosen"]
    table = pa.table([["a"], ["b"], ["c"], ["d"]], names=columns)
    pq.write_table(table, tmp_path / "rows.parquet")
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "rows.csv").write_text(",".join(columns) + "\na,b,c,d\n")
    (tmp_path / "cell.csv").write_text('prompt,completion\n"[{""role"": ""user"", ""role"": ""x""}]",b\n')
    tools = '[{"name": "f", "name": "g"}]'
    chat = json.dumps({"prompt": [ASK], "completion": "b", "tools": tools})
    write("rows.jsonl", '{"prompt": "a", "chosen": {"role": "x", "role": "y"}, "rejected": "c"}')
    named = {n: [f.field for f in check(str(tmp_path / n)).errors] for n in ("rows.parquet", "rows.arrow", "rows.csv")}
    assert set(map(tuple, named.values())) == {("chosen",)}
    assert [(f.field, f.check) for f in check(str(tmp_path / "cell.csv")).errors] == [("role", "field twice")]
    assert [(f.field, f.check) for f in check(str(tmp_path / "rows.jsonl")).errors] == [("role", "field twice")]
    assert [f.field for f in check(write("tools.jsonl", chat)).errors] == ["tools"]


def test_ignored_keys_reach_every_kind_of_file(tmp_path: Path) -> None:
    table = pa.table([["a"], ["b"], ["c"], ["d"]], names=["prompt", "chosen", "rejected", "note_to_all"])
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected,note_to_all\na,b,c,d\n")
    (tmp_path / "rows.json").write_text('[{"prompt": "a", "chosen": "b", "rejected": "c", "note_to_all": "d"}]')
    for name in ("rows.parquet", "rows.csv", "rows.json"):
        path = str(tmp_path / name)
        assert [f.field for f in scan(path).faults] == ["note_to_all"]
        assert len(read(Reading(path, ignore=("note_to_all",))).records) == 1
