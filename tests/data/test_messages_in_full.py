"""Messages, templates and unread keys at the bounds of what is read, with what is reported in full."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from twofold.data import keys
from twofold.data.chat import CallForm, call_form, is_message, parse, rendering, shows_tools, tools_message
from twofold.data.endings import Endings
from twofold.data.hidden_keys import Hidden, hidden
from twofold.data.message_keys import Malformed, further, mark, tool_calls
from twofold.data.reasoning import reasoning_tag
from twofold.data.turns import GUESS_REMEDY, PutPrompt, Turns, guessed
from twofold.errors import ModelError, RecipeError
from twofold.records import Message, Source

TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASK = Message("user", "q")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"role": 1, "content": None}, True), ({"role": 1}, False), ({"content": "a"}, False),
        ({"role": 1, "tool_calls": [1]}, True), ({"role": 1, "tool_calls": []}, False),
        ({"role": 1, "function_call": {"name": "f"}}, True), ({"role": 1, "function_call": {}}, False),
        ({"tool_calls": [1]}, False), ({"from": 1, "value": None}, True), ({"from": 1}, False), ({"value": 1}, False),
        ({"role": 1, "value": 2}, False), ({"from": 1, "content": 2}, False), ([("role", 1), ("content", 2)], False),
    ],
)  # fmt: skip
def test_a_message_has_a_role_and_what_it_holds(value: Any, message: bool) -> None:
    assert is_message(value) is message


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("tool_calls", "message 1 holds a part of the type `tool_calls`"),
        ("video", "message 1 holds a part of the type `video`: sound or film, which is not read"),
        ("document", "message 1 holds a part of the type `document`: a file, which is not read"),
        ("x" * 61, f"message 1 holds a part of the type `{'x' * 60}…`"), (3, "message 1 holds a part without a type"),
    ],
)  # fmt: skip
def test_parts_that_are_not_read_are_named(type_: Any, reason: str) -> None:
    with pytest.raises(Malformed) as error:
        parse([{"role": "user", "content": [{"type": type_, "text": "a"}]}])
    remedy = 'parts that are read are {"type": "text", "text": "…"}: remove the row'
    assert (error.value.reason, error.value.remedy, error.value.check) == (reason, remedy, "unread part")


def test_a_message_keeps_its_mark_and_its_other_keys() -> None:
    (plain, marked, other) = parse([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
        {"from": "gpt", "value": "c", "thinking": "é"},
    ])  # fmt: skip
    assert [(m.content, m.more, m.scored) for m in (plain, marked, other)] == [
        ("a", "", None), ("b", "", False), ("c", '{"thinking": "é"}', None),
    ]  # fmt: skip
    (call,) = parse([{"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}])
    assert (call.content, json.loads(call.more)["tool_calls"][0]["function"]) == ("", {"name": "f", "arguments": {}})
    with pytest.raises(Malformed, match=r"the content of message 1 is null, not text"):
        parse([{"role": "assistant", "content": None, "thinking": "x"}])


@pytest.mark.parametrize("role", ["function_call", "tool_call"])
@pytest.mark.parametrize(
    ("message", "role_of_it"),
    [
        ({"role": "function", "content": "1"}, "tool"), ({"role": "tool_response", "content": "1"}, "tool"),
        ({"role": "ipython", "content": "1"}, "tool"), ({"from": "function", "value": "1"}, "tool"),
    ],
)  # fmt: skip
def test_other_names_of_calls_and_tools(role: str, message: dict[str, str], role_of_it: str) -> None:
    call, answer = parse([{"role": role, "content": '{"name": "f", "arguments": {"x": 1}}'}, message])
    assert (call.role, call.content, answer.role, answer.content) == ("assistant", "", role_of_it, "1")
    assert json.loads(call.more) == {
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    }


def template(shown: str, content: str = "{{ m.content or '' }}") -> str:
    calls = "{% for c in m.tool_calls or [] %}" + shown + "{% endfor %}"
    return "{% for m in messages %}[{{ m.role }}]" + content + calls + "{% endfor %}"


@pytest.mark.parametrize(
    ("shown", "form"),
    [
        ("{{ c.function.name }}{{ c.function.arguments | tojson }}", CallForm(False, True)),
        ("{{ c.function.name }}{{ c.function.arguments | tojson if c.function.arguments is string else '' }}",
         CallForm(False, False)),
        ("{{ c.function.arguments | tojson }}", CallForm(False, False)),
        ("{{ c.function.name }}{{ c.function.arguments if c.function.arguments is string else '' }}",
         CallForm(True, True)),
    ],
)  # fmt: skip
def test_calls_are_shown_by_name_and_arguments_as_json_once(tokenizer: Any, shown: str, form: CallForm) -> None:
    """Not as text within a text, nor as Python shows a dictionary."""
    assert call_form(tokenizer(template(shown))) == form


def test_a_content_that_is_null_may_not_show_as_a_word(tokenizer: Any) -> None:
    shown = "{{ c.function.name }}{{ c.function.arguments | tojson }}"
    word = "{{ 'None' if m.content is none or m.content is not defined else m.content }}"
    assert call_form(tokenizer(template(shown, word))) == CallForm(False, False)


def test_a_template_without_an_end_is_an_error_of_the_model(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is looked for in it; and it is named with the seconds that it had."""
    from twofold.data import chat

    monkeypatch.setattr(chat, "TEMPLATE_SECONDS", 0.05)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    made = tokenizer(loops + "{# of test_messages_in_full #}")
    for work in (
        lambda: rendering(made, [ASK]), lambda: call_form(made), lambda: shows_tools(made),
        lambda: hidden(made, (ASK, Message("assistant", "a", '{"name": "n"}'))),
    ):  # fmt: skip
        with pytest.raises(ModelError) as error:
            work()
        assert str(error.value) == (
            "the chat template: was stopped after 0.05 s over one row\n  → its loops do not end: choose a model with "
            "another template"
        )


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (["a"], "leave it out, or drop it by data.ignore=[a] (--ignore a)"),
        (["a", "b"], "leave them out, or drop them by data.ignore=[a, b] (--ignore a,b)"),
        (["a\x1b"], "leave it out"), (["x" * 61], "leave it out"), (["a", "x" * 61], "leave them out"),
        (["x" * 60], f"leave it out, or drop it by data.ignore=[{'x' * 60}] (--ignore {'x' * 60})"),
        (list("abcdefghijklm"), "leave them out, or drop them by data.ignore=[a, b, c, d, e, f, g, h, i, j, k, l] "
                                "(--ignore a,b,c,d,e,f,g,h,i,j,k,l)"),
        ([*"abcdefghijkl", "x" * 61], "leave them out, or drop them by data.ignore=[a, b, c, d, e, f, g, h, i, j, k, l]"
                                      " (--ignore a,b,c,d,e,f,g,h,i,j,k,l)"),
    ],
)  # fmt: skip
def test_what_to_do_about_unread_keys(names: list[str], remedy: str) -> None:
    """A dozen are named, unless one of them cannot be written in a command."""
    assert keys.remedy(names) == remedy


