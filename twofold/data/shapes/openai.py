"""OpenAI's preference fine-tuning rows, which Azure, Fireworks and Together take as well.

https://developers.openai.com/api/docs/guides/direct-preference-optimization: `input` {messages, tools},
`preferred_output` and `non_preferred_output`, each a list with one assistant message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twofold.data import chat
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair

KEYS = ("input", "preferred_output", "non_preferred_output")


def _preference(row: Fields) -> Pair:
    asked: Any = row.row["input"]
    if not isinstance(asked, Mapping):
        row.fault("input", f"is {chat.kind(asked)}, not an object with `messages`", 'write it as {"messages": […]}')
        asked = {"messages": []}
    row.refuse_unread("input", asked, ("messages", "tools", "parallel_tool_calls"))
    inner = row.spread({"input.messages": asked.get("messages")})
    prompt, (chosen, rejected) = inner.turns("input.messages", "preferred_output", "non_preferred_output")
    return Pair(inner.with_tools(prompt, asked.get("tools")), chosen, rejected, row.source)


SHAPES = (Shape("input + preferred_output + non_preferred_output (OpenAI)", KEYS, _preference),)
