"""Messages with parts, and calls in the forms that templates and servers read, letters beyond ASCII included."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from twofold.data.chat import CallForm, as_request, call_form, parse, rendering, shows_tools, tools_message
from twofold.data.pictures import Pictures
from twofold.errors import DataError
from twofold.records import Message

CALLS = [{"type": "function", "function": {"name": "f", "arguments": {"city": "Zürich"}}}]
CALLING = Message("assistant", "", json.dumps({"tool_calls": CALLS}, ensure_ascii=False))
ASK = Message("user", "q")


def test_parts_with_pictures_keep_their_letters(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    pictures = Pictures({"images": ["x.png"]}, str(tmp_path / "rows.jsonl"))
    content = [{"type": "text", "text": "é"}, {"type": "image"}, {"type": "text", "text": "ü"}]
    (message,) = parse([{"role": "user", "content": content, "name": "Zoë"}], pictures)
    picture = f'{{"type": "image", "path": "x.png", "sha256": "{hashlib.sha256(b"x").hexdigest()}"}}'
    assert message.content == "éü"
    assert message.more == (
        f'{{"name": "Zoë", "parts": [{{"type": "text", "text": "é"}}, {picture}, {{"type": "text", "text": "ü"}}]}}'
    )
    (plain,) = parse([{"role": "user", "content": content[::2]}], Pictures({}, "f"))
    assert (plain.content, plain.more) == ("éü", "")


def test_a_server_gets_arguments_as_text_with_their_letters() -> None:
    turns, more = as_request((ASK, CALLING))
    sent: Any = turns[1]
    assert sent == {
        "role": "assistant", "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"city": "Zürich"}'}}],
    }  # fmt: skip
    assert more == {}
    both = Message("assistant", "So.", CALLING.more)
    assert as_request((both,))[0][0]["content"] == "So."  # type: ignore[index]  # an object
    picture = Message("user", "", '{"parts": [{"type": "image", "path": "x"}]}')
    with pytest.raises(DataError, match="a prompt with pictures is not sent to a server yet\n  → leave the rows"):
        as_request((picture,))


def template(shown: str) -> str:
    return (
        "{% for m in messages %}[{{ m.role }}]{% if m.content is not none %}{{ m.content }}{% endif %}"
        "{% for c in m.tool_calls or [] %}" + shown + "{% endfor %}{% endfor %}"
    )


@pytest.mark.parametrize(
    ("shown", "form"),
    [
        ("{{ c.function.name }}{{ c.function.arguments | tojson }}", CallForm(False, True)),
        ("{{ c.function.name }}{{ c.function.arguments }}", CallForm(True, True)),
        ("{{ 1 / 0 if m.content is not defined else '' }}{{ c.function.name }}{{ c.function.arguments | tojson }}",
         CallForm(False, False)),
        ("{{ c.function.name }}", CallForm(False, False)),
        ("{{ raise_exception('no calls') }}", CallForm(False, False)),
    ],
)  # fmt: skip
def test_calls_come_as_their_template_shows_them(tokenizer: Any, shown: str, form: CallForm) -> None:
    assert call_form(tokenizer(template(shown))) == form
    assert CallForm() == (False, False)


def test_a_call_is_rendered_in_its_form(tokenizer: Any) -> None:
    as_text = tokenizer(template("{{ c.function.name }}{{ c.function.arguments }}"))
    assert rendering(as_text, [ASK, CALLING]) == '[user]q[assistant]f{"city": "Zürich"}'
    assert rendering(as_text, [ASK]) == "[user]q"


@pytest.mark.parametrize(
    ("shown", "shows"),
    [
        ("{% if tools %}{{ tools[0].function.name }}{% endif %}", True), ("", False),
        ("{{ tools[0].function.parameters.type.x }}", True), ("{{ raise_exception('no') }}", False),
    ],
)  # fmt: skip
def test_a_template_shows_tools_or_not(tokenizer: Any, shown: str, shows: bool) -> None:
    """One that wants more of a tool than a name is believed by its words."""
    assert shows_tools(tokenizer(template("") + shown)) is shows


def test_tools_of_a_text_are_in_one_order() -> None:
    assert tools_message('[{"name": "é", "type": "function"}]').content == '[{"type": "function", "name": "é"}]'
    assert tools_message(()).content == "[]"


def test_tools_are_sent_beside_the_turns() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert as_request((tools_message([tool]), ASK)) == ([{"role": "user", "content": "q"}], {"tools": [tool]})
    assert as_request((tools_message([]), ASK)) == ([{"role": "user", "content": "q"}], {})
    assert as_request("q") == ("q", {})
