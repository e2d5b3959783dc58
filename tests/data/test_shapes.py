"""Every format that people bring gives the same records as its canonical form, from every kind of file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import read, scan
from twofold.data.reading import Reading
from twofold.data.shapes import FIELDS, SHAPES, detect
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Request, Source, Task

Write = Callable[..., str]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def turns(
    *texts: str, keys: tuple[str, str] = ("role", "content"), roles: tuple[str, str] = ("user", "assistant")
) -> Any:
    """Texts that user and assistant say in turn."""
    return [{keys[0]: roles[n % 2], keys[1]: text} for n, text in enumerate(texts)]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def shared(*texts: str) -> Any:
    return turns(*texts, keys=("from", "value"), roles=("human", "gpt"))


SYSTEM = {"role": "system", "content": "Be brief."}
PAIR = {"prompt": turns("1 + 1?"), "chosen": "2", "rejected": "3"}
SYSTEM_PAIR = {"prompt": [SYSTEM, *turns("1 + 1?")], "chosen": "2", "rejected": "3"}
TURNS_PAIR = {"prompt": turns("Hi", "Hello", "1 + 1?"), "chosen": "2", "rejected": "3"}
TEXT_PAIR = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
ANSWER = {"prompt": turns("Sort:\nb a"), "completion": "a b"}
DIALOGUE = {"prompt": turns("Hi", "Hello", "1 + 1?"), "completion": "2"}
GOOD = {"prompt": turns("1 + 1?"), "completion": "2", "label": True}
STEPS = {"prompt": "1 + 1?", "completions": ["1 + 1", "3"], "labels": [True, False]}
RANKING = {"prompt": "1 + 1?", "completions": ["2", "3", "5"]}
CHAT_RANKING = {"prompt": turns("1 + 1?"), "completions": ["2", "3", "5"]}
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: 1 + 1?\n\nAssistant:"
SOLVED = {"is_correct": True, "solution": "two"}

# format → (a row of it, the same in canonical form)
FORMATS: dict[str, tuple[Any, Any]] = {
    # TRL
    "prompt + chosen + rejected": ({**PAIR, "chosen": [said("2")], "rejected": [said("3")]}, PAIR),
    "prompt + chosen + rejected, repeated": (
        {"prompt": turns("1 + 1?"), "chosen": turns("1 + 1?", "2"), "rejected": turns("1 + 1?", "3")}, PAIR),
    "chosen + rejected (shared prompt)": ({"chosen": turns("1 + 1?", "2"), "rejected": turns("1 + 1?", "3")}, PAIR),
    "chosen + rejected (shared beginning)": (
        {"chosen": "The sky is blue.", "rejected": "The sky is green."}, TEXT_PAIR),
    "prompt + completion": ({**ANSWER, "completion": [said("a b")]}, ANSWER),
    "prompt + completion + label": ({**GOOD, "completion": [said("2")]}, GOOD),
    # process supervision
    "prompt + completions (steps) + labels": ({**STEPS, "labels": [1, 0.0]}, STEPS),
    "problem + steps + label (ProcessBench)": (
        {"id": "math-1", "problem": "1 + 1?", "steps": ["1 + 1", "3"], "label": 1, "final_answer_correct": False},
        STEPS),
    "question + label of steps (PRM800K)": (
        {"question": {"problem": "1 + 1?"}, "label": {"steps": [
            {"completions": [{"text": "1 + 1", "rating": 1}], "human_completion": None, "chosen_completion": 0},
            {"completions": [{"text": "3", "rating": -1}], "human_completion": None, "chosen_completion": None}]}},
        STEPS),
    "input + label with marks (Math-Shepherd)": (
        {"input": "1 + 1? Step 1: 2 ки", "label": "1 + 1? Step 1: 2 +", "task": "GSM8K"},
        {"prompt": "1 + 1?", "completions": ["Step 1: 2"], "labels": [True]}),
    "messages": ({"messages": turns("Hi", "Hello", "1 + 1?", "2")}, DIALOGUE),
    "prompt": ({"prompt": "1 + 1?", "source": "a", "level": 3}, {"prompt": "1 + 1?"}),
    "text": ({"text": "The sky is blue.", "label": "pos"}, {"prompt": "", "completion": "The sky is blue."}),
    # UltraFeedback binarized, axolotl
    "prompt + chosen + rejected, ultra": (
        {"prompt": "1 + 1?", "prompt_id": "0f", "chosen": turns("1 + 1?", "2"), "rejected": turns("1 + 1?", "3"),
         "messages": turns("1 + 1?", "2"), "score_chosen": 8.5, "score_rejected": 3.0}, PAIR),
    "prompt + chosen + rejected, ultra with system": (
        {"system": "Be brief.", "prompt": "1 + 1?", "chosen": turns("1 + 1?", "2"), "rejected": turns("1 + 1?", "3")},
        SYSTEM_PAIR),
    "prompt + chosen + rejected, prompt_pairs": (
        {"system": "Be brief.", "prompt": "1 + 1?", "chosen": "2", "rejected": "3"}, SYSTEM_PAIR),
    "messages + chosen + rejected": (
        {"messages": turns("Hi", "Hello", "1 + 1?"), "chosen": said("2"), "rejected": said("3")}, TURNS_PAIR),
    "question + chosen + rejected (intel)": (
        {"system": "Be brief.", "question": "1 + 1?", "chosen": "2", "rejected": "3"}, SYSTEM_PAIR),
    "input + chosen + rejected": ({"system": "", "input": "1 + 1?", "chosen": "2", "rejected": "3"}, PAIR),
    "instruction + chosen_response + rejected_response (argilla)": (
        {"instruction": "1 + 1?", "chosen_response": "2", "rejected_response": "3"}, PAIR),
    "prompt + answers (ranked)": (
        {"prompt": "1 + 1?", "answers": [{"answer": t, "rank": r} for t, r in (("5", 3), ("2", 1), ("3", 2))]},
        RANKING),
    # LLaMA-Factory
    "instruction + output (alpaca)": ({"instruction": "Sort:", "input": "b a", "output": "a b"}, ANSWER),
    "instruction + output (alpaca), history": (
        {"instruction": "1 + 1?", "input": "", "output": "2", "history": [["Hi", "Hello"]]}, DIALOGUE),
    "instruction + chosen + rejected (alpaca)": (
        {"instruction": "1 + 1?", "input": "", "chosen": "2", "rejected": "3"}, PAIR),
    "instruction + output + kto_tag (alpaca)": ({"instruction": "1 + 1?", "output": "2", "kto_tag": True}, GOOD),
    "conversations (sharegpt)": ({"conversations": shared("Hi", "Hello", "1 + 1?", "2")}, DIALOGUE),
    "conversations + chosen + rejected (sharegpt)": (
        {"conversations": shared("Hi", "Hello", "1 + 1?"), "chosen": {"from": "gpt", "value": "2"},
         "rejected": {"from": "gpt", "value": "3"}}, TURNS_PAIR),
    "conversations + kto_tag (sharegpt)": ({"conversations": shared("1 + 1?", "2"), "kto_tag": True}, GOOD),
    # ms-swift
    "messages + rejected_response (swift)": (
        {"messages": [SYSTEM, *turns("1 + 1?", "2")], "rejected_response": "3"}, SYSTEM_PAIR),
    "messages + rejected_messages (swift)": (
        {"messages": turns("Hi", "Hello", "1 + 1?", "2"), "rejected_messages": turns("Hi", "Hello", "1 + 1?", "3")},
        TURNS_PAIR),
    "messages + label (swift)": ({"messages": turns("1 + 1?", "2"), "label": True}, GOOD),
    "query + response": ({"query": "1 + 1?", "response": "2", "history": [["Hi", "Hello"]]}, DIALOGUE),
    "query + response + rejected_response": ({"query": "1 + 1?", "response": "2", "rejected_response": "3"}, PAIR),
    # OpenAI
    "input + preferred_output + non_preferred_output (OpenAI)": (
        {"input": {"messages": [SYSTEM, *turns("1 + 1?")], "parallel_tool_calls": True},
         "preferred_output": [said("2")], "non_preferred_output": [said("3")]}, SYSTEM_PAIR),
    # rankings
    "prompt + completions (best first)": (
        {"prompt": turns("1 + 1?"), "completions": [[said(t)] for t in "235"]}, CHAT_RANKING),
    "prompt + completions (best first), scores": (
        {"prompt": "1 + 1?", "completions": ["3", "5", "2"], "scores": [0, -1.5, 9]},
        {**RANKING, "scores": [9, 0, -1.5]}),
    "prompt + completions + ranks": ({"prompt": "1 + 1?", "completions": ["3", "5", "2"], "ranks": [2, 3, 1]}, RANKING),
    "prompt + completions (scored)": (
        {"prompt": "1 + 1?", "completions": [{"text": t, "score": s} for t, s in (("5", 1), ("2", 3), ("3", 2))]},
        {**RANKING, "scores": [3, 2, 1]}),
    "instruction + completions (scored)": ({"instruction": "1 + 1?", "completions": [
            {"model": "m", "response": t, "overall_score": s} for t, s in (("3", 2.0), ("5", 1.5), ("2", 8.0))]},
        {**CHAT_RANKING, "scores": [8, 2, 1.5]}),
    "instruction + generations + ratings": (
        {"instruction": "1 + 1?", "generations": ["3", "5", "2"], "ratings": [2, 1, 5]},
        {**CHAT_RANKING, "scores": [5, 2, 1]}),
    # problems and their solutions
    "prompt + answer": ({"prompt": "1 + 1?", "answer": "2"}, {"prompt": "1 + 1?", "answer": "2"}),
    "prompt + completion + answer": ({"prompt": "1 + 1?", "completion": "It is two.", "answer": "2"},) * 2,
    "question + answer": ({"question": "1 + 1?", "answer": "2"}, {"prompt": "1 + 1?", "answer": "2"}),
    "problem + solution (MATH)": (
        {"problem": "1 + 1?", "solution": "It is $\\boxed{2}$.", "answer": "2", "subject": "Algebra", "level": 1},
        {"prompt": "1 + 1?", "answer": "It is $\\boxed{2}$."}),
    "problem + answer": ({"problem": "1 + 1?", "answer": "2", "solution": "Add."}, {"prompt": "1 + 1?", "answer": "2"}),
    "prompt + instruction_id_list (IFEval)": (
        {"key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
         "kwargs": [{"keywords": None}, {"keywords": ["sea"], "relation": None}]},
        {"prompt": "Write.",
         "answer": '[{"kind": "punctuation:no_comma"}, {"kind": "keywords:existence", "keywords": ["sea"]}]'}),
    "question + mc1_targets + mc2_targets (TruthfulQA)": (
        {"question": "1 + 1?", "mc1_targets": {"choices": ["2", "3"], "labels": [1, 0]},
         "mc2_targets": {"2": 1, "two": 1, "3": 0}},
        {"prompt": "1 + 1?", "answer": '{"mc1": [["2", 1], ["3", 0]], "mc2": [["2", 1], ["two", 1], ["3", 0]]}'}),
    "GSM8K model solutions": (
        {"question": "1 + 1?", "ground_truth": "2", "6b": SOLVED, "175b": {"is_correct": False, "solution": "3"}},
        {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}),
    # NVIDIA
    "context + response1 + response2 (HelpSteer3)": (
        {"domain": "general", "language": "english", "context": turns("1 + 1?"), "response1": "2", "response2": "3",
         "overall_preference": -2, "individual_preference": [{"score": -2, "reasoning": "right", "feedback1": "good"}]},
        PAIR),
    "context + response1 + response2 (HelpSteer3), second": (
        {"context": turns("1 + 1?"), "response1": "3", "response2": "2", "overall_preference": 1}, PAIR),
    "prompt + response_1 + response_2 (HelpSteer2)": (
        {"prompt": "1 + 1?", "response_1": "3", "response_2": "2", "preference_strength": 1},
        {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}),
    # others' comparisons, in full in test_public_sets
    "info + summaries + choice (OpenAI summaries)": (
        {"info": {"post": "x"}, "summaries": [{"text": " 3"}, {"text": " 2"}], "choice": 1},
        {"prompt": "POST: x\n\nTL;DR:", "chosen": " 2", "rejected": " 3"}),
    "history + human_ref_A + human_ref_B (SHP)": (
        {"history": "1 + 1?", "human_ref_A": "3", "human_ref_B": "2", "labels": 0},
        {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}),
    "prompt + response_0 + response_1 (PKU-SafeRLHF)": (
        {"prompt": "1 + 1?", "response_0": "2", "response_1": "3", "better_response_id": 0},
        {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}),
    "conversation_a + conversation_b + winner (LMArena)": (
        {"conversation_a": turns("1 + 1?", "3"), "conversation_b": turns("1 + 1?", "2"), "winner": "model_b"}, PAIR),
    "prompt + response_a + response_b (LMArena)": (
        {"prompt": '["1 + 1?"]', "response_a": '["2"]', "response_b": '["3"]', "winner_model_a": 1,
         "winner_model_b": 0, "winner_tie": 0}, PAIR),
    "context + completions (NeMo)": (
        {"context": turns("1 + 1?"), "completions": [
            {"rank": r, "completion": [said(t)]} for r, t in ((2, "5"), (0, "2"), (1, "3"))]}, CHAT_RANKING),
    "prompt + lists of chosen and rejected (RewardBench 2)": (
        {"prompt": "1 + 1?", "chosen": ["2"], "rejected": ["3", "5"]}, {**RANKING, "scores": [1, 0, 0]}),
    "conversation of input + output (Capybara)": (
        {"conversation": [{"input": "Hi", "output": "Hello"}, {"input": "1 + 1?", "output": "2"}]}, DIALOGUE),
    # Anthropic
    "Anthropic HH (raw turns)": ({"chosen": HH + " 2", "rejected": HH + " 3"},
                                 {"prompt": HH, "chosen": " 2", "rejected": " 3"}),
}  # fmt: skip


def bare(records: list[Record]) -> list[Record]:
    return [replace(record, source=Source("", 0)) for record in records]


def test_every_shape_has_a_fixture() -> None:
    assert {name.partition(",")[0] for name in FORMATS} == {shape.name for shape in SHAPES}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_the_records_of_its_canonical_form(write: Write, name: str) -> None:
    row, canonical = FORMATS[name]
    table = read(write("rows.jsonl", row, row))
    assert table.format == name.partition(",")[0]
    assert bare(table.records) == bare(read(write("canonical.jsonl", canonical, canonical)).records)


@pytest.mark.parametrize("kind", ["json", "parquet", "arrow", "jsonl.gz", "folder"])
def test_every_kind_of_file_holds_every_format(write: Write, tmp_path: Path, kind: str) -> None:
    for number, (row, canonical) in enumerate(FORMATS.values()):
        path = stored(tmp_path / f"{number}.{kind}", row)
        assert bare(read(path).records) == bare(read(write("canonical.jsonl", canonical)).records), path


def stored(path: Path, row: Any) -> str:
    """One row in a file of the kind that the name ends in."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".json":
        path.write_text(json.dumps([row]), encoding="utf-8")
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(json.dumps(row).encode()))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as held, pa.ipc.new_stream(held, pa.Table.from_pylist([row]).schema) as out:
            out.write_table(pa.Table.from_pylist([row]))
    else:
        datasets.disable_progress_bars()
        datasets.Dataset.from_list([row]).save_to_disk(path)
    return str(path)


