"""Chats: lists of {role, content} or {from, value} as messages, and their rendering by the tokenizer's own template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from twofold.data.issues import quoted, shortened
from twofold.data.json_text import once
from twofold.data.keys import filled, meaning, remedy, unread
from twofold.data.message_keys import (
    CARRIED,
    OLD_CALL,
    Malformed,
    further,
    in_one_order,
    mark,
    refuse_lost_answers,
)
from twofold.data.pictures import PLACE, TYPES, Pictures
from twofold.data.time_limit import within
from twofold.errors import DataError, ModelError
from twofold.records import CALLS, PARTS, TOOLS, Message, Prompt

ROLES = ("system", "developer", "user", "assistant", "tool")
Chat = tuple[Message, ...]
TEMPLATE_SECONDS = 5
"""Of a processor, for one rendering: a thousand times what a long one takes."""
_STOPPED = set[str]()
"""Templates that are not tried again."""

SHAREGPT = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "observation": "tool"}
"""What ShareGPT and its heirs (FastChat, LLaMA-Factory, axolotl) call the roles in `from`."""
_NAMED, _FROM = frozenset({"role", "content", *CARRIED}), frozenset({"from", "value", *CARRIED})
TOOL_ROLES = {"function": "tool", "tool_response": "tool", "ipython": "tool"}
"""Other names of the tool's role: OpenAI's old one, ms-swift's and Llama 3's."""
CALLING = ("function_call", "tool_call")
"""Roles of a message whose content is a call, as JSON: LLaMA-Factory's and ms-swift's."""


def parse(value: Sequence[Any], pictures: Pictures | None = None) -> Chat:
    """A list of {role, content} as messages, whose places for pictures have those of the row; raises `Malformed`."""
    if not value:
        raise Malformed("is a chat without messages", "remove the row", "empty field")
    chat = tuple(_message(item, number, pictures) for number, item in enumerate(value, 1))
    if any(m.more for m in chat):
        refuse_lost_answers([(m.role, m.more) for m in chat])
    return chat


def is_message(value: Any) -> bool:
    """Whether a value is one message, written without the list around it."""
    if not isinstance(value, Mapping):
        return False
    if "role" in value and ("content" in value or value.get(CALLS) or value.get(OLD_CALL)):
        return True
    return "from" in value and "value" in value


def tools_message(tools: Any) -> Message:
    """Definitions of tools (a list of objects, or such a list as JSON text) as a message; raises `Malformed`."""
    try:
        listed = json.loads(tools, object_pairs_hook=once) if isinstance(tools, str) else tools
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list | tuple) or not all(isinstance(t, Mapping) for t in listed):
        raise Malformed("is no list of tool definitions", 'write it as [{"type": "function", "function": {…}}]')
    return Message(TOOLS, json.dumps(in_one_order(listed), ensure_ascii=False))


def _message(item: Any, number: int, pictures: Pictures | None) -> Message:
    example = 'write messages as {"role": "user", "content": "…"}'
    if not isinstance(item, Mapping):
        raise Malformed(f"message {number} is {kind(item)}, not an object", example)
    if not is_message(item):
        if "role" in item or "from" in item:
            raise Malformed(f"the content of message {number} is null or missing", example)
        raise Malformed(f"message {number} has the keys {quoted(map(str, item))}, not `role` and `content`", example)
    named = "role" in item and ("content" in item or "from" not in item)
    role, content = (item["role"], item.get("content")) if named else (item["from"], item["value"])
    place = f"message {number}"
    if isinstance(role, str) and role in CALLING:
        if filled(item.get(CALLS)) or filled(item.get(OLD_CALL)):
            reason = f"{place} is a {role} and has further calls: one of the two would be lost"
            raise Malformed(reason, "write each call as a message of its own", "malformed tool call")
        item, role, content = {**item, CALLS: content}, "assistant", ""
    plain = len(item) == 2 and ("content" in item or not named)  # without further keys
    if not plain and (keys := unread(item, _NAMED if named else _FROM)):
        reason = f"{place}: its key `{shortened(keys[0])}` {meaning(keys[0])}"
        raise Malformed(reason, remedy(keys), "unread key")
    if isinstance(role, str):
        role = role if named else SHAREGPT.get(role, role)
        role = TOOL_ROLES.get(role, role)
    if role not in ROLES:
        known = f"roles are {', '.join(ROLES)}"
        name = shortened(role) if isinstance(role, str) else kind(role)
        raise Malformed(f"{place} has the unknown role {name!r}", known, "unknown role")
    more = "" if plain else further(item, role, place)
    parts = _parts(content, number, pictures) if pictures is not None else []
    if parts:
        more = json.dumps({**(json.loads(more) if more else {}), PARTS: parts}, ensure_ascii=False)
        content = "".join(part.get("text", "") for part in parts)
    text = "" if content is None and CALLS in more else _text(content, number, example)
    return Message(role, text, more, None if plain else mark(item, role, place))


def _parts(content: Any, number: int, pictures: Pictures) -> list[dict[str, Any]]:
    """The parts of a content with pictures; empty where there are none."""
    place = f"message {number}"
    if isinstance(content, str):
        return pictures.placed(content, place) if pictures.unplaced and PLACE in content else []
    listed = content if isinstance(content, list | tuple) else []
    if not any(isinstance(part, Mapping) and part.get("type") in TYPES for part in listed):
        return []
    return [
        pictures.part(part, place)
        if isinstance(part, Mapping) and part.get("type") in TYPES
        else {"type": "text", "text": _text([part], number, "write parts as objects with a type")}
        for part in listed
    ]


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


def as_request(prompt: Prompt) -> tuple[str | list[dict[str, Any]], dict[str, Any]]:
    """A prompt as an OpenAI-compatible server takes it, with the arguments of calls as text; and the tools."""
    if isinstance(prompt, str):
        return prompt, {}
    if any(m.pictures for m in prompt):
        what, remedy = "a prompt with pictures is not sent to a server yet", "leave the rows with pictures out"
        raise DataError(what, where="", remedy=remedy)
    tools = [tool for m in prompt if m.role == TOOLS for tool in json.loads(m.content)]
    turns = [_as_object(m, CallForm(as_text=True, no_content=True)) for m in prompt if m.role != TOOLS]
    return turns, {"tools": tools} if tools else {}


def rendering(tokenizer: Any, messages: Iterable[Message], *, generation_prompt: bool = False) -> str:
    """`messages` through the tokenizer's chat template, as text. Raises ModelError for a template that does not end."""
    listed = tuple(messages)
    form = call_form(tokenizer) if any(CALLS in m.more for m in listed) else CallForm()
    return _render(tokenizer, listed, form, generation_prompt=generation_prompt)


