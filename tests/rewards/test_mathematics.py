"""math-verify in a process of its own: right where it answers, and never waited for."""

from __future__ import annotations

import time

import pytest

from twofold.errors import DataError
from twofold.rewards.mathematics import MathVerifier, solvable

pytest.importorskip("math_verify")


def test_equal_values_are_equal_and_endless_ones_are_given_up() -> None:
    with MathVerifier(timeout=20.0) as verifier:
        assert verifier.right("so it is $\\frac{2}{4}$", "$0.5$")
        assert verifier.right("The answer is \\boxed{12}.", "He has 3*4=12.\n#### 12")
        assert not verifier.right("It is 13.", "#### 12")
        verifier.timeout = 1.0
        began = time.monotonic()
        assert not verifier.right("$9^{9^{9^{9}}}$", "$9^{9^{9^{9^9}}}$")
        assert time.monotonic() - began < 5
        assert verifier.timeouts == 1
        verifier.timeout = 20.0
        assert verifier.right("$x^2+2x+1$", "$(x+1)^2$")


def test_what_no_answer_looks_like_reaches_no_algebra() -> None:
    with MathVerifier() as verifier:
        for completion in (
            "\\boxed{" + "(" * 500 + "1" + ")" * 500 + "}",
            "\\boxed{" + "{" * 30 + "1+x" + "}" * 30 + "}",
            "$" + "\\sqrt{" * 20 + "x" + "}" * 20 + "$",
            "$" + "+".join(["x"] * 400) + "$",
            "[" + ",".join(map(str, range(300))) + "]",
            "$}{$",
            "$x" + "}" * 9 + "$",
            "$\\input{/etc/passwd}$",
        ):
            assert not verifier.right(completion, "$x+1$"), completion[:30]
        assert verifier._child is None


def test_endless_sums_cost_their_time_and_no_more() -> None:
    with MathVerifier(timeout=1.0) as verifier:
        verifier.right("$x+2$", "$x+1$")
        began = time.monotonic()
        for formula in ("5^{5^{5^{5^5}}}", "(a+b+c+d+e)^{900}", "\\frac{5^{5^{5^{5^5}}}-5}{16}"):
            assert not verifier.right(f"${formula}$", f"${formula} + x$")
        assert time.monotonic() - began < 40  # three times a second, and three new processes on a loaded machine


@pytest.mark.parametrize("answer", ["paris", "2 hours 30 minutes", "five and a half", "#### 1\n#### 2", ""])
def test_a_truth_that_is_no_formula_is_refused(answer: str) -> None:
    with pytest.raises(DataError, match=r"^f:1: the answer .*(no formula|several final answers)") as error:
        solvable(answer, "f:1")
    assert "--metrics text" in error.value.remedy
