"""math-verify in a process of its own: right where it answers, and never waited for."""

from __future__ import annotations

import time

import pytest

from twofold.rewards.mathematics import MathVerifier

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
