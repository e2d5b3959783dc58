"""Whether two answers are equal: without algebra where they are plain, and what the child says of them where not."""

from __future__ import annotations

import io
import json

import pytest

from twofold.errors import DataError, RecipeError
from twofold.rewards import mathematics
from twofold.rewards.mathematics import REMEDY, UNREADABLE, MathVerifier, formula, serve, solvable, spoken_formula
from twofold.rewards.notation import Formula


@pytest.mark.parametrize(
    ("truth", "made"),
    [
        ("#### 18", Formula("18", "number")),
        (r"so \boxed{\frac{1}{2}}", Formula(r"\frac{1}{2}", "formula")),
        (r"#### \boxed{5}", Formula("5", "number")),
        ("#### 18\n#### 18.", Formula("18", "number")),
        ("x = 5", Formula("x = 5", "formula")),
        ("the total is = 5 eggs", Formula("5", "number")),
        ("half of them = 5", Formula("5", "number")),
        ("1 2 3 4 5 6 7 8 9 10 11 so it is 5", Formula("5", "number")),
        ("one two three four five six seven eight nine ten eleven x = 7", Formula("7", "number")),
        ("one two three four five six seven eight nine ten eleven twelve 3/4", Formula("3/4", "formula")),
        ("12:30", Formula("12:30:00", "time")),
        ("3-4i", Formula("3-4i", "formula")),
    ],
)  # fmt: skip
def test_a_ground_truth_is_one_formula(truth: str, made: Formula) -> None:
    assert formula(truth) == made


@pytest.mark.parametrize(
    ("truth", "what"),
    [
        ("#### 18\n#### 19", "has several final answers"),
        ("paris", "is no formula that can be read whole"),
        ("3-4", "is no formula that can be read whole"),
        ("3.5 - 4%", "is no formula that can be read whole"),
        ("many words of which none is any kind of number, not one", "is no formula that can be read whole"),
        ("one two three four five six seven eight nine ten eleven 3/4", "is no formula that can be read whole"),
    ],
)  # fmt: skip
def test_any_other_ground_truth_is_refused(truth: str, what: str) -> None:
    with pytest.raises(DataError) as error:
        formula(truth)
    shown = " ".join(truth.split())
    cut = shown if len(shown) <= 60 else shown[:59] + "…"
    assert (error.value.what, error.value.remedy) == (f"the answer {cut!r} {what}", REMEDY)
    with pytest.raises(DataError) as placed:
        solvable(truth, "f:3")
    assert (placed.value.what, placed.value.where) == (error.value.what, "f:3")
    assert placed.value.remedy == REMEDY
    solvable("#### 18", "f:3")


def test_the_answer_of_a_completion_is_a_formula_or_none() -> None:
    assert spoken_formula(r"So \boxed{5}") == Formula("5", "number")
    assert spoken_formula(r"#### \boxed{5} eggs") == Formula("5", "number")
    assert spoken_formula("nothing") is None
    assert spoken_formula("The answer is paris") is None


@pytest.mark.parametrize(
    ("truth", "completion", "right"),
    [
        ("18", "It is 18.", True), ("18", "It is 18.0", True), ("18", "It is 18.01", False),
        ("-18", "It is 18", False), ("50%", "It is 50%", True), ("50%", "It is 0.5", True), ("0.5", "It is 50%", True),
        ("50%", "It is 50", True), ("50%", "It is 51%", False), ("50", "It is 50%", True), ("50%", "It is 5", False),
        ("50%", "It is 50.0%", True), ("50%", "It is 5000", False), ("0.05", "It is 50%", False),
        ("12:30", "It is 12:30", True), ("12:30", "#### 12:30:00", True), ("12:30", "It is 12:31", False),
        ("12:30", "It is 12.5", False), ("6:4", "#### 3:2", True), ("3:2", "#### 1.5", False),
        (r"\boxed{\text{Paris}}", r"\boxed{\text{ paris }}", True), (r"\boxed{\text{A}}", r"\boxed{\text{B}}", False),
        (r"\boxed{\text{A}}", r"\boxed{5}", False), ("x^2", "It is $x^2$", True), ("18", "no number", False),
        ("18", "", False),
    ],
)  # fmt: skip
def test_plain_answers_need_no_algebra(truth: str, completion: str, right: bool) -> None:
    pytest.importorskip("math_verify")
    with MathVerifier() as verifier:
        assert verifier.right(completion, truth) is right
        assert verifier("?", completion, truth) == float(right)
        assert (verifier._child, verifier.timeouts, verifier.timeout) == (None, 0, 5.0)