def _render(tokenizer: Any, messages: Chat, form: CallForm, *, generation_prompt: bool = False) -> str:
    plain, template = _plain(messages, form), str(getattr(tokenizer, "chat_template", ""))

    def render() -> str:
        return tokenizer.apply_chat_template(**plain, add_generation_prompt=generation_prompt, tokenize=False)

    try:
        if template not in _STOPPED:
            return within(TEMPLATE_SECONDS, render)
    except TimeoutError:
        _STOPPED.add(template)
    what, remedy = f"was stopped after {TEMPLATE_SECONDS} s over one row", "choose a model with another template"
    raise ModelError(what, where="the chat template", remedy=f"its loops do not end: {remedy}")


def _plain(messages: Iterable[Message], form: CallForm) -> dict[str, Any]:
    """What a template is given: the conversation, and the tools where there are any."""
    listed = list(messages)
    told = [
        _as_object(m, form) if m.more else {"role": m.role, "content": m.content} for m in listed if m.role != TOOLS
    ]
    tools = [tool for m in listed if m.role == TOOLS for tool in json.loads(m.content)]
    return {"conversation": told, "tools": tools} if tools else {"conversation": told}


def _as_object(message: Message, form: CallForm) -> dict[str, Any]:
    """A message with its further keys, calls in the form that the template reads."""
    made = message.as_dict()
    if CALLS not in made:
        return made
    if form.no_content and not message.content:
        made["content"] = None
    if form.as_text:
        for call in made[CALLS]:
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return made


class CallForm(NamedTuple):
    """How a template reads calls: arguments `as_text`, and `no_content` in a turn that is only a call (null, which
    transformers leaves out) or an empty text."""

    as_text: bool = False
    no_content: bool = False


_FORMS = dict[str, CallForm]()
_PROBED = Message(
    "assistant",
    "",
    json.dumps({
        CALLS: [{"id": "twofold01", "type": "function", "function": {"name": "probed", "arguments": {"key": "of-it"}}}]
    }),
)  # fmt: skip


def call_form(tokenizer: Any) -> CallForm:
    """The form in which the tokenizer's template shows a call with its arguments as JSON, or as values."""
    template = str(getattr(tokenizer, "chat_template", ""))
    if template not in _FORMS:
        forms = [CallForm(as_text, no_content) for no_content in (True, False) for as_text in (False, True)]
        _FORMS[template] = next((form for form in forms if _shows_calls(tokenizer, form)), CallForm())
    return _FORMS[template]


def _shows_calls(tokenizer: Any, form: CallForm) -> bool:
    tool = tools_message([{"type": "function", "function": {"name": "probed", "parameters": {"type": "object"}}}])
    try:
        text = _render(tokenizer, (tool, Message("user", "q"), _PROBED), form)
    except ModelError:
        raise
    except Exception:  # templates refuse what they dislike with errors of their own
        return False
    whole = "probed" in text and "of-it" in text and "None" not in text
    return whole and "{'key'" not in text and '\\"key' not in text


def shows_tools(tokenizer: Any) -> bool:
    """Whether the template shows definitions of tools."""
    return _shows_tools(tokenizer, str(getattr(tokenizer, "chat_template", "")))


@lru_cache(32)
def _shows_tools(tokenizer: Any, template: str) -> bool:
    asked, tools = Message("user", "q"), tools_message([{"type": "function", "function": {"name": "probed"}}])
    try:
        return _render(tokenizer, (tools, asked), CallForm()) != _render(tokenizer, (asked,), CallForm())
    except ModelError:
        raise
    except Exception:  # of a template that wants more of a tool than a name
        return TOOLS in template