def test_csv_holds_texts_truths_and_chats(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b'\xef\xbb\xbfprompt,completion,label\r\n"a, ""b""\nc",d,True\r\n\r\n'
        b'"[{""role"": ""user"", ""content"": ""x""}]",[y],false\r\n'
    )
    assert read(str(path)).records == [
        Labelled('a, "b"\nc', "d", True, Source(str(path), 2)),
        Labelled((Message("user", "x"),), "[y]", False, Source(str(path), 5)),
    ]


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        (b"prompt,completion\na,b\nc\n", 3, "has 1 cells, the header 2"),
        (b'prompt,completion\na,b\nc,"d" e\n', 3, "bad CSV: "),
        (b"prompt,completion\na,b\nc,\xff\nd,e\n", 3, "byte 0xff is not UTF-8"),
        (b"prompt,completion\na,b\nc,\n", 3, "is null"),
    ],
)
def test_a_broken_csv_is_named(tmp_path: Path, text: bytes, row: int, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text)
    (fault,) = [f for f in scan(str(path)).faults if f.severity == "error"]
    assert (fault.row, fault.reason[: len(message)]) == (row, message)


def test_tools_come_before_the_chat(write: Write) -> None:
    row = {"input": {"messages": turns("1 + 1?"), "tools": [TOOL]}, "preferred_output": [said("2")],
           "non_preferred_output": [said("3")]}  # fmt: skip
    (pair,) = read(write("rows.jsonl", row)).records
    assert isinstance(pair.prompt, tuple)
    assert [m.role for m in pair.prompt] == ["tools", "user"]
    assert json.loads(pair.prompt[0].content) == [TOOL]
    (same,) = read(write("same.jsonl", {"messages": turns("1 + 1?", "2"), "tools": json.dumps([TOOL])})).records
    assert same.prompt == pair.prompt


