"""Where a text gives its final answer: marks before sentences, the last before the first, and nothing out of a sum."""

from __future__ import annotations

import pytest

from twofold.rewards.final_answer import (
    MOST_LEFT,
    SEVERAL,
    TAIL,
    behind_a,
    behind_equals,
    behind_hashes,
    boxed,
    last_sentence,
    marked,
    short,
    spoken,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("#### 18", ["18"]),
        ("a\n####18\nb", ["18"]),
        ("####\n\n 18 \nmore", ["18"]),
        ("1 #### 2 #### 3", ["3"]),
        ("##### 5 #", ["5"]),
        ("#### 1\n#### 2\n#### 1", ["1", "2", "1"]),
        ("####", [""]),
        ("####\n \n", [""]),
        ("### 3", []),
        ("", []),
    ],
)
def test_what_stands_behind_hashes(text: str, found: list[str]) -> None:
    assert behind_hashes(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A: 18", "18"), ("Q: x\nA: 17\n A: 18 \nafter", "18"), ("A:\n\n18", "18"), ("A: a A: b", "b"), ("A:", ""),
        ("BA: 1", None), ("a: 1", None), ("", None), ("A: 1\nA:\n2\n3", "2"),
    ],
)  # fmt: skip
def test_what_stands_on_the_last_line_of_an_answer(text: str, found: str | None) -> None:
    assert behind_a(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} \boxed{ 2 }", "2"), (r"\boxed{\frac{1}{2}} and", r"\frac{1}{2}"), (r"\fbox {3}", "3"),
        (r"\boxed{a\}b}", r"a\}b"), (r"\boxed{{1}", None), (r"\boxed{1} \boxed{2", None), (r"\boxed{}", ""),
        ("boxed{1}", None), ("", None), ("\\boxed{a\\\\}", "a\\\\"), (r"\boxed{1}}}", "1"),
    ],
)  # fmt: skip
def test_what_the_last_box_holds(text: str, found: str | None) -> None:
    assert boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{2} #### 1", ["1"]), (r"A: 3" "\n" r"\boxed{2}", ["2"]), ("A: 3", ["3"]), ("3", []),
        ("#### 1\n#### 2\n#### 1", ["1", "2"]), (r"\boxed{2" "\nA: 3", ["3"]),
        ("".join(f"#### {n}\n" for n in range(SEVERAL + 1)), [str(n) for n in range(SEVERAL)]),
    ],
)  # fmt: skip
def test_the_marked_answers_of_a_ground_truth(text: str, found: list[str]) -> None:
    assert marked(text) == found
    assert SEVERAL == 16


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("9 * 2 = 18", "18"), ("x = 5", "5"), ("x = y = 5", "x = y = 5"), ("a = 1, b = 2", "a = 1, b = 2"),
        ("a is 4 = 5", "5"), ("1 + 1 = 2 = 3", "3"), ("so x + 1 = 5", "so x + 1 = 5"), ("2x = 5", "2x = 5"),
        ("f(x) = 5", "5"), ("f(x) + 2 = 5", "f(x) + 2 = 5"), ("h(2) = 5", "5"), ("x <= 5", "x <= 5"),
        ("x >= 5", "x >= 5"), ("4 != 5", "4 != 5"), ("3.9 ≈ 4", "4"), ("no sign", "no sign"), ("= 7", "7"),
        ("area = 7 cm", "7 cm"), ("y^2 = 9", "y^2 = 9"), ("y = 3 = 9", "9"),
        ("x" + "9" * (MOST_LEFT - 1) + "=5", "x" + "9" * (MOST_LEFT - 1) + "=5"), ("x" + "9" * MOST_LEFT + "=5", "5"),
    ],
)  # fmt: skip
def test_what_stands_behind_an_equals_sign(sentence: str, found: str) -> None:
    assert behind_equals(sentence) == found
    assert MOST_LEFT == 200


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is 18. They are sold.", "It is 18."), ("1 + 1 = 2", "2"), ("None.", None), ("", None),
        ("Is it 4? It is 5! Good", "It is 5!"), ("4\nno", "4"), ("5!, or 120", "5!, or 120"),
        (r"a\! 7", r"a\! 7"), ("It is 3.5 km", "It is 3.5 km"), ("٣ apples", "٣ apples"),
    ],
)  # fmt: skip
def test_the_last_sentence_with_a_digit(text: str, found: str | None) -> None:
    assert last_sentence(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # marks: whichever comes last
        (r"#### 1 \boxed{2}", "2"), (r"\boxed{2} #### 1.", "1"), ("#### 1\n#### **2**,", "2"), (r"\boxed{2", None),
        ("####\n 5 \n", "5"), (r"x" "\n" r"\boxed{2}" "\n" "#### `3`;", "3"),
        # what is said to be the answer
        ("The answer is 18. Then 19 eggs", "18"), ("Final answer: 1/2 cup", "1/2"), ("**Answer:** 7", "7"),
        ("answer is: 3", "3"), ("Answer:\n4 and 5", "5"), ("The answer is 3. The answer is 4.", "4"),
        ("The answer is $x^2$ indeed. 4", "x^2"), ("The answers are 1, then 2", "2"),
        # a formula, or the last sentence
        ("We get $a = 5$ eggs", "5"), ("first $3$, then $4$ eggs", "4"),
        (r"We get \(2+3\) eggs", "2+3"), ("so $$7$$", "7"), (r"so \[8\] ok", "8"),
        ("We get $5$ of 6 eggs", "6"), ("She has 3 * 4 = 12 eggs.", "12"), ("No number at all.", None), ("", None),
        ("It costs 5 million dollars.", "5 million"), ("It is half past 3 pm.", "3 pm"),
        ("x is 2 hours 30 minutes", None),
        ("It is 2 or 3", None), (r"Thus \frac12 of it", r"\frac12"), ("It is -5.", "-5"),
    ],
)  # fmt: skip
def test_where_a_completion_gives_its_answer(text: str, found: str | None) -> None:
    assert spoken(text) == found


def test_an_answer_without_a_mark_is_looked_for_at_the_end() -> None:
    said = "answer is 7. 8 eggs"
    assert TAIL == 4000
    assert spoken("x " + said.ljust(TAIL)) == "7"
    assert spoken("x " + said.ljust(TAIL + 1)) == "8"
    assert spoken("#### 7\n" + " " * 2 * TAIL + "8 eggs") == "7"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n b", "a b"), ("x" * 60, "x" * 60), ("x" * 61, "x" * 59 + "…"), ("x " * 40, ("x " * 30)[:59] + "…"),
     (" " * 239 + "ab", "a"), ("", "")],
)  # fmt: skip
def test_a_long_answer_is_shown_by_its_start(text: str, shown: str) -> None:
    assert short(text) == shown
    assert short("abcd", 3) == "ab…"