@pytest.mark.parametrize(
    ("key", "harmless", "meant"),
    [
        ("id", True, False), ("Prompt-ID", True, False), ("row_hash", True, False), ("tool_call_id", False, True),
        ("tool-call-id", False, True), ("mask", False, True), ("Loss-Weight", False, True), ("mood", False, False),
        ("", True, False), ("x" * 57 + "_id", True, False), ("x" * 58 + "_id", False, False), ("answer", True, False),
        ("name", False, True), ("my_tool_call_id", True, False),
    ],
)  # fmt: skip
def test_keys_about_a_row_and_keys_in_it(key: str, harmless: bool, meant: bool) -> None:
    assert (keys.harmless(key), keys.is_meant(key)) == (harmless, meant)
    assert keys.unread({key: 1}, ()) == ([] if harmless else [key])
    assert keys.unread({key: 1}, (key,)) == keys.unread({key: None}, ()) == []


def test_what_is_filled_and_what_repeats_known_texts() -> None:
    assert [keys.filled(v) for v in (None, "", [], (), {}, 0, False, " ", [None])] == [False] * 5 + [True] * 4
    assert list(keys.texts_in({"a": ["x", ("y", {"b": "z"})], "c": None, "d": 1})) == ["x", "y", "z", "None", "1"]
    known = {"x", "y", "1"}
    cases = [("note", "x"), ("note", ["x", "y"]), ("note", ["x", "z"]), ("note", "z"), ("note", {"a": "x"}),
             ("mask", "x"), ("note", [1]), ("note", 1)]  # fmt: skip
    assert [keys.says_again(key, value, known) for key, value in cases] == [
        True, True, False, False, False, False, True, False,
    ]  # fmt: skip
    assert keys.meaning("Loss-Weight") == "holds a training weight or mask, which is not supported yet"