@pytest.mark.parametrize(
    ("chosen", "rejected", "record"),
    [
        ("I like cats", "I like cows", ("I like", " cats", " cows")),
        ("Well then", "Well then no", ("Well", " then", " then no")),
        ("a\nb c", "a\nb d", ("a\nb", " c", " d")),
    ],
)
def test_texts_part_between_words(write: Write, chosen: str, rejected: str, record: Any) -> None:
    path = write("rows.jsonl", {"chosen": chosen, "rejected": rejected})
    assert read(path).records == [Pair(*record, Source(path, 1))]
    with pytest.raises(DataError, match="text without a prompt"):
        read(write("other.jsonl", {"chosen": "yes I do", "rejected": "no"}))


def test_a_side_of_human_feedback_that_says_nothing_is_passed_over(write: Write) -> None:
    rows = [(" 2", " 3"), (" ", " 3"), (" 2\n\nAssistant: two", " 3"), (" 2\n\nHuman: no\n\nAssistant: x", " 3")]
    found = scan(write("rows.jsonl", *({"chosen": HH + a, "rejected": HH + b} for a, b in rows)))
    assert [(f.row, f.field, f.check, f.severity) for f in found.faults] == [
        (2, "chosen", "empty answer", "warning"),
        (4, "chosen", "two prompts", "error"),
        (3, "chosen", "turn inside an answer", "warning"),
    ]
    assert (found.rows, [r.source.row for r in found.table.records]) == (4, [1, 3])


