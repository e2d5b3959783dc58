"""Problems as they are put, to the letter."""

from __future__ import annotations

import pytest

from twofold.errors import DataError
from twofold.evaluation.prompting import PRESETS, Prompting, drawn
from twofold.records import Message, Source, Task


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
