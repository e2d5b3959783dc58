"""How a prompter chooses template, examples and stops for a model here and for one behind a server."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.reasoning import Parted
from twofold.errors import RecipeError
from twofold.evaluation.prompting import PRESETS, Prompter, Prompting, Put
from twofold.records import Message, Source, Task, turns_of

PROBLEM = Task("p", "#### 1", Source("t", 1))
CHAT = Task((Message("user", "p"),), "#### 1", Source("t", 2))
POOL = [Task(f"e{i}", f"a{i}", Source("e", i)) for i in range(4)]


class Asks:
    """Turns of a tokenizer, with these properties."""

    def __init__(self, *, renders: bool = False, has_template: bool = True) -> None:
        self.renders, self.has_template = renders, has_template


def prompter(*problems: Task, pool: list[Task] = POOL, **how: Any) -> Prompter:
    made = Prompter(problems or (PROBLEM,), **how)
    made.__dict__["pool"] = pool  # as if read
    return made


def test_a_raw_server_gets_text_that_ends_before_another_problem() -> None:
    """A chat does not, and one's own template has ends of its own."""
    math = PRESETS["math"]
    assert math.until == ("Problem:",)
    assert prompter(preset="math").server(raw=True, shots=0) == Prompting(math.text, False, (), None, math.until)
    assert prompter(preset="math").server(raw=False, shots=0) == Prompting(math.chat, True, (), None, ())
    own = prompter(preset="math", template="Q {prompt}")
    assert own.server(raw=True, shots=0) == Prompting("Q {prompt}", False, (), None, ())


def test_a_model_here_gets_the_same() -> None:
    math: Any = PRESETS["math"]
    text, chat = Asks(), Asks(renders=True)
    made: Any = prompter(preset="math")
    assert made.local(text, 0) == Prompting(math.text, False, (), text, math.until)  # type: ignore[arg-type]
    assert made.local(chat, 0) == Prompting(math.chat, True, (), chat, ())  # type: ignore[arg-type]


@pytest.mark.parametrize("local", [True, False])
def test_examples_are_as_many_as_shots(local: bool) -> None:
    made: Any = prompter(seed=3)
    of = (lambda shots: made.local(Asks(), shots)) if local else (lambda shots: made.server(False, shots))
    assert of(0).examples == ()
    assert len(of(3).examples) == 3
    assert of(4).examples[:3] == of(3).examples
    other: Any = prompter(seed=4)
    assert made.server(False, 4).examples != other.server(False, 4).examples
    shown: Any = prompter(POOL[0], pool=POOL[:2])
    assert shown.server(False, 1).examples == (POOL[1],)


def test_chats_among_the_rows_are_put_as_chats_unless_a_style_is_named() -> None:
    made: Any = prompter(PROBLEM, CHAT)
    assert made.local(Asks(), 0).chat
    text: Any = prompter(PROBLEM, CHAT, style="text")
    assert not text.local(Asks(), 0).chat
    with pytest.raises(RecipeError, match="the rows are chats"):
        made.local(Asks(has_template=False), 0)
    assert not text.local(Asks(has_template=False), 0).chat


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(RecipeError) as refused:
        prompter(template="").server(raw=True, shots=0)
    assert (refused.value.what, refused.value.where) == ("lacks {prompt}", "--template")


def test_an_end_is_the_templates_or_the_beginning_of_the_next_example() -> None:
    """Named ends go first, also in a chat; without examples there is nothing to begin."""
    until = ("X", "Y")
    assert Prompting("Q: {prompt}", until=until, examples=tuple(POOL)).stop == until
    assert Prompting("Q: {prompt}", chat=True, until=until).stop == until
    assert Prompting("Q: {prompt}").stop == ()
    assert Prompting("Q: {prompt}", until=until).cut("a Y b X c") == "a "
    assert Prompting("Q: {prompt}", until=until).as_dict() == {
        "style": "text", "template": "Q: {prompt}", "shots": 0, "examples": [], "stop": ["X", "Y"],
    }  # fmt: skip


def test_an_example_of_several_turns_is_shown_whole() -> None:
    turns = (*turns_of("look"), Message("user", "and?"), Message("assistant", "4"))
    worked = Task("e", "4", Source("e", 1), turns)
    put = Prompting("{prompt}!", chat=True, examples=(worked,))
    assert put.of(PROBLEM).prompt == (Message("user", "e!"), *turns, Message("user", "p!"))


def test_a_text_prompt_that_is_empty_is_answered_at_once() -> None:
    assert Prompting(examples=(Task("", "a", Source("e", 1)),)).of(PROBLEM).prompt == "a\n\np"


class Thinks:
    """A codec whose completions reason before they answer."""

    def parted(self, prompt: Any, tokens: Any) -> Parted:
        return Parted("7 Q8", "so Q9")


def test_an_answer_is_cut_and_its_reasoning_is_not() -> None:
    codec: Any = Thinks()
    assert Put(codec, Prompting(until=("Q",))).parted("p", None) == Parted("7 ", "so Q9")  # type: ignore[arg-type]