def test_equal_scores_keep_their_order_and_are_named(write: Write) -> None:
    scores = [[1, 2, 1], [1, 2, 3]]
    report = check(
        write("rows.jsonl", *({"prompt": str(s), "completions": ["x", "y", "z"], "scores": s} for s in scores))
    )
    assert [(f.row, f.check, f.severity) for f in report.faults] == [(1, "tied scores", "warning")]
    assert (report.rows, report.records, report.ok) == (2, 2, True)
    assert read(report.source).records[0] == Ranking("[1, 2, 1]", ("y", "x", "z"), Source(report.source, 1), (2, 1, 1))


@pytest.mark.parametrize(
    ("first", "row", "field", "message"),
    [
        (FORMATS["prompt + completions (scored)"][0], {"prompt": "a", "completions": [{"text": "x"}, {"text": "y"}]},
         "completions", "holds items that are not {text, score}"),
        (FORMATS["instruction + output (alpaca)"][0], {"instruction": "a", "output": "b", "history": "c"}, "history",
         "is no list of [question, answer]"),
        (FORMATS["instruction + output (alpaca)"][0], {"instruction": turns("a"), "output": "b"}, "instruction",
         "is a chat, not text"),
        (FORMATS["messages"][0], {"messages": turns("a")}, "messages", "has no assistant turn"),
        (FORMATS["messages"][0], {"messages": turns("a", "b", "c")}, "messages", "ends with the user's turn"),
        (FORMATS["messages"][0], {"messages": [said("b")]}, "messages", "has no turn before the answer"),
        (FORMATS["messages"][0], {"messages": "a"}, "messages", "is text, not a chat"),
        (FORMATS["messages + label (swift)"][0], {"messages": turns("a", "b"), "label": 2}, "label", "is 2, not true"),
        (FORMATS["input + preferred_output + non_preferred_output (OpenAI)"][0],
         {"input": "a", "preferred_output": [said("b")], "non_preferred_output": [said("c")]}, "input",
         "is text, not an object"),
        (FORMATS["conversations (sharegpt)"][0],
         {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]},
         "conversations", "message 2: call 1 has no `function.name`"),
        (FORMATS["prompt"][0], {"prompt": None}, "prompt", "is null"),
    ],
)  # fmt: skip
def test_a_fault_of_a_format_is_named(write: Write, first: Any, row: Any, field: str, message: str) -> None:
    found = scan(write("rows.jsonl", first, row))
    fault = found.faults[0]
    assert (fault.row, fault.field, fault.reason[: len(message)]) == (2, field, message)


