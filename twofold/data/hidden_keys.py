"""Finds what a row's messages hold and the model's chat template does not show, by rendering with and without it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from twofold.data.chat import Chat, rendering
from twofold.data.issues import quoted
from twofold.data.message_keys import REASONING
from twofold.errors import ModelError
from twofold.records import CALLS, TOOLS, Message

TAG = re.compile(r"<(?!assistant>|model>|bot>)([A-Za-z_][\w:-]*)>\s*\Z")
"""A tag that a generation prompt opens, for the answer to close; not one that names a role."""
_PROBE = "reasons-of-twofold"


class Hidden(NamedTuple):
    """A key of a message that does not show, and what to do about it."""

    key: str
    reason: str
    remedy: str


def hidden(tokenizer: Any, chat: Chat, begin: int = 0) -> Hidden | None:
    """The first key of the messages from `begin` on that shows nowhere when a rendering ends with its message. Later
    renderings may leave it out, as they do with reasoning: the model sees them so too."""
    for place in range(begin, len(chat)):
        message = chat[place]
        if not message.more:
            continue
        if message.pictures:
            reason = f"{_where(place, chat, begin)} holds {quoted(message.pictures, 3)}: no model here sees pictures"
            return Hidden("content", reason, "leave the row out; its texts without it would be another row")
        before, shown = chat[:place], _rendered(tokenizer, chat[: place + 1])
        for key, without in _without(message, before):
            if shown is not None and shown == _rendered(tokenizer, (*before, without)):
                return Hidden(key, _reason(key, place, chat, begin), _remedy(tokenizer, key))
    return None


def _rendered(tokenizer: Any, chat: Chat) -> str | None:
    """None for what the template refuses."""
    try:
        return rendering(tokenizer, chat)
    except ModelError:
        raise
    except Exception:  # templates refuse what they dislike with errors of their own
        return None


def _without(message: Message, before: Chat) -> Iterator[tuple[str, Message]]:
    """Each key of a message, and the message without it; of several calls without each."""
    more = message.keys()
    for key in more:
        if key == "tool_call_id" and _in_order(before, more[key]):
            continue
        if key == "name" and message.role == "tool" and more[key] in _called(before):
            continue
        if key == CALLS and len(more[key]) > 1:
            for number in range(len(more[key])):
                fewer = {**more, key: [call for n, call in enumerate(more[key]) if n != number]}
                yield key, replace(message, more=json.dumps(fewer))
            continue
        rest = {k: v for k, v in more.items() if k != key}
        yield key, replace(message, more=json.dumps(rest) if rest else "")
    if CALLS in more and message.content.strip():
        yield "content", replace(message, content="")


def _called(before: Chat) -> set[str]:
    """The functions that were called."""
    calls = (call for m in before if m.role == "assistant" for call in _calls(m))
    return {call["function"]["name"] for call in calls}


def _in_order(before: Chat, answered: str) -> bool:
    """Whether a tool turn answers the call whose turn it is, so that its position identifies it."""
    last = next((n for n in reversed(range(len(before))) if before[n].role == "assistant"), None)
    calls = [] if last is None else _calls(before[last])
    place = 0 if last is None else len(before) - last - 1
    return all("id" not in call for call in calls) or (place < len(calls) and calls[place].get("id") == answered)


def _calls(message: Message) -> list[dict[str, Any]]:
    return message.keys().get(CALLS, [])


def _where(place: int, chat: Chat, begin: int) -> str:
    at = place + 1 - begin - (0 if begin else sum(m.role == TOOLS for m in chat[:place]))
    return f"turn {at} after the prompt" if begin else f"message {at}"


def _reason(key: str, place: int, chat: Chat, begin: int) -> str:
    where = _where(place, chat, begin)
    if key == "content":
        return f"{where}: the chat template shows its tool calls, but not the `content` of the same turn"
    return f"{where}: the chat template does not show its key `{key}`"


def _remedy(tokenizer: Any, key: str) -> str:
    drop = f"drop it by data.ignore=[{key}] (--ignore {key}), or choose a model whose template shows it"
    if key == "content":
        return "write the text as a turn of its own, or choose a model whose template shows both"
    if key == "tool_call_id":
        return "put the tools' turns in the order of the calls, or choose a model whose template shows the ids"
    other = next((name for name in REASONING if shows_reasoning(tokenizer, name)), None) if key in REASONING else None
    return drop if other is None else f"rename it `{other}`, which this template shows; or {drop}"


def shows_reasoning(tokenizer: Any, key: str) -> bool:
    """Whether the template shows the reasoning that an answer has under `key`."""
    return _shows_reasoning(tokenizer, str(getattr(tokenizer, "chat_template", "")), key)


@lru_cache(256)
def _shows_reasoning(tokenizer: Any, template: str, key: str) -> bool:
    answer = Message("assistant", "a", json.dumps({key: _PROBE}))
    return _PROBE in (_rendered(tokenizer, (Message("user", "q"), answer)) or "")


def opened_tag(tokenizer: Any) -> str | None:
    """The name of the tag that the generation prompt opens, as reasoning models' do; None where it opens none."""
    return _opened_tag(tokenizer, str(getattr(tokenizer, "chat_template", "")))


@lru_cache(32)
def _opened_tag(tokenizer: Any, template: str) -> str | None:
    try:
        found = TAG.search(rendering(tokenizer, [Message("user", "q")], generation_prompt=True))
    except ModelError:
        raise
    except Exception:  # as above
        return None
    return found[1] if found else None


def with_open_reasoning(tokenizer: Any, chat: Chat) -> Chat:
    """`chat` with each reasoning that the template has no key for as the text between the tags whose first one the
    generation prompt opens: what such a model generates."""
    if not any(message.more for message in chat):
        return chat
    tag = opened_tag(tokenizer)
    return chat if tag is None else tuple(_opened(tokenizer, message, tag) for message in chat)


def _opened(tokenizer: Any, message: Message, tag: str) -> Message:
    more = message.keys()
    key = next((k for k in REASONING if k in more and not shows_reasoning(tokenizer, k)), None)
    if key is None:
        return message
    content = f"<{tag}>\n{more.pop(key)}\n</{tag}>\n\n{message.content}"
    return replace(message, content=content, more=json.dumps(more, ensure_ascii=False) if more else "")
