"""Chats with tools, reasoning and several turns: every key reaches the template or is refused, and each turn is scored
after exactly what the model sees when it generates it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.chat_templates import FAMILIES, Family
from support.tool_templates import ADD, ASK, ID, TOOL_FAMILIES, TOOL_ROWS, WEATHER, WHOLE, calls, result, said
from twofold.batch import Branch, Group
from twofold.data import load as load_module
from twofold.data.chat import CallForm, call_form, shows_tools
from twofold.data.formats import read
from twofold.data.load import load
from twofold.data.reading import Reading
from twofold.data.stored_groups import encode_stored, fingerprint
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.progress import Silent

Write = Callable[..., str]
NAMED = {family.name: family for family in (*FAMILIES, *TOOL_FAMILIES)}
SHOWS_NO_TOOLS = ("r1-tools",)


def encoder(name: str) -> Encoder:
    made = NAMED[name].tokenizer()
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(max_length=4096))


def groups(made: Encoder, path: str) -> list[Group]:
    return [made.group(record) for record in read(path).records]


def turns(made: Encoder, group: Group, branch: Branch) -> list[tuple[str, str]]:
    """Each scored piece of a branch behind all that its row holds before it."""
    found: list[tuple[str, str]] = []
    for strand in branch.strands():
        places = list(range(len(strand.tokens))) if strand.scored is None else strand.scored.tolist()
        begins = [p for p in places if p - 1 not in places]
        for begin in begins:
            end = next(p for p in range(begin, len(strand.tokens) + 1) if p not in places)
            before = [*group.prompt.tolist(), *strand.tokens[:begin].tolist()]
            found.append((made.decode(before), made.decode(strand.tokens[begin:end].tolist())))
    return found


def as_given(message: dict[str, Any], form: CallForm) -> dict[str, Any]:
    """A message as the template wants its calls."""
    given = json.loads(json.dumps(message))
    for call in given.get("tool_calls", ()):
        arguments = dict(sorted(call["function"]["arguments"].items()))
        call["function"]["arguments"] = json.dumps(arguments) if form.as_text else arguments
    if given.get("content") is None:
        given["content"] = None if form.no_content else ""
    return given


def by_hand(family: Family, made: Encoder, row: dict[str, Any], side: str) -> list[tuple[str, str]]:
    """What the tokenizer's own template shows before each assistant's turn, and what it shows of the turn."""
    form, messages = call_form(made.tokenizer), [*row.get("prompt", []), *row[side]]
    given = [as_given(m, form) for m in messages]
    how = {"tools": row["tools"], "tokenize": False} if "tools" in row else {"tokenize": False}
    found: list[tuple[str, str]] = []
    for place in range(len(row.get("prompt", [])), len(messages)):
        if messages[place]["role"] == "assistant":
            before = made.tokenizer.apply_chat_template(given[:place], add_generation_prompt=True, **how)
            after = made.tokenizer.apply_chat_template(given[: place + 1], **how)
            assert after.startswith(before), "such a template needs an expectation of its own"
            text = after[len(before) :].rstrip("\n")
            found.append((before, text if text.endswith(family.eos) else text + family.eos))
    return found


@pytest.mark.parametrize("name", [f.name for f in TOOL_FAMILIES if f.name not in ("nemotron", "r1-tools")])
@pytest.mark.parametrize("number", range(len(TOOL_ROWS) + 1))
def test_each_turn_is_scored_after_what_generation_sees(write: Write, name: str, number: int) -> None:
    row, made = [*TOOL_ROWS, WHOLE][number], encoder(name)
    (group,) = groups(made, write("rows.jsonl", row))
    for branch, side in zip(group.branches, ("chosen", "rejected"), strict=True):
        assert turns(made, group, branch) == by_hand(NAMED[name], made, row, side)


@pytest.mark.parametrize("name", [f.name for f in FAMILIES if f.name != "deepseek-r1"])
def test_rounds_of_a_conversation_are_scored_after_what_generation_sees(write: Write, name: str) -> None:
    rounds = [
        {"role": "user", "content": "Hi"},
        said("Hello!"),
        ASK,
        said("Yes."),
        {"role": "user", "content": "Oslo?"},
    ]
    row = {
        "prompt": rounds[:1],
        "chosen": [*rounds[1:], said("No.")],
        "rejected": [said("Ho."), *rounds[2:], said("So.")],
    }
    made = encoder(name)
    (group,) = groups(made, write("rows.jsonl", row))
    for branch, side in zip(group.branches, ("chosen", "rejected"), strict=True):
        assert turns(made, group, branch) == by_hand(NAMED[name], made, row, side)


@pytest.mark.parametrize(
    ("name", "answer", "prompt", "learnt"),
    [
        ("qwen3-tools", said("Yes.", reasoning_content="South."), "", "<think>\nSouth.\n</think>\n\nYes.<|im_end|>"),
        ("qwen3.5", said("Yes.", reasoning_content="South."), "<think>\n", "South.\n</think>\n\nYes.<|im_end|>"),
        ("qwen3.5", said("Yes."), "<think>\n", "\n</think>\n\nYes.<|im_end|>"),
        ("nemotron", said("Yes.", reasoning_content="South."), "<think>\n", "South.\n</think>\nYes.<|im_end|>"),
        ("nemotron", said("Yes."), "<think>\n", "</think>Yes.<|im_end|>"),
        ("nemotron", calls("weather", {"city": "Rome"}), "<think>\n",
         '</think>\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'),
        ("deepseek-r1", said("Yes.", reasoning_content="South."), "<think>\n", "South.\n</think>\n\nYes.<eos>"),
        ("deepseek-r1", said("Yes.", thinking="South."), "<think>\n", "South.\n</think>\n\nYes.<eos>"),
        ("r1-tools", said("Yes.", reasoning="South."), "<think>\n", "South.\n</think>\n\nYes.<eos>"),
        ("harmony", said("Yes.", thinking="South."), "<|start|>assistant",
         "<|channel|>analysis<|message|>South.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"),
    ],
)  # fmt: skip
def test_reasoning_is_learnt_as_it_is_generated(
    write: Write, name: str, answer: dict[str, Any], prompt: str, learnt: str
) -> None:
    made = encoder(name)
    (group,) = groups(made, write("rows.jsonl", {"prompt": [ASK], "completion": [answer]}))
    assert made.decode(group.prompt.tolist()).endswith(prompt)
    assert [text for _, text in turns(made, group, group.branches[0])] == [learnt]
    asked = made.tokenizer.apply_chat_template([ASK], add_generation_prompt=True, tokenize=False)
    assert made.decode(group.prompt.tolist()) == asked


def test_a_turn_whose_reasoning_is_cut_later_is_learnt_with_it_and_seen_without(write: Write) -> None:
    """Two rounds under Qwen3: each answer has its reasoning, and the second is generated after the first without it."""
    made, more = encoder("qwen3-tools"), {"role": "user", "content": "And Oslo?"}
    first, second = said("Yes.", reasoning_content="South."), said("No.", reasoning_content="North.")
    row = {"chosen": [ASK, first, more, second], "rejected": [ASK, said("No."), more, said("Yes.")]}
    (group,) = groups(made, write("rows.jsonl", row))
    asked = "<|im_start|>user\nIs it warm in Rome?<|im_end|>\n<|im_start|>assistant\n"
    again = asked + "Yes.<|im_end|>\n<|im_start|>user\nAnd Oslo?<|im_end|>\n<|im_start|>assistant\n"
    assert turns(made, group, group.branches[0]) == [
        (asked, "<think>\nSouth.\n</think>\n\nYes.<|im_end|>"), (again, "<think>\nNorth.\n</think>\n\nNo.<|im_end|>"),
    ]  # fmt: skip
    assert [aside.fresh for aside in group.branches[0].asides] == [True]


def test_a_prompt_that_later_turns_do_not_begin_with_is_shared_as_far_as_they_do(write: Write) -> None:
    made, more = encoder("deepseek-r1"), {"role": "user", "content": "And Oslo?"}
    row = {
        "chosen": [ASK, said("Yes.", reasoning="So."), more, said("No.")],
        "rejected": [ASK, said("No."), more, said("a")],
    }
    (group,) = groups(made, write("rows.jsonl", row))
    begins = "<bos><｜User｜>Is it warm in Rome?<｜Assistant｜>"
    assert made.decode(group.prompt.tolist()) == begins
    assert turns(made, group, group.branches[0]) == [
        (f"{begins}<think>\n", "So.\n</think>\n\nYes.<eos>"),
        (f"{begins}\n\nYes.<eos><｜User｜>And Oslo?<｜Assistant｜><think>\n", "\n</think>\n\nNo.<eos>"),
    ]  # fmt: skip


def test_marks_choose_the_turns_that_are_scored(write: Write) -> None:
    made, more = encoder("hermes"), {"role": "user", "content": "And Oslo?"}
    for key in ("weight", "loss", "train"):
        row = {"chosen": [ASK, said("Yes.", **{key: 0}), more, said("No.", **{key: True})],
               "rejected": [ASK, said("No.", **{key: 1}), more, said("Yes.", **{key: False})]}  # fmt: skip
        (group,) = groups(made, write(f"{key}.jsonl", row))
        assert [[text for _, text in turns(made, group, b)] for b in group.branches] == [
            ["No.<|im_end|>"],
            ["No.<|im_end|>"],
        ]
        end = group.branches[1].asides[-1]
        assert end.at == len(group.branches[1].tokens)
        assert made.decode(end.tokens.tolist()).endswith("<|im_start|>assistant\nYes.<|im_end|>\n")
    none = {"prompt": [ASK], "chosen": [said("a", weight=0)], "rejected": [said("b")]}
    (fault,) = check(write("none.jsonl", none)).errors
    assert (fault.row, fault.field, fault.reason) == (
        1,
        "chosen",
        "has no turn that is trained on: the weight of each is 0",
    )


@pytest.mark.parametrize(("loss_on", "learnt"), [("last", ["B", "D"]), ("all", ["A", "B", "D"])])
def test_marks_choose_the_turns_of_a_dialogue(write: Write, loss_on: Any, learnt: list[str]) -> None:
    rows = [[said("A"), said("B", weight=1), said("C", weight=0), said("D")]]
    chat = [turn for answer in rows[0] for turn in ({"role": "user", "content": "q"}, answer)]
    made = NAMED["hermes"].tokenizer()
    made = Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(loss_on=loss_on))
    found = [row.group for row in made.rows(read(write("rows.jsonl", {"messages": chat})).records)]
    assert [made.text(group.branches[0].tokens) for group in found if group is not None] == learnt
    last = read(write("last.jsonl", {"messages": chat[:-2]})).records
    assert [made.text(r.group.branches[0].tokens) for r in made.rows(last) if r.group] == learnt[:-1]


def nulls(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return pa.Table.from_pylist(rows).to_pylist()


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("name", ["hermes", "mistral-tools"])
def test_parquet_and_json_lines_of_tool_use_give_the_same_tokens(
    write: Write, tmp_path: Path, name: str, as_text: bool
) -> None:
    rows: list[dict[str, Any]] = json.loads(json.dumps(TOOL_ROWS))
    lines = write("rows.jsonl", *rows)
    for row in rows if as_text else ():
        for message in (*row.get("prompt", []), *row["chosen"], *row["rejected"]):
            for call in message.get("tool_calls", ()):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    table = pa.Table.from_pylist(rows)
    assert (
        as_text
        or table.to_pylist()[0]["chosen"][0]["tool_calls"][0]["function"]["arguments"].get("a", 0) is None
        or True
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    made = encoder(name)
    one, other = groups(made, lines), groups(made, str(tmp_path / "rows.parquet"))
    for a, b in zip(one, other, strict=True):
        assert a.prompt.tolist() == b.prompt.tolist()
        for left, right in zip(a.branches, b.branches, strict=True):
            assert (left.tokens.tolist(), left.asides_as_lists()) == (right.tokens.tolist(), right.asides_as_lists())


@pytest.mark.parametrize(
    ("name", "row", "field", "key"),
    [
        ("hermes", {"prompt": [ASK], "completion": [said("Yes.", reasoning_content="So.")]}, "completion",
         "reasoning_content"),
        ("hermes", {"prompt": [ASK, said("a", thinking="So."), ASK], "completion": "b"}, "prompt", "thinking"),
        ("hermes", {"prompt": [{**ASK, "name": "Ann"}], "completion": "b"}, "prompt", "name"),
        ("llama-3", {"prompt": [ASK], "completion": [calls("weather", {})]}, "completion", "tool_calls"),
        ("llama-3.1", {"prompt": [ASK], "completion": [{**calls("weather", {}), "content": "Look."}]}, "completion",
         "content"),
        ("qwen3-tools", {"prompt": [ASK], "completion": [said("Yes.", thought="So.")]}, "completion", "thought"),
        ("hermes", {"prompt": [ASK, {**calls("weather", {"city": "a"}),
                                     "tool_calls": [*calls("weather", {"city": "a"}, "1")["tool_calls"],
                                                    *calls("weather", {"city": "b"}, "2")["tool_calls"]]},
                               result("x", number="2"), result("y", number="1")], "completion": "b"}, "prompt",
         "tool_call_id"),
    ],
)  # fmt: skip
def test_a_key_that_the_template_does_not_show_is_refused(
    write: Write, name: str, row: dict[str, Any], field: str, key: str
) -> None:
    path = write("rows.jsonl", row)
    report = check(path, encoder=encoder(name))
    (fault,) = report.errors
    assert (fault.row, fault.field, fault.check) == (1, field, "hidden key")
    assert f"`{key}`" in fault.reason
    assert check(path).ok
    if key == "thought":
        assert fault.remedy.startswith("rename it `reasoning_content`")
    with pytest.raises(DataError, match=rf"rows.jsonl:1, `{field}`: .*`{key}`"):
        groups(encoder(name), path)


def test_tools_that_no_template_shows_are_refused(write: Write) -> None:
    assert [f.name for f in TOOL_FAMILIES if not shows_tools(f.tokenizer())] == ["r1-tools"]
    with pytest.raises(DataError, match=r"rows.jsonl:1, `tools`: are defined"):
        groups(encoder("r1-tools"), write("rows.jsonl", TOOL_ROWS[0]))


@pytest.mark.parametrize(
    ("name", "form"),
    [("hermes", CallForm(False, True)), ("llama-3.1", CallForm(False, True)), ("r1-tools", CallForm(True, False)),
     ("qwen3-tools", CallForm(False, True)), ("llama-3", CallForm())],
)  # fmt: skip
def test_calls_come_in_the_form_that_the_template_reads(name: str, form: CallForm) -> None:
    assert call_form(NAMED[name].tokenizer()) == form


def test_other_ways_to_write_calls_are_the_same(write: Write) -> None:
    made, tools = encoder("hermes"), [WEATHER]
    arguments = {"city": "Rome"}
    sharegpt = [{"from": "human", "value": ASK["content"]},
                {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": arguments})},
                {"from": "observation", "value": "31 C"}, {"from": "gpt", "value": "Yes."}]  # fmt: skip
    old = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "weather", "arguments": json.dumps(arguments)},
    }
    answer = {"role": "function", "content": "31 C"}
    rows = [
        {"messages": [ASK, calls("weather", arguments), result("31 C"), said("Yes.")], "tools": tools},
        {"messages": [ASK, old, answer, said("Yes.")], "tools": json.dumps(tools)},
        {"conversations": sharegpt, "tools": tools},
    ]
    texts = {made.decode(groups(made, write(f"{n}.jsonl", row))[0].prompt.tolist()) for n, row in enumerate(rows)}
    assert len(texts) == 1
    assert '"arguments": {"city": "Rome"}' in texts.pop()


CALL: dict[str, Any] = {"type": "function", "function": {"name": "add", "arguments": {}}}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (said("", tool_calls=[3]), "message 2: call 1 is no object with a `function`"),
        (said("", tool_calls="x"), "message 2: its `tool_calls` is no list of calls"),
        (said("", tool_calls=[CALL, {"function": {"arguments": {}}}]), "message 2: call 2 has no `function.name`"),
        (calls("add", "{"), "message 2: call 1, of `add`: its `arguments` are no JSON object"),
        (calls("add", [1]), "message 2: call 1, of `add`: its `arguments` are no JSON object"),
        (said("", tool_calls=[{**CALL, "type": "custom"}]), "message 2: call 1 is of another type than `function`"),
        (said("", tool_calls=[{**CALL, "mood": "x"}]), "message 2: call 1: its key `mood` is filled"),
        ({**ASK, "tool_calls": [CALL]}, "message 2 is the user's turn and calls tools"),
        ({**ASK, "reasoning": "x"}, "message 2 is the user's turn and holds `reasoning`"),
        ({**ASK, "tool_call_id": "x"}, "message 2 is the user's turn and answers a call by `tool_call_id`"),
        ({**ASK, "weight": 1}, "message 2 is the user's turn, and its `weight` asks to train on it"),
        (said("x", name=3), "message 2: its `name` is no text"),
        (said("x", weight=-1), "message 2: its `weight` is -1"),
        (said("x", weight=0.5), "message 2: its `weight` is 0.5"),
        (said("x", loss="yes"), "message 2: its `loss` is no number"),
        (said("x", weight=1, train=False), "message 2: its `weight` and `train` disagree"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_message_is_named(write: Write, message: dict[str, Any], reason: str) -> None:
    row = {"messages": [ASK, message, {"role": "user", "content": "q"}, said("a")]}
    (fault,) = check(write("rows.jsonl", row)).errors
    assert (fault.row, fault.field) == (1, "messages")
    assert fault.reason.startswith(reason)
    assert fault.remedy


def test_a_result_of_no_call_and_sides_without_a_common_start_are_refused(write: Write) -> None:
    lost = {"messages": [ASK, calls("add", {}), result("5", number="other"), said("5")]}
    (fault,) = check(write("a.jsonl", lost)).errors
    assert fault.reason == "message 3: its `tool_call_id` `other` is the id of no call before it"
    other = {"role": "user", "content": "Other?"}
    apart = {"chosen": [ASK, said("a"), ASK, said("b")], "rejected": [other, said("c"), other, said("d")]}
    assert check(write("b.jsonl", apart)).errors[0].reason == "shares no prompt messages with `rejected`"
    system = {"role": "system", "content": "s"}
    apart = {side: [system, *turns] for side, turns in apart.items()}
    first = check(write("c.jsonl", apart)).errors[0]
    assert (first.field, first.reason, first.check) == (
        "chosen",
        "shares no user's turn with `rejected`",
        "no common start",
    )


def test_sides_that_part_at_a_users_turn_share_what_is_before_it(write: Write) -> None:
    made = encoder("hermes")
    row = {"chosen": [ASK, said("Yes."), {"role": "user", "content": "Oslo?"}, said("No.")],
           "rejected": [ASK, said("Yes."), {"role": "user", "content": "Bari?"}, said("Yes.")]}  # fmt: skip
    (group,) = groups(made, write("rows.jsonl", row))
    assert [[t for _, t in turns(made, group, b)] for b in group.branches] == [["No.<|im_end|>"], ["Yes.<|im_end|>"]]
    assert made.decode(group.prompt.tolist()).endswith("Is it warm in Rome?<|im_end|>\n<|im_start|>assistant\n")


def test_a_trajectory_that_does_not_fit_is_left_out_whole(write: Write) -> None:
    made = NAMED["hermes"].tokenizer()
    (record,) = read(write("rows.jsonl", TOOL_ROWS[2])).records
    for truncation in ("drop", "cut_completion"):
        short = Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(max_length=400, truncation=truncation))
        assert short.fit(record).group is None
        assert short.fit(record).tokens > 400


def test_tokenizing_ahead_changes_nothing_of_a_trajectory(write: Write) -> None:
    (record,) = read(write("rows.jsonl", TOOL_ROWS[2])).records
    ahead, alone = encoder("qwen3-tools"), encoder("qwen3-tools")
    ahead.ahead([record])
    one, other = ahead.group(record), alone.group(record)
    assert [b.asides_as_lists() for b in one.branches] == [b.asides_as_lists() for b in other.branches]
    assert [b.tokens.tolist() for b in one.branches] == [b.tokens.tolist() for b in other.branches]
    assert ID not in ahead.decode(one.prompt.tolist())
    assert ADD["function"]["name"] in ahead.decode(one.prompt.tolist())


def test_trajectories_on_disk_are_those_in_memory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the stores of records and of groups, with another digest than the same tokens without what is between."""
    monkeypatch.setattr(load_module, "IN_MEMORY", 1)
    made, path = encoder("qwen3-tools"), write("rows.jsonl", *TOOL_ROWS)
    records = load(Reading(path), tmp_path / "rows", Silent()).records
    assert not isinstance(records, list)
    stored, held = encode_stored(records, made, tmp_path / "tokens", Silent()).groups, groups(made, path)
    for one, other in zip(stored, held, strict=True):
        assert one.prompt.tolist() == other.prompt.tolist()
        assert [b.tokens.tolist() for b in one.branches] == [b.tokens.tolist() for b in other.branches]
        assert [b.asides_as_lists() for b in one.branches] == [b.asides_as_lists() for b in other.branches]
    bare = [replace(g, branches=tuple(replace(b, asides=()) for b in g.branches)) for g in held]
    assert fingerprint(stored) == fingerprint(held) != fingerprint(bare)
