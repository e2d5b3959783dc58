"""Dialogues as tokens: what of each turn is counted, which texts are rendered ahead, and what a refusal is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.data import endings as module
from twofold.data.endings import Ending, Endings
from twofold.data.issues import IssueError
from twofold.data.token_texts import TokenTexts
from twofold.data.turns import PutPrompt
from twofold.records import Message, Source

Make = Callable[..., Any]
AT = (Source("f", 4), "chosen")
ASK, MORE = (Message("user", "q"),), Message("user", "m")
ASKING = "{% if add_generation_prompt %}[a]{% endif %}"
BARE = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}"
ENDED = BARE.replace("{% endfor %}", "</s>{% endfor %}")


def endings(made: Any) -> Endings:
    return Endings(TokenTexts(made), frozenset({made.eos_token_id}))


def said(text: str, scored: bool | None = None) -> Message:
    return Message("assistant", text, "", scored)


def after(of: Endings, *turns: Message) -> Ending:
    head = of.texts.bare(of.rendered(ASK, AT, generation_prompt=True))
    return of.after(PutPrompt(ASK, "chat"), turns, head, AT)


def test_what_was_done_to_each_turn_is_counted(tokenizer: Make) -> None:
    """Two turns without a stop token, and two that would merge into what is before them."""
    turns = said("oa"), MORE, said("ob")
    bare = after(endings(tokenizer(BARE + ASKING)), *turns)
    assert (bare.merged, bare.unstopped, bare.guess) == (0, 2, "")
    merging = after(endings(tokenizer(ENDED + ASKING, merges=(("]", "o"),))), *turns)
    assert (merging.merged, merging.unstopped, merging.guess) == (2, 0, "")
    assert after(endings(tokenizer(ENDED + ASKING)), *turns)[1:4] == (0, 0, "")


def test_the_first_guess_of_a_dialogue_is_named(tokenizer: Make) -> None:
    thinking = ENDED + ASKING.replace("[a]", "[a]<think>\n")
    guess = "the chat template opens <think>, and answers without </think> follow it as an empty one"
    of = endings(tokenizer(thinking))
    for turns in ((said("a"), MORE, said("b")), (said("<think>\nw</think>a"), MORE, said("b"))):
        assert after(of, *turns).guess == guess
    assert after(of, said("<think>\nw</think>a")).guess == ""


def test_the_texts_of_a_dialogue_are_rendered_ahead(tokenizer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each turn that is trained on what comes before it, but for the first, whose prompt is known, and the whole."""
    of = endings(tokenizer(ENDED + ASKING))
    turns = (said("one"), MORE, said("two", False), MORE, said("three"))
    found = list(of.needed(PutPrompt(ASK, "chat"), turns))
    first, second = "[u]q</s>[a]one</s>", "[u]q</s>[a]one</s>[u]m</s>[a]two</s>[u]m</s>[a]"
    assert found == [first, second, f"{second}three</s>"]
    monkeypatch.setattr(module, "rendering", lambda *_, **__: "again")
    assert of.rendered((*ASK, turns[0]), AT) == first
    assert of.rendered((*ASK, *turns[:4]), AT, generation_prompt=True) == second
    assert of.rendered((*ASK, *turns[:4]), AT) == of.rendered(ASK, AT) == "again"
    of.forget()
    assert of.rendered((*ASK, turns[0]), AT) == "again"


def test_of_a_text_prompt_the_whole_is_rendered_ahead(tokenizer: Make) -> None:
    of = endings(tokenizer(None))
    assert list(of.needed(PutPrompt("p ", "text"), "a")) == ["p a"]
    assert list(of.needed(PutPrompt("p ", "text", str.upper), "a")) == ["p A"]
    assert list(of.needed(PutPrompt("p ", "text"), (said("a"),))) == [], "turns after a text are refused"


@pytest.mark.parametrize(("message", "told"), [("no\\nmore", "no"), ("", "TemplateError")])
def test_a_refusal_is_the_first_line_or_the_kind_of_the_error(tokenizer: Make, message: str, told: str) -> None:
    of = endings(tokenizer("{{ raise_exception('" + message + "') }}"))
    with pytest.raises(IssueError) as error:
        of.rendered(ASK, AT)
    assert error.value.what == f"is refused by the chat template: {told}"
    assert error.value.where == "f:4, `chosen`"
