"""A million characters of any shape are judged in time that grows as the text does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from twofold.errors import DataError
from twofold.rewards.mathematics import formula, spoken_formula
from twofold.rewards.verifier import flexible, judge, strict, truth

LENGTH = 1_000_000
UNITS = [
    "\n", " ", "9", "123,", "1.123.", "1 234 ", "1 ", "A:\n", "A: 1\n", "#", "#### ", "#### 1\n", r"\boxed{",
    r"\boxed{1}", "{", "$", "$5 ", "-", "*", "\\", r"\frac", ". ", "x=", "a ", "a", "~", "answer is ", " \n", "<",
    "1:", "1/", "x 5\n\n", r"\text{", "\uff11", "5 and ", "=<", "^{2}",
]  # fmt: skip
RULES: dict[str, Callable[[str], object]] = {
    "truth": truth,
    "strict": strict,
    "flexible": flexible,
    "judge": lambda text: judge(text, "#### 5"),
    "strict of a number": lambda text: strict(f"#### {text}"),
    "truth behind hashes": lambda text: truth(f"#### 1{text}"),
    "formula": formula,
    "spoken": spoken_formula,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_million_characters_take_less_than_some_seconds(rule: str) -> None:
    for unit in UNITS:
        text = unit * (LENGTH // len(unit)) + "x 5"
        began = time.process_time()
        with suppress(DataError):
            RULES[rule](text)
        assert time.process_time() - began < 3, repr(unit)


def test_errors_show_the_start_of_a_long_answer() -> None:
    for text in ("9 " * LENGTH, "word " * LENGTH, "\n" * LENGTH + "3/4" * LENGTH):
        with pytest.raises(DataError) as error:
            truth(text)
        assert len(str(error.value)) < 500
