"""Whole conversations whose last turn is the completion.

`messages` of {role, content}: TRL and OpenAI; with `rejected_response`, `rejected_messages` or `label`: ms-swift
(Custom-dataset.md). `conversations` of {from, value}: ShareGPT; with `chosen`, `rejected` or `kto_tag`: LLaMA-Factory
(data/README.md). Either format of messages is read under either name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Completion, Demonstration, Labelled, Pair, Prompt

AROUND = ("system", "tools")


def _taken_apart(row: Fields, field: str) -> tuple[Prompt, Completion]:
    apart = row.conversation(field)
    if apart is None:
        return "", ""
    asked, told = apart
    if not asked:
        row.fault(field, "has no turn before the answer", "begin it with a user turn", "no prompt")
    return row.with_tools(asked, row.row.get("tools")), told


def _demonstration(row: Fields, field: str) -> Demonstration:
    return Demonstration(*_taken_apart(row, field), row.source)


def _rounds(row: Fields) -> Demonstration:
    """Rounds of {input, output}, as Capybara has them."""
    rounds = row.row["conversation"]
    if not _of_rounds(row.row):
        row.fault("conversation", "is no list of rounds", 'write it as [{"input": "…", "output": "…"}, …]')
        return Demonstration("", "", row.source)
    for place, one in enumerate(rounds, 1):
        row.refuse_unread(f"conversation[{place}]", one, ("input", "output"))
    keys = (("user", "input"), ("assistant", "output"))
    turns = [{"role": role, "content": one[key]} for one in rounds for role, key in keys]
    return _demonstration(row.spread({"conversation": turns}), "conversation")


def _of_rounds(row: Mapping[str, Any]) -> bool:
    rounds = row["conversation"]
    return (
        isinstance(rounds, list | tuple)
        and bool(rounds)
        and all(isinstance(r, Mapping) and {"input", "output"} <= set(r) for r in rounds)
    )


def _labelled(row: Fields, field: str, label: str) -> Labelled:
    desirable, probability = row.label(label)
    return Labelled(*_taken_apart(row, field), desirable, row.source, probability)


def _pair(row: Fields, prompt: str | None, *sides: str) -> Pair:
    asked, (chosen, rejected) = row.turns(prompt, *sides)
    return Pair(row.with_tools(asked, row.row.get("tools")), chosen, rejected, row.source)


def _ranking(row: Fields) -> Pair:
    return _pair(row, "conversations", "chosen", "rejected")


def _rejected_response(row: Fields) -> Pair:
    """The last completion of the conversation is preferred to an alternative."""
    apart = row.conversation("messages")
    prompt, (rejected,) = row.answers(apart and apart[0], "messages", "rejected_response")
    return Pair(row.with_tools(prompt, row.row.get("tools")), apart[1] if apart else "", rejected, row.source)


def _rejected_messages(row: Fields) -> Pair:
    return _pair(row, None, "messages", "rejected_messages")


PAIRS = (
    Shape("conversations + chosen + rejected (sharegpt)", ("conversations", "chosen", "rejected"), _ranking, AROUND),
    Shape("messages + rejected_response (swift)", ("messages", "rejected_response"), _rejected_response, AROUND),
    Shape("messages + rejected_messages (swift)", ("messages", "rejected_messages"), _rejected_messages, AROUND),
)
LABELLED = tuple(
    Shape(f"{field} + {label} ({by})", (field, label), partial(_labelled, field=field, label=label), AROUND)
    for field, label, by in (("messages", "label", "swift"), ("conversations", "kto_tag", "sharegpt"))
)
DEMONSTRATIONS = (
    Shape("messages", ("messages",), partial(_demonstration, field="messages"), AROUND),
    Shape("conversations (sharegpt)", ("conversations",), partial(_demonstration, field="conversations"), AROUND),
    Shape("conversation of input + output (Capybara)", ("conversation",), _rounds, AROUND, _of_rounds),
)
