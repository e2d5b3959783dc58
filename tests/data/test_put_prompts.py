"""Transcripts of each known form, split into turns, and the parts of a guess."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.reasoning import Spoken, is_whole, spoken
from twofold.data.shapes.pairs import SHARED_BEGINNING
from twofold.data.transcripts import FORMS, as_chat, split, transcript
from twofold.data.turns import PromptTally, PutPrompt, Turns, described, guessed, keep_choice
from twofold.records import Message

TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"
ASK = (Message("user", "q"),)


@pytest.mark.parametrize(
    ("text", "form", "turns"),
    [
        ("Human: a\n\nAssistant:", 0, [("user", "a")]),
        ("\n\nHuman: a", 0, [("user", "a")]),
        ("Before. ### Human: a### Assistant:", 1, [("system", "Before."), ("user", "a")]),
        ("### Instruction:\na\n### Input:\nb\n### Response:", 2, [("user", "a\nb")]),
        ("s\n### User: a\n### Assistant:", 3, [("system", "s"), ("user", "a")]),
        ("User: a\nAssistant:", 4, [("user", "a")]),
        ("s USER: a ASSISTANT: b</s>USER: c ASSISTANT:", 5,
         [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("User: a\nUser: b\nAssistant: c\nAssistant: d\nUser: e\nAssistant:", 4,
         [("user", "a\n\nb"), ("assistant", "c\n\nd"), ("user", "e")]),
    ],
)  # fmt: skip
def test_each_form_is_split_into_turns(text: str, form: int, turns: list[tuple[str, str]]) -> None:
    found = transcript(text)
    assert found is not None
    assert found[0] is FORMS[form]
    assert [(m.role, m.content) for m in found[1]] == turns
    assert split(text) == found[1]
    assert found[0].answer(f" {found[0].assistant} x \n") == "x"
    assert found[0].answer(" x ") == "x"


@pytest.mark.parametrize(
    "text", ["User: a", "User: a\nAssistant: b", "s\nUser: a\nAssistant:", "User:\nAssistant:", "Assistant:", "a", ""]
)
def test_what_is_no_transcript_stays_as_it_is(text: str) -> None:
    assert transcript(text) is None
    assert split(text) == text
    assert split(ASK) == ASK


def test_a_text_becomes_a_chat_and_a_chat_stays_one() -> None:
    assert as_chat("q") == ASK
    assert as_chat(ASK) is ASK


def test_a_prompt_is_put_as_the_choice_says(tokenizer: Any) -> None:
    plain, chat = Turns(tokenizer(None)), Turns(tokenizer(TURNS + ASKING))
    assert (plain.has_template, plain.renders, chat.has_template, chat.renders) == (False, False, True, True)
    assert PutPrompt("q", "text") == PutPrompt("q", "text", PutPrompt("q", "text").answer, "")
    assert plain.put(" \n") == PutPrompt(" \n", "none")
    assert chat.put("") == PutPrompt("", "none")
    assert chat.put(ASK) == PutPrompt(ASK, "chat")
    put = chat.put("q")
    assert (put.prompt, put.form, put.guess) == (ASK, "turn", "")
    assert [put.answer(t) for t in (" a", "  a", " ", "a ", "", " \na")] == ["a", "  a", " ", "a ", "", " \na"]
    assert [plain.put("q").answer(t) for t in (" a", "a")] == [" a", "a"]
    assert Turns(tokenizer(TURNS + ASKING), "text").put("q") == PutPrompt("q", "text")
    rendered = chat.put("[user]q</s>[assistant]")
    assert (rendered.form, rendered.prompt) == ("rendered", "[user]q</s>[assistant]")
    assert chat.put("q</s>[assistant]").form == "turn"
    assert Turns(tokenizer("{{ messages[0].content }}")).put("q a").form == "turn"
    assert Turns(tokenizer("{{ raise_exception('no') }}")).renders


def test_a_shared_beginning_is_a_guess_where_nobody_chose(tokenizer: Any) -> None:
    made = tokenizer(TURNS + ASKING)
    assert Turns(made).of_format(SHARED_BEGINNING).startswith("prompts are what both texts begin with")
    assert Turns(made).of_format("prompt") == Turns(made, "chat").of_format(SHARED_BEGINNING) == ""
    assert Turns(made, "text").of_format(SHARED_BEGINNING) == Turns(tokenizer(None)).of_format(SHARED_BEGINNING) == ""


def test_a_choice_is_kept_where_there_is_a_template(tokenizer: Any) -> None:
    for template, choice, kept in ((TURNS, "text", "text"), (TURNS, "auto", None), (None, "text", None)):
        made = tokenizer(template)
        keep_choice(made, choice)  # type: ignore[arg-type]  # of the choices
        assert made.init_kwargs.get("twofold_chat") == kept


def test_forms_and_guesses_are_counted() -> None:
    tally = PromptTally()
    for form, guess, row in (("turn", "a", "f:1"), ("turn", "", "f:2"), ("text", "a", "f:3"), ("turn", "b", "f:4")):
        tally.add(form, guess, row)  # type: ignore[arg-type]  # of the forms
    assert (tally.forms, tally.guesses) == ({"turn": 3, "text": 1}, {"a": (2, "f:1"), "b": (1, "f:4")})
    assert guessed(tally.guesses) == ["2 prompts, the first at f:1: a", "1 prompt, the first at f:4: b"]
    assert described({"text": 1, "none": 3}, has_template=True) == "1 as bare text (chat: text)"
    assert described({}, has_template=True) == ""


THINK = TURNS + "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"


@pytest.mark.parametrize(
    ("template", "answer", "found"),
    [
        (TURNS + ASKING, "a", Spoken("a</s>")),
        (THINK, "<think>\nw</think>a", Spoken("w</think>a</s>")),
        (THINK, "w</think>a", Spoken("w</think>a</s>")),
        (THINK, "a", Spoken("\n</think>\n\na</s>", "the chat template opens <think>, and answers without </think> "
                            "follow it as an empty one")),
        (TURNS + "{% if add_generation_prompt %}[assistant]oh {% endif %}", "a", None),
        (TURNS + "{% if add_generation_prompt %}[assistant]oh {% endif %}", " oh\na", Spoken("a</s>")),
        (TURNS + "{% if add_generation_prompt %}(bot){% endif %}", "a", None),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "a", None),
    ],
)  # fmt: skip
def test_an_answer_follows_what_the_prompt_has_opened(
    tokenizer: Any, template: str, answer: str, found: Spoken | None
) -> None:
    assert spoken(tokenizer(template), (*ASK, Message("assistant", answer))) == found
    assert Spoken("a") == ("a", "")


def test_a_turn_holds_a_text_white_space_aside() -> None:
    assert [is_whole(a, b) for a, b in (("a b", "x ab y"), ("ab", "a\n b"), ("a b", "a c b"), ("", "x"))] == [
        True, True, False, True,
    ]  # fmt: skip
