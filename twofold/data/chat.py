"""Chats: lists of {role, content} or {from, value} as messages, and their rendering by the tokenizer's own template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twofold.data.issues import quoted, shortened
from twofold.data.json_text import once
from twofold.data.keys import meaning, remedy, unread
from twofold.data.time_limit import within
from twofold.errors import ModelError
from twofold.records import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
Chat = tuple[Message, ...]
TEMPLATE_SECONDS = 5
"""Of a processor, for one rendering: a thousand times what a long one takes."""
_STOPPED = set[str]()
"""Templates that are not tried again."""
TOOLS = "tools"
"""The role of a message before all others that holds the definitions of tools, as JSON, for the template to show."""

_SHAREGPT = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "observation": "tool"}
"""What ShareGPT and its heirs (FastChat, LLaMA-Factory, axolotl) call the roles in `from`."""


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


def is_message(value: Any) -> bool:
    """Whether a value is one message, written without the list around it."""
    return isinstance(value, Mapping) and ({"role", "content"} <= set(value) or {"from", "value"} <= set(value))


def tools_message(tools: Any) -> Message:
    """Definitions of tools (a list of objects, or such a list as JSON text) as a message; raises `Malformed`."""
    try:
        listed = json.loads(tools, object_pairs_hook=once) if isinstance(tools, str) else tools
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list | tuple) or not all(isinstance(t, Mapping) for t in listed):
        raise Malformed("is no list of tool definitions", 'write it as [{"type": "function", "function": {…}}]')
    return Message(TOOLS, json.dumps(listed, ensure_ascii=False, sort_keys=True))


def _message(item: Any, number: int) -> Message:
    example = 'write messages as {"role": "user", "content": "…"}'
    if not isinstance(item, Mapping):
        raise Malformed(f"message {number} is {kind(item)}, not an object", example)
    if not is_message(item):
        if "role" in item or "from" in item:
            raise Malformed(f"the content of message {number} is null or missing", example)
        raise Malformed(f"message {number} has the keys {quoted(map(str, item))}, not `role` and `content`", example)
    named = "role" in item and "content" in item
    role, content = (item["role"], item["content"]) if named else (item["from"], item["value"])
    if role == "function_call" or item.get("tool_calls"):
        raise Malformed(f"message {number} calls tools, which the rendering would lose", "remove the row")
    if keys := unread(item, ("role", "content") if named else ("from", "value")):
        reason = f"message {number}: its key `{shortened(keys[0])}` {meaning(keys[0])}"
        raise Malformed(reason, remedy(keys), "unread key")
    if not named and isinstance(role, str):
        role = _SHAREGPT.get(role, role)
    if role not in ROLES:
        known = f"roles are {', '.join(ROLES)}"
        name = shortened(role) if isinstance(role, str) else kind(role)
        raise Malformed(f"message {number} has the unknown role {name!r}", known, "unknown role")
    return Message(role, _text(content, number, example))


def _text(content: Any, number: int, example: str) -> str:
    """Text, or a list of parts that are all text, as OpenAI writes it."""
    if isinstance(content, list | tuple) and content and all(isinstance(part, Mapping) for part in content):
        return "".join(_part(part, number) for part in content)
    if not isinstance(content, str):
        raise Malformed(f"the content of message {number} is {kind(content)}, not text", example)
    return content


def _part(part: Mapping[str, Any], number: int) -> str:
    """The text of a part of a message; parts of other types, and what else a part holds, are not read."""
    type_, text = part.get("type"), part.get("text")
    if type_ != "text" or not isinstance(text, str):
        name = f"of the type `{shortened(type_)}`" if isinstance(type_, str) and type_ else "without a type"
        holds = meaning(type_).removeprefix("holds ") if isinstance(type_, str) else ""
        reason = f"message {number} holds a part {name}" + (f": {holds}" if "which is not read" in holds else "")
        raise Malformed(reason, 'parts that are read are {"type": "text", "text": "…"}: remove the row', "unread part")
    for key in unread(part, ("type", "text", "cache_control")):
        raise Malformed(
            f"message {number}: the key `{shortened(key)}` of a part {meaning(key)}", remedy([key]), "unread key"
        )
    return text


def kind(value: Any) -> str:
    """What a JSON value is, in a user's words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return next((name for cls, name in names.items() if isinstance(value, cls)), f"a {type(value).__name__}")


def rendering(tokenizer: Any, messages: Iterable[Message], *, generation_prompt: bool = False) -> str:
    """`messages` through the tokenizer's chat template, as text. Raises ModelError for a template that does not end."""
    plain, template = _plain(messages), str(getattr(tokenizer, "chat_template", ""))

    def render() -> str:
        return tokenizer.apply_chat_template(**plain, add_generation_prompt=generation_prompt, tokenize=False)

    try:
        if template not in _STOPPED:
            return within(TEMPLATE_SECONDS, render)
    except TimeoutError:
        _STOPPED.add(template)
    what, remedy = f"was stopped after {TEMPLATE_SECONDS} s over one row", "choose a model with another template"
    raise ModelError(what, where="the chat template", remedy=f"its loops do not end: {remedy}")


def _plain(messages: Iterable[Message]) -> dict[str, Any]:
    """What a template is given: the conversation, and the tools where there are any."""
    listed = list(messages)
    told = [{"role": m.role, "content": m.content} for m in listed if m.role != TOOLS]
    tools = [tool for m in listed if m.role == TOOLS for tool in json.loads(m.content)]
    return {"conversation": told, "tools": tools} if tools else {"conversation": told}
