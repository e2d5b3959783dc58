"""Whole conversations whose last turn is the answer.

`messages` of {role, content}: TRL and OpenAI; with `rejected_response`, `rejected_messages` or `label` beside them,
ms-swift (Custom-dataset.md). `conversations` of {from, value}: ShareGPT; with `chosen`, `rejected` or `kto_tag` beside
them, LLaMA-Factory (data/README.md). Either way of writing a message is read under either name.
"""

from __future__ import annotations

from collections.abc import Callable

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Demonstration, Labelled, Pair, Prompt

AROUND = ("system", "tools")


def _taken_apart(row: Fields, field: str) -> tuple[Prompt, str]:
    apart = row.conversation(field)
    if apart is None:
        return "", ""
    asked, told = apart
    if not asked:
        row.fault(field, "has no turn before the answer", "begin it with a user turn", "no prompt")
    return row.with_tools(asked, row.row.get("tools")), told


def _demonstration(field: str) -> Callable[[Fields], Demonstration]:
    def parse(row: Fields) -> Demonstration:
        prompt, told = _taken_apart(row, field)
        return Demonstration(prompt, told, row.source)

    return parse


def _labelled(field: str, label: str) -> Callable[[Fields], Labelled]:
    def parse(row: Fields) -> Labelled:
        prompt, told = _taken_apart(row, field)
        return Labelled(prompt, told, row.flag(label), row.source)

    return parse


def _ranking(row: Fields) -> Pair:
    prompt, (chosen, rejected) = row.turns("conversations", "chosen", "rejected")
    return Pair(row.with_tools(prompt, row.row.get("tools")), chosen, rejected, row.source)


def _rejected_response(row: Fields) -> Pair:
    """The last answer of the conversation is preferred to another that might have stood in its place."""
    apart = row.conversation("messages")
    prompt, (rejected,) = row.answers(apart and apart[0], "messages", "rejected_response")
    return Pair(row.with_tools(prompt, row.row.get("tools")), apart[1] if apart else "", rejected, row.source)


def _rejected_messages(row: Fields) -> Pair:
    prompt, (chosen, rejected) = row.turns(None, "messages", "rejected_messages")
    return Pair(row.with_tools(prompt, row.row.get("tools")), chosen, rejected, row.source)


PAIRS = (
    Shape("conversations + chosen + rejected (sharegpt)", ("conversations", "chosen", "rejected"), _ranking, AROUND),
    Shape("messages + rejected_response (swift)", ("messages", "rejected_response"), _rejected_response, AROUND),
    Shape("messages + rejected_messages (swift)", ("messages", "rejected_messages"), _rejected_messages, AROUND),
)
LABELLED = (
    Shape("messages + label (swift)", ("messages", "label"), _labelled("messages", "label"), AROUND),
    Shape(
        "conversations + kto_tag (sharegpt)",
        ("conversations", "kto_tag"),
        _labelled("conversations", "kto_tag"),
        AROUND,
    ),
)
DEMONSTRATIONS = (
    Shape("messages", ("messages",), _demonstration("messages"), AROUND),
    Shape("conversations (sharegpt)", ("conversations",), _demonstration("conversations"), AROUND),
)