@pytest.mark.parametrize(
    ("asking", "form"), [(">>", "turn"), (">>>", "rendered"), (" >> ", "turn"), (" >>> ", "rendered")]
)
def test_three_letters_behind_a_prompt_show_that_it_is_rendered(tokenizer: Any, asking: str, form: str) -> None:
    """Fewer may be there by accident."""
    made = tokenizer(TURNS.replace("</s>", "\n") + "{% if add_generation_prompt %}" + asking + "{% endif %}")
    put = Turns(made).put(f"[user]What is 2+3?\n{asking}")
    assert put.form == form
    assert put.guess == ("already holds the model's chat template: left unchanged" if form == "rendered" else "")


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("Answer: 5 or 6?", ""), ("Question: 5?\nTopic: 6", ""), ("Question: 5?\nAnswer: 6, or?", "known form and is"),
        ("Bot: a\nMe: b", "known form and is"), ("Me: b\nAnswer:", "known form, ends with `Answer:`, and is"),
        ("Write it.\nList:", "known form, ends with `List:`, and is"), ("List:", ""),
    ],
)  # fmt: skip
def test_two_speakers_of_whom_one_answers_are_a_transcript(tokenizer: Any, text: str, guess: str) -> None:
    made = Turns(tokenizer(TURNS + "{% if add_generation_prompt %}[assistant]{% endif %}"))
    expected = f"looks like a transcript of no {guess} put as one user's turn" if guess else ""
    assert made.put(text).guess == expected


def test_a_choice_that_needs_a_template_is_refused_in_full(tokenizer: Any) -> None:
    with pytest.raises(RecipeError) as error:
        Turns(tokenizer(None), "chat")
    assert str(error.value) == (
        "data.chat: chat is asked for, and the tokenizer has no chat template\n  → choose a model with a chat "
        "template, or leave the choice at auto"
    )
    assert GUESS_REMEDY == "write prompts as messages, or choose data.chat: text or chat"
    assert guessed({"g": (3, "f:1")}) == ["3 prompts, the first at f:1: g"]


def test_the_targets_of_encoder_decoders_are_tokenized_as_targets() -> None:
    class Texts:
        encoded, tokenizer = True, SimpleNamespace(eos_token_id=1, decode=lambda ids, **_: "")

        @staticmethod
        def whole(text: str, *, target: bool = False) -> list[int]:
            return [7 if target else 8, 1]

    texts: Any = Texts()
    ending = Endings(texts, frozenset({1})).after(PutPrompt("p", "text"), "a", [8], (Source("f", 1), "chosen"))
    assert (ending.ids, ending.merged, ending.unstopped) == ([7, 1], 0, 0)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "thought", "thoughts"])
def test_every_name_of_reasoning_may_be_within_tags(tokenizer: Any, key: str) -> None:
    shown = "{% if m.KEY %}<why>{{ m.KEY }}</why>{% endif %}{{ m.content }}".replace("KEY", key)
    assert reasoning_tag(tokenizer("{% for m in messages %}" + shown + "{% endfor %}")) == "why"


def test_the_place_of_a_hidden_key_leaves_out_tools(tokenizer: Any) -> None:
    """Tools are no message of the row; after a prompt turns are counted from it."""
    named = Message("assistant", "a", '{"name": "n"}')
    chat = (tools_message([]), ASK, named, ASK, named)
    remedy = "drop it by data.ignore=[name] (--ignore name), or choose a model whose template shows it"
    for begin, where in ((0, "message 2"), (3, "turn 2 after the prompt"), (4, "turn 1 after the prompt")):
        reason = f"{where}: the chat template does not show its key `name`"
        assert hidden(tokenizer(TURNS), chat, begin) == Hidden("name", reason, remedy)


@pytest.mark.parametrize(
    ("work", "reason", "remedy", "check"),
    [
        (lambda: further({"name": 3}, "user", "message 2"), "message 2: its `name` is no text",
         "write `name` as text, or leave it out", "mistyped field"),
        (lambda: mark({"weight": 1, "train": 0}, "assistant", "message 2"),
         "message 2: its `weight` and `train` disagree", "keep one of them", "mistyped field"),
        (lambda: mark({"loss": True}, "tool", "message 2"),
         "message 2 is the tool's turn, and its `loss` asks to train on it", "set its `loss` to 0", "mistyped field"),
        (lambda: tool_calls([{"name": "f", "arguments": {"a": 1}, "mask": 1}], "message 2"),
         "message 2: call 1: its key `mask` holds a training weight or mask, which is not supported yet",
         "leave it out, or drop it by data.ignore=[mask] (--ignore mask)", "unread key"),
        (lambda: tool_calls([{"name": "x" * 61, "arguments": 3}], "message 2"),
         f"message 2: call 1, of `{'x' * 60}…`: its `arguments` are no JSON object",
         'write them as {"city": "…"}, or as such an object in a text', "malformed tool call"),
    ],
)  # fmt: skip
def test_keys_at_fault_are_named_in_full(work: Any, reason: str, remedy: str, check: str) -> None:
    with pytest.raises(Malformed) as error:
        work()
    assert (error.value.reason, error.value.remedy, error.value.check) == (reason, remedy, check)