@pytest.mark.parametrize(
    ("first", "richer"),
    [
        ("prompt + completion", "prompt + completion + label"),
        ("messages", "messages + rejected_response (swift)"),
        ("chosen + rejected (shared beginning)", "prompt + chosen + rejected"),
        ("prompt", "prompt + answer"),
    ],
)
def test_a_row_that_says_more_than_the_others_is_not_read_as_less(write: Write, first: str, richer: str) -> None:
    found = scan(write("rows.jsonl", FORMATS[first][0], FORMATS[richer][0]))
    assert [(f.row, f.reason) for f in found.faults] == [(2, f"has the shape {richer}, but the rows before it {first}")]


@pytest.mark.parametrize(
    ("chosen", "single"),
    [("2", True), (said("2"), True), ([said("2")], True), ((said("2"),), True), (turns("1 + 1?", "2"), False),
     ([], False), (3, False), (None, False)],
)  # fmt: skip
def test_messages_are_a_prompt_where_answers_are_single(chosen: Any, single: bool) -> None:
    for row in ({"chosen": chosen, "rejected": "3"}, {"chosen": "3", "rejected": chosen}):
        found = detect({"messages": turns("1 + 1?"), **row})
        assert (found is not None and found.name == "messages + chosen + rejected") == single


def test_columns_choose_among_the_shapes_that_fit(write: Write) -> None:
    path = write("rows.jsonl", {**PAIR, "answer": "2", "summary": "two"})
    known, task_map = Reading(path, ignore=("summary",)), {"prompt": "prompt", "answer": "answer"}
    pair, task = read(known).records[0], read(replace(known, columns=task_map)).records[0]
    (checked,) = read(path, columns={"prompt": "prompt", "completion": "summary"}).records
    found = [(type(r), getattr(r, "completion", None)) for r in (pair, task, checked)]
    assert found == [(Pair, None), (Task, None), (Task, "two")]
    (request,) = read(write("messages.jsonl", {"messages": turns("a")}), columns={"prompt": "messages"}).records
    assert request == Request((Message("user", "a"),), request.source)
    assert {"history", "system", "tools", "scores"} <= set(FIELDS)


REAL = {
    "gsm8k/train.jsonl": ("question + answer", Task, 7473, 7473),
    "gsm8k/test.jsonl": ("question + answer", Task, 1319, 1319),
    "gsm8k/example_model_solutions.jsonl": ("GSM8K model solutions", Pair, 1319, 1163),
    "hh/harmless-base-test.jsonl.gz": ("Anthropic HH (raw turns)", Pair, 2312, 2308),
    "imdb/train.parquet": ("text", Demonstration, 25000, 25000),
    "imdb/test.parquet": ("text", Demonstration, 25000, 25000),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_load(shared: Path, name: str) -> None:
    shape, record, rows, usable = REAL[name]
    found = scan(str(shared / "data" / name))
    assert (found.table.format, found.rows, len(found.table.records)) == (shape, rows, usable)
    assert {type(r) for r in found.table.records} == {record}
    assert {f.severity for f in found.faults} <= {"warning"}
