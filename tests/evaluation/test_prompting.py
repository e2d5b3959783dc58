"""Problems as they are put, to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import tiny
from support.frozen import refuse_changes
from support.recital import Letters
from twofold.data.turns import Turns
from twofold.errors import DataError
from twofold.evaluation.prompting import PRESETS, Preset, Prompting, Put, drawn
from twofold.records import Message, Source, Task
from twofold.sampling.named_model import open_model


def task(prompt: str, answer: str = "#### 1", row: int = 1) -> Task:
    return Task(prompt, answer, Source("train.jsonl", row))


POOL = [task(f"p{i}", f"a{i}", i + 1) for i in range(9)]


def test_text_with_examples_is_this_text() -> None:
    put = Prompting(PRESETS["gsm8k"].text, examples=(task("1+1?", "2\n#### 2"), task("{prompt}?", "#### 7")))
    assert put.of(task("3+4?")).prompt == (
        "Question: 1+1?\nAnswer: 2\n#### 2\n\nQuestion: {prompt}?\nAnswer: #### 7\n\nQuestion: 3+4?\nAnswer:"
    )
    assert put.of(task("3+4?", "#### 7", 5)).source == Source("train.jsonl", 5)


def test_an_answer_follows_a_prompt_that_ends_in_white_space_directly() -> None:
    put = Prompting("{prompt}\n", examples=(task("1+1?", "2"),))
    assert put.of(task("3+4?")).prompt == "1+1?\n2\n\n3+4?\n"


def test_a_chat_shows_examples_as_turns_behind_the_system_message() -> None:
    chat = (Message("system", "be brief"), Message("user", "3+4?"))
    put = Prompting("{prompt} Think.", chat=True, examples=(task("1+1?", "2"),))
    found = put.of(Task(chat, "7", Source("t", 1))).prompt
    assert found == (
        Message("system", "be brief"), Message("user", "1+1? Think."), Message("assistant", "2"),
        Message("user", "3+4? Think."),
    )  # fmt: skip
    assert put.stop == ()
    assert put.cut("a\n\nb") == "a\n\nb"


def test_a_completion_ends_where_it_would_pose_the_next_problem() -> None:
    put = Prompting(PRESETS["gsm8k"].text, examples=(task("1+1?"),))
    assert put.stop == ("\n\nQuestion:",)
    assert put.cut("7\n\n#### 7\n\nQuestion: 9?\nAnswer: 9") == "7\n\n#### 7"
    assert Prompting(examples=(task("1+1?"),)).stop == ("\n\n",)
    assert Prompting().stop == ()


def test_a_chat_is_no_text() -> None:
    with pytest.raises(DataError, match=r"t:3: is a chat"):
        Prompting().of(Task((Message("user", "x"),), "1", Source("t", 3)))


def test_examples_are_a_function_of_the_seed_and_none_is_a_problem() -> None:
    problems = [task(" p3 "), task("p4")]
    three, six = (drawn(POOL, problems, count, 0) for count in (3, 6))
    assert six[:3] == three == drawn(POOL, problems, 3, 0)
    assert drawn(POOL, problems, 6, 1) != six
    assert {e.prompt for e in drawn(POOL, problems, 7, 0)} == {p.prompt for p in POOL} - {"p3", "p4"}
    with pytest.raises(DataError, match=r"7 of 9 examples are none of the problems, 8 are wanted"):
        drawn(POOL, problems, 8, 0)


def test_the_record_says_all_that_a_repetition_needs() -> None:
    assert Prompting("Q: {prompt}", examples=(POOL[4],)).as_dict() == {
        "style": "text", "template": "Q: {prompt}", "shots": 1, "examples": ["train.jsonl:5"], "stop": ["\n\nQ:"],
    }  # fmt: skip


def test_the_model_s_own_turns_are_shown_and_what_is_rendered_stays_as_it_is(chatty: str) -> None:
    turns = open_model(chatty).encoder.turns
    put = Prompting("{prompt} Think.", chat=True, examples=(task("1+1?", "2"),), turns=turns)
    assert put.of(task("3+4?")).prompt == (
        Message("user", "1+1? Think."), Message("assistant", "2"), Message("user", "3+4? Think."),
    )  # fmt: skip
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<u>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
    )
    rendered = Prompting(chat=True, turns=Turns(tokenizer))
    assert rendered.of(task("<u>3+4?<answer>")).prompt == "<u>3+4?<answer>"
    assert replace(rendered, examples=(task(" <u>1+1?<answer> ", "2"),)).of(task("a")).prompt == (
        Message("user", "<u>1+1?<answer>"), Message("assistant", "2"), Message("user", "a"),
    )  # fmt: skip
    assert Prompting(chat=True).of(task("a")).prompt == (Message("user", "a"),)


def test_a_chat_is_known_by_its_last_turn() -> None:
    chat = (Message("system", "x"), Message("user", " p3 "))
    pool = [task("p3"), task("p4"), Task((Message("user", "p5"),), "a", Source("t", 1))]
    assert drawn(pool, [Task(chat, "1", Source("t", 1))], 2, 0) == drawn(pool[1:], [], 2, 0)
    with pytest.raises(DataError) as refused:
        drawn(pool[:1], [task("p3")], 1, 0)
    assert str(refused.value) == (
        "train.jsonl: 0 of 1 examples are none of the problems, 1 are wanted\n  → add examples, or use fewer shots"
    )
    with pytest.raises(DataError, match=r"^0 of 0 examples"):
        drawn([], [], 1, 0)


def test_a_chat_where_text_is_wanted_is_named() -> None:
    chat = Task((Message("user", "x"),), "1", Source("t", 3))
    for put in (lambda: Prompting().of(chat), lambda: Prompting(examples=(chat,)).of(task("a"))):
        with pytest.raises(DataError) as refused:
            put()
        assert str(refused.value) == "t:3: is a chat, not text\n  → choose --style chat"


def test_presets_name_their_published_data() -> None:
    assert {name: (preset.source, preset.split) for name, preset in PRESETS.items()} == {
        "answers": (None, "test"), "gsm8k": ("openai/gsm8k:main", "test"),
        "gsm8k-platinum": ("madrylab/gsm8k-platinum:main", "test"), "ifeval": ("google/IFEval", "train"),
        "rewardbench": ("allenai/reward-bench", "filtered"), "rewardbench2": ("allenai/reward-bench-2", "test"),
        "math": ("DigitalLearningGmbH/MATH-lighteval", "test"),
        "truthfulqa": ("truthfulqa/truthful_qa:multiple_choice", "validation"),
    }  # fmt: skip
    plain = {name for name, preset in PRESETS.items() if preset.text == "{prompt}"}
    assert plain == PRESETS.keys() - {"gsm8k", "gsm8k-platinum", "math"}


def test_presets_are_these() -> None:
    assert Prompting().of(task("3+4?")).prompt == "3+4?"
    assert PRESETS["answers"] == Preset("{prompt}", "{prompt}", None)
    assert PRESETS["gsm8k"].source == "openai/gsm8k:main"
    assert Prompting(PRESETS["gsm8k"].chat, chat=True).of(task("1+1?")).prompt == (
        Message("user", "1+1?\n\nReason step by step. End with a line `#### N`, where N is the number alone."),
    )  # fmt: skip
    refuse_changes(Preset(), slots=True)
    refuse_changes(Prompting(), Put(Letters(), Prompting()))


def test_a_codec_ends_completions_where_the_prompting_does() -> None:
    put = Put(Letters(), Prompting("Q{prompt}", examples=(task("1", "2"),)))
    assert put.text(Letters().prompt("7\n\nQ8")) == "7"
    assert put.prompt("ab").tolist() == [97, 98]
    assert Prompting(chat=True).as_dict()["style"] == "chat"