def test_a_completion_without_a_ground_truth_is_a_mistake_of_the_callers() -> None:
    pytest.importorskip("math_verify")
    verifier = MathVerifier(timeout=1.5)
    assert verifier.timeout == 1.5
    with pytest.raises(AssertionError, match="checked before anything is rated"):
        verifier("?", "5", None)


def asked(*pairs: object) -> list[object]:
    """What the child replies to lines, after its sign that it is ready."""
    replies = io.StringIO()
    serve(io.StringIO("".join(json.dumps(pair) + "\n" for pair in pairs)), replies)
    ready, *said = map(json.loads, replies.getvalue().splitlines())
    assert ready is True
    return said


def test_the_child_compares_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose memory shall not be limited."""
    pytest.importorskip("math_verify")
    import resource

    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, most: limits.append((what, most)))
    assert asked(
        [r"\frac{2}{4}", "0.5"], ["x+1", "1+x"], ["x+1", "x+2"], [r"50\%", "50%"], [r"50\%", r"\frac{1}{2}"], ["", "5"],
        ["5", ""], "broken", [1, 2], ["0.00000001", "0.00000002"], ["0.000001", "0.000001"],
        ["0.00012345678", "0.0001234567"],
        [r"10^{-9}", r"10^{-9}"], [r"10^{-9}", r"2\times 10^{-9}"], ["(1,2)", "(1,2)"],
    ) == [
        True, True, False, True, True, UNREADABLE, False, False, False, False, True, True, True, False, True,
    ]  # fmt: skip
    assert limits == [(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("1e-9", "2e-9", False), ("1e-9", "1.0000001e-9", True), ("1e-9", "1.00001e-9", False), ("2e-9", "1e-9", False),
        ("0.0001", "0.0001000001", True), ("0.0001", "0.00009", True), ("0.00009", "0.00008", False), ("0", "0", True),
        ("-5", "5", True), ("-1e-9", "2e-9", False),
    ],
)  # fmt: skip
def test_tiny_numbers_are_compared_by_their_own_size(a: str, b: str, same: bool) -> None:
    sympy = pytest.importorskip("sympy")
    assert mathematics._same_size(sympy.Float(a), sympy.Float(b)) is same
    assert mathematics._same_size("no number", sympy.Float(b)) is True


def test_the_package_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as error:
        MathVerifier()
    assert (error.value.what, error.value.where) == ("the package math-verify is not installed", "verifier:math")
    assert error.value.remedy == "pip install 'twofold[math]', or judge with verifier or verifier:flexible"


def test_a_child_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    monkeypatch.setattr(mathematics.sys, "executable", "/bin/false")
    with MathVerifier() as verifier:
        with pytest.raises(RecipeError) as error:
            verifier.right("$x+1$", "$x+2$")
        assert (error.value.what, error.value.where) == ("math-verify does not start", "verifier:math")
        assert error.value.remedy == "install it again"
        assert verifier._child is None


def test_a_child_that_dies_is_replaced_and_an_unreadable_truth_is_told() -> None:
    pytest.importorskip("math_verify")
    with MathVerifier(timeout=30.0) as verifier:
        assert verifier.right("$1+x$", "$x+1$")
        child = verifier._child
        assert child is not None
        child.kill()
        child.wait()
        assert not verifier.right("$1+x$", "$x+1$")
        assert (verifier.timeouts, verifier._child) == (1, None)
        assert verifier.right("$1+x$", "$x+1$")
        assert verifier._child is not child
        with pytest.raises(DataError, match=r"the answer '.*' is no formula that math-verify reads") as error:
            verifier._by_algebra("", "x")
        assert error.value.remedy == REMEDY
        last = verifier._child
        assert last is not None
    assert verifier._child is None
    assert (last.poll() is not None, last.stdin is not None and last.stdin.closed) == (True, True)
