"""Which key of a message a template does not show, where it is, and what to do about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twofold.data.hidden_keys import Hidden, hidden, opened_tag, shows_reasoning
from twofold.records import TOOLS, Message

PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
ASK = Message("user", "q")


def call(name: str = "f", **more: Any) -> dict[str, Any]:
    return {**more, "type": "function", "function": {"name": name, "arguments": {}}}


def said(text: str = "", **keys: Any) -> Message:
    return Message("assistant", text, json.dumps(keys) if keys else "")


def result(text: str = "1", **keys: Any) -> Message:
    return Message("tool", text, json.dumps(keys) if keys else "")


def drop(key: str) -> str:
    return f"drop it by data.ignore=[{key}] (--ignore {key}), or choose a model whose template shows it"


def test_a_key_that_shows_nowhere_is_named_by_its_message(tokenizer: Any) -> None:
    made = tokenizer(PLAIN)
    assert hidden(made, (ASK, said("a"))) is None
    reason = "message 2: the chat template does not show its key `name`"
    assert hidden(made, (ASK, said("a", name="n"))) == Hidden("name", reason, drop("name"))
    tools = Message(TOOLS, "[]")
    found = hidden(made, (tools, ASK, said("a", name="n")))
    assert found is not None
    assert found.reason.startswith("message 2: "), "tools are no message of the row"
    found = hidden(made, (ASK, said("a", name="n"), ASK, said("b", name="m")), 2)
    assert found is not None
    assert found.reason == "turn 2 after the prompt: the chat template does not show its key `name`"
    assert hidden(made, (ASK, said("a", name="n"), ASK), 2) is None


def test_what_a_template_refuses_is_not_hidden(tokenizer: Any) -> None:
    assert hidden(tokenizer("{{ raise_exception('no') }}"), (ASK, said("a", name="n"))) is None
    assert hidden(tokenizer(PLAIN.replace("{{ m.content", "{{ m.name }}{{ m.content")), (said("a", name="n"),)) is None


@pytest.mark.parametrize("begin", [0, 1])
def test_pictures_are_seen_by_no_model(tokenizer: Any, begin: int) -> None:
    parts = [{"type": "image", "path": f"{n}.png"} for n in range(4)]
    chat = (said("x"), Message("user", "q", json.dumps({"parts": parts})))[1 - begin :]
    found = hidden(tokenizer(PLAIN), chat, begin)
    where = "turn 1 after the prompt" if begin else "message 1"
    assert found == Hidden(
        "content", f"{where} holds `0.png`, `1.png`, `2.png` and 1 more: no model here sees pictures",
        "leave the row out; its texts without it would be another row",
    )  # fmt: skip


SHOWN = PLAIN.replace("{{ m.content }}", "{{ m.content }}{% for c in CALLS %}<{{ c.function.name }}>{% endfor %}")


def test_each_of_several_calls_must_show(tokenizer: Any) -> None:
    every, first = tokenizer(SHOWN.replace("CALLS", "m.tool_calls or []")), tokenizer(
        SHOWN.replace("CALLS", "(m.tool_calls or [])[:1]")
    )  # fmt: skip
    chat = (ASK, said(tool_calls=[call("f"), call("g")]))
    assert hidden(every, chat) is None
    found = hidden(first, chat)
    assert found is not None
    assert found.key == "tool_calls"
    assert hidden(first, (ASK, said(tool_calls=[call("f")]))) is None
    assert hidden(tokenizer(PLAIN), (ASK, said(tool_calls=[call("f")]))) is not None


def test_a_text_beside_a_call_must_show(tokenizer: Any) -> None:
    either = tokenizer(
        "{% for m in messages %}[{{ m.role }}]{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% else %}"
        "{{ m.content }}{% endif %}{% endfor %}"
    )
    assert hidden(either, (ASK, said(tool_calls=[call()]))) is None
    assert hidden(either, (ASK, said(" \n", tool_calls=[call()]))) is None
    assert hidden(either, (ASK, said("So.", tool_calls=[call()]))) == Hidden(
        "content", "message 2: the chat template shows its tool calls, but not the `content` of the same turn",
        "write the text as a turn of its own, or choose a model whose template shows both",
    )  # fmt: skip


CALLS = tuple(call(name, id=id) for name, id in (("f", "a"), ("g", "b")))


@pytest.mark.parametrize(
    ("turns", "key"),
    [
        ((result(tool_call_id="a"), result(tool_call_id="b")), None), ((result(tool_call_id="b"),), "tool_call_id"),
        ((result(tool_call_id="a"), result(tool_call_id="a")), "tool_call_id"),
        ((result(tool_call_id="a"), result(tool_call_id="b"), result(tool_call_id="b")), "tool_call_id"),
        ((result(name="f"), result(name="g")), None), ((result(name="h"),), "name"),
    ],
)  # fmt: skip
def test_results_in_the_order_of_their_calls_need_no_id(
    tokenizer: Any, turns: tuple[Message, ...], key: str | None
) -> None:
    made = tokenizer(SHOWN.replace("CALLS", "m.tool_calls or []"))
    found = hidden(made, (ASK, said(tool_calls=CALLS), *turns))
    assert (None if found is None else found.key) == key
    if key == "tool_call_id":
        assert found is not None
        assert found.remedy.startswith("put the tools' turns in the order of the calls, or")


def test_without_ids_or_calls_any_result_is_in_order(tokenizer: Any) -> None:
    made = tokenizer(SHOWN.replace("CALLS", "m.tool_calls or []"))
    assert hidden(made, (ASK, said(tool_calls=[call()]), result(tool_call_id="z"))) is None
    assert hidden(made, (ASK, result(tool_call_id="z"))) is None
    found = hidden(made, (ASK, said("a"), result(name="f")))
    assert found is not None, "nothing was called"
    assert found.key == "name"


def test_reasoning_may_have_another_name(tokenizer: Any) -> None:
    """Newer versions of transformers take some names for each other, but not these."""
    other = tokenizer("{% for m in messages %}[{{ m.role }}]{{ m.thought }}{{ m.content }}{% endfor %}")
    assert (shows_reasoning(other, "thought"), shows_reasoning(other, "thoughts")) == (True, False)
    found = hidden(other, (ASK, said("a", thoughts="w")))
    assert found is not None
    assert found.remedy == f"rename it `thought`, which this template shows; or {drop('thoughts')}"
    found = hidden(tokenizer(PLAIN), (ASK, said("a", thoughts="w")))
    assert found is not None
    assert found.remedy == drop("thoughts")


@pytest.mark.parametrize(
    ("opening", "tag"),
    [
        ("<think>\n", "think"),
        ("<why-so>", "why-so"),
        ("<assistant>", None),
        ("<model>\n", None),
        ("<bot>", None),
        ("<think> x", None),
        ("", None),
        ("<assistants>", "assistants"),
    ],
)
def test_the_tag_that_a_generation_prompt_opens(tokenizer: Any, opening: str, tag: str | None) -> None:
    template = PLAIN + "{% if add_generation_prompt %}[assistant]" + opening + "{% endif %}"
    assert opened_tag(tokenizer(template)) == tag
    assert opened_tag(tokenizer("{{ raise_exception('no') }}")) is None
