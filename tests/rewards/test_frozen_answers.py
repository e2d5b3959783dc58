"""What is made of an answer is not changed afterwards, and what every answer has one of is small."""

from __future__ import annotations

import twofold.rewards
from support.frozen import changeable, slotted
from support.usual_defaults import numbers, switched_on, unusual


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
