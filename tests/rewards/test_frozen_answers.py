"""What is made of an answer is not changed afterwards, and what every answer has one of is small."""

from __future__ import annotations

import twofold.rewards
from support.frozen import changeable, slotted
from support.usual_defaults import constants, numbers, switched_on, unusual


def test_nothing_can_be_changed() -> None:
    assert changeable(twofold.rewards) == set()


def test_what_answers_have_one_of_each_takes_no_further_attributes() -> None:
    assert slotted(twofold.rewards) == {"Formula", "Instruction", "Numeral", "Verdict"}


def test_what_nobody_names_is_as_everywhere() -> None:
    names = "ModelScorer.load", "StepScorer.load", "open_reward"
    assert unusual(twofold.rewards) == {f"{name}.max_length": 1024 for name in names}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(twofold.rewards) == set()


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(twofold.rewards) == {
        "_excerpt.width": 120, "Execution.seconds": 5.0, "Execution.memory": 512, "Execution.parallel": 2,
        "short.width": 60, "Implicit.beta": 0.1, "MathVerifier.timeout": 5.0,
    }  # fmt: skip


def test_constants_are_these() -> None:
    assert constants(twofold.rewards) == {
        "classifier.AT_ONCE": 32, "classifier.LONGEST": 1000000, "execution.MOST_BYTES": 1048576,
        "final_answer.SEVERAL": 16, "final_answer.TAIL": 4000, "final_answer.MOST_LEFT": 200,
        "mathematics.START_SECONDS": 60.0, "mathematics.MOST_BYTES": 4294967296, "mathematics.MOST_WORDS": 12,
        "mathematics.TINY": 0.0001, "notation.LONGEST": 500, "notation.DEEPEST": 15,
        "notation._PLAIN_SUPERSCRIPTS": {8304: 48, 185: 49, 178: 50, 179: 51, 8308: 52, 8309: 53, 8310: 54,
            8311: 55, 8312: 56, 8313: 57, 8315: 45},
        "notation._SCALES": {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12},
        "numerals.AROUND": 64, "numerals.LONGEST": 4000, "rollouts.LARGEST": 1e+18, "rows.AT_ONCE": 64,
    }  # fmt: skip
