"""Chats: lists of {role, content} as messages, and their rendering by the tokenizer's own template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twofold.data.faults import quoted
from twofold.records import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
Chat = tuple[Message, ...]


class Malformed(ValueError):
    """A value that is not a chat: `check`, `reason` and `remedy` of the fault."""

    def __init__(self, reason: str, remedy: str, check: str = "mistyped field") -> None:
        self.reason, self.remedy, self.check = reason, remedy, check
        super().__init__(reason)


def parse(value: Sequence[Any]) -> Chat:
    """A list of {role, content} as messages; raises `Malformed`."""
    if not value:
        raise Malformed("is a chat without messages", "remove the row", "empty field")
    return tuple(_message(item, number) for number, item in enumerate(value, 1))


def _message(item: Any, number: int) -> Message:
    example = 'write messages as {"role": "user", "content": "…"}'
    if not isinstance(item, Mapping):
        raise Malformed(f"message {number} is {kind(item)}, not an object", example)
    if not {"role", "content"} <= set(item):
        raise Malformed(f"message {number} has the keys {quoted(map(str, item))}, not `role` and `content`", example)
    role, content = item["role"], item["content"]
    if role not in ROLES:
        known = f"roles are {', '.join(ROLES)}"
        raise Malformed(f"message {number} has the unknown role {role!r}", known, "unknown role")
    if item.get("tool_calls"):
        raise Malformed(f"message {number} calls tools, which the rendering would lose", "remove the row")
    if not isinstance(content, str):
        raise Malformed(f"the content of message {number} is {kind(content)}, not text", example)
    return Message(role, content)


def kind(value: Any) -> str:
    """What a JSON value is, in a user's words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return next((name for cls, name in names.items() if isinstance(value, cls)), f"a {type(value).__name__}")


def common_prefix(chats: Sequence[Chat]) -> Chat:
    """The messages that all `chats` start with, leaving each at least its last one."""
    length = 0
    for turns in zip(*(c[:-1] for c in chats), strict=False):
        if any(t != turns[0] for t in turns):
            break
        length += 1
    return chats[0][:length]


def token_ids(tokenizer: Any, messages: Iterable[Message], *, generation_prompt: bool = False) -> list[int]:
    """`messages` through the tokenizer's chat template, as ids."""
    ids = tokenizer.apply_chat_template(
        _plain(messages), add_generation_prompt=generation_prompt, tokenize=True, return_dict=False
    )
    return list(ids)


def rendering(tokenizer: Any, messages: Iterable[Message], *, generation_prompt: bool = False) -> str:
    """`messages` through the tokenizer's chat template, as text."""
    return tokenizer.apply_chat_template(_plain(messages), add_generation_prompt=generation_prompt, tokenize=False)


def _plain(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]
