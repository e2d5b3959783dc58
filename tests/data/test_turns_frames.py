"""What a template puts around a user's turn, by which a rendered prompt is known; and which texts are doubtful."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.turns import CHOICE, Turns, _doubt, _frame

TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"
ALONE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}"
SYSTEM = "{% if messages[0].role != 'system' %}[system]Be brief.</s>{% endif %}"
LONELY = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "frame"),
    [
        (TURNS + ASKING, ("[user]", "</s>[assistant]")),
        (SYSTEM + TURNS + ASKING, ("</s>[user]", "</s>[assistant]")),
        (LONELY + SYSTEM + TURNS + ASKING, ("[system]Be brief.</s>[user]", "</s>[assistant]")),
        (LONELY + "<s>" + TURNS + ASKING, ("[user]", "</s>[assistant]")),
        (f"{ALONE}abc{{% endif %}}", ("", "abc")), (f"{ALONE} \nabc \n{{% endif %}}", ("", "abc")),
        (f"{ALONE}ab{{% endif %}}", ("", "")), ("{{ raise_exception('no') }}", ("", "")),
    ],
)  # fmt: skip
def test_a_frame_is_what_stands_before_every_question_and_behind_the_last(
    tokenizer: Any, template: str, frame: tuple[str, str]
) -> None:
    """Without what begins the document, as far as a second question shows it; too short an end is none."""
    assert _frame(tokenizer(template)) == frame


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("[user]q</s>[assistant]", "rendered"), ("so [user]q</s>[assistant] \n", "rendered"),
        ("q</s>[assistant]", "turn"), ("[user]q</s>", "turn"), ("[user]q</s>[assistant] a", "turn"),
    ],
)  # fmt: skip
def test_a_prompt_with_both_parts_of_the_frame_is_rendered(tokenizer: Any, text: str, form: str) -> None:
    put = Turns(tokenizer(TURNS + ASKING)).put(text)
    assert put.form == form
    if form == "rendered":
        assert (put.prompt, put.guess) == (text, "already holds the model's chat template: left unchanged")
    assert Turns(tokenizer(TURNS + ASKING), "chat").put(text).form == "turn"


TRANSCRIPT = "looks like a transcript of no known form{} and is put as one user's turn"


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("plain", ""), ("Note: read on", ""), ("Name: a\nTitle: b", ""), ("Answer: a", ""),
        ("Answer: a\nanswer: b", ""),
        ("Fact: a\nBot: b\nFact: c", TRANSCRIPT.format("")), ("**Fact:** a\n# Answer : b", TRANSCRIPT.format("")),
        ("Question: a\nAnswer:", TRANSCRIPT.format(", ends with `Answer:`,")),
        ("a\nFinally: \n", TRANSCRIPT.format(", ends with `Finally:`,")),
        ("Answer:", ""),
        ("<|im_start|> b\nAnswer:", "holds <|im_start|>, a mark of a chat template, and is put as one user's turn"),
        ("a <</SYS>>", "holds <</SYS>>, a mark of a chat template, and is put as one user's turn"),
    ],
)  # fmt: skip
def test_a_text_is_doubtful_where_it_may_be_more_than_a_turn(text: str, doubt: str) -> None:
    assert _doubt(text) == doubt


@pytest.mark.parametrize(
    ("kept", "choice", "followed"),
    [(None, "auto", "auto"), ("text", "auto", "text"), ("text", "chat", "chat"), ("chat", "text", "text")],
)
def test_the_choice_of_training_is_followed_unless_another_is_made(
    tokenizer: Any, kept: Any, choice: Any, followed: str
) -> None:
    made = tokenizer(TURNS + ASKING)
    made.init_kwargs |= {CHOICE: kept} if kept else {}
    turns = Turns(made, choice)
    assert (turns.choice, turns.renders) == (followed, followed != "text")


@pytest.mark.parametrize(("choice", "doubt"), [("auto", TRANSCRIPT.format(", ends with `Answer:`,")), ("chat", "")])
def test_a_chosen_chat_is_no_guess(tokenizer: Any, choice: Any, doubt: str) -> None:
    put = Turns(tokenizer(TURNS + ASKING), choice).put("Question: a\nAnswer:")
    assert (put.form, put.guess) == ("turn", doubt)
