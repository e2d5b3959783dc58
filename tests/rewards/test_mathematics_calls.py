"""What math-verify is called with, how its process is started and ended, and answers that it reads in whole texts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.rewards import mathematics
from twofold.rewards.mathematics import REMEDY, MathVerifier, serve
from twofold.rewards.notation import Formula

math_verify = pytest.importorskip("math_verify")


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process keeps its memory."""
    monkeypatch.setattr("resource.setrlimit", lambda what, most: None)


def replies_to(*lines: Any) -> list[Any]:
    replies = io.StringIO()
    serve(io.StringIO("".join(json.dumps(line) + "\n" for line in lines)), replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()][1:]


def test_whole_texts_are_compared_by_their_last_answers() -> None:
    """Nothing to compare with is no equal answer, and not unreadable."""
    assert replies_to(
        ["so $x = 5$", "Thus $\\frac{10}{2}$.", "whole"], ["it is $5$", "it is $6$", "whole"],
        ["", "it is $6$", "whole"], ["$5$", "no number", "whole"], ["$5$", "$5$"],
    ) == [True, False, False, False, True]  # fmt: skip


def test_each_formula_is_read_by_itself_and_without_a_time_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    compared: list[Any] = []
    monkeypatch.setattr(math_verify, "parse", lambda text, **how: read.append((text, how)) or [text])
    monkeypatch.setattr(math_verify, "verify", lambda *pair, **how: compared.append((pair, how)) or True)
    assert replies_to([r"50\%", "5%"], ["gold", "given", "whole"]) == [True, True]
    (one, how), (two, same), *whole = read
    assert (one, two, how == same) == (r"$50\%$", r"$5\%$", True)
    assert [type(each).__name__ for each in how["extraction_config"]] == ["LatexExtractionConfig"]
    assert (how["fallback_mode"], how["parsing_timeout"]) == ("no_fallback", None)
    assert whole == [("gold", {"parsing_timeout": None}), ("given", {"parsing_timeout": None})]
    none = {"timeout_seconds": None}
    assert compared == [(([r"$50\%$"], [r"$5\%$"]), none), ((["gold"], ["given"]), none)]


class Child:
    """A process whose replies are these lines."""

    def __init__(self, *replies: Any) -> None:
        self.stdin, self.requests, self.killed = self, list[Any](), 0
        self.stdout: Any = io.BytesIO(b"".join(json.dumps(reply).encode() + b"\n" for reply in replies))

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        self.requests.append(json.loads(line))

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def kill(self) -> None:
        self.killed += 1

    def wait(self) -> None: ...


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that start a process and wait for it; the first of `children` is what is started."""
    calls: list[Any] = []
    monkeypatch.setattr(mathematics.select, "select", lambda out, *none: calls.append(none) or (out, [], []))
    return calls


def started_as(monkeypatch: pytest.MonkeyPatch, child: Child, calls: list[Any]) -> None:
    monkeypatch.setattr(mathematics.subprocess, "Popen", lambda command, **how: calls.append((command, how)) or child)


def test_a_process_is_started_once_with_its_pipes_and_waited_for(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(True, True, False, True)
    started_as(monkeypatch, child, started)
    with MathVerifier(timeout=1.5) as verifier:
        assert verifier.whole("it is 5", "#### 5") is True
        assert verifier.right("$x+1$", "$x+2$") is False
        assert verifier("p", "$x+1$", "$1+x$") == 1.0
        assert (verifier.timeouts, child.killed) == (0, 0)
    (command, how), *waits = started
    assert command == [sys.executable, "-m", "twofold.rewards.mathematics"]
    assert how == {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    assert waits == [([], [], seconds) for seconds in (60.0, 1.5, 1.5, 1.5)]
    assert child.requests == [["#### 5", "it is 5", "whole"], ["x+2", "x+1"], ["1+x", "x+1"]]
    assert child.killed == 1


def test_a_silent_process_is_given_up_and_another_one_started(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Child(True), Child(True, True)
    children = iter([first, second])
    monkeypatch.setattr(mathematics.subprocess, "Popen", lambda command, **how: next(children))
    verifier = MathVerifier()
    assert verifier.right("$x+1$", "$1+x$") is False
    assert (verifier.timeouts, first.killed, verifier._child) == (1, 1, None)
    assert verifier.right("$x+1$", "$1+x$") is True
    assert (verifier.timeouts, second.killed) == (1, 0)


@pytest.mark.parametrize(("reply", "right"), [(True, True), (1, False), ("yes", False), (False, False)])
def test_only_true_is_right(reply: Any, right: bool, started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    started_as(monkeypatch, Child(True, reply), started)
    assert MathVerifier().right("$x+1$", "$1+x$") is right


def test_a_truth_that_the_process_cannot_read_is_named_with_the_way_out(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started_as(monkeypatch, Child(True, "unreadable"), started)
    with pytest.raises(DataError) as error:
        MathVerifier().right("$x+1$", r"$\sin x$")
    assert str(error.value) == r"the answer '\\sin x' is no formula that math-verify reads" + f"\n  → {REMEDY}"


@pytest.mark.parametrize("replies", [(), (False,), ("no",)])
def test_a_process_that_is_not_ready_is_ended(
    replies: tuple[Any, ...], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(*replies)
    started_as(monkeypatch, child, started)
    with pytest.raises(RecipeError) as error:
        MathVerifier().right("$x+1$", "$1+x$")
    assert str(error.value) == "verifier:math: math-verify does not start\n  → install it again"
    assert child.killed == 1


@pytest.mark.parametrize(
    ("gold", "other", "equal"),
    [
        (("5", "words"), ("5", "number"), False), (("5", "number"), ("5", "words"), False),
        (("a", "words"), ("a", "words"), True), (("x", "formula"), ("x", "formula"), True),
        (("x", "formula"), ("y", "formula"), None), (("5", "number"), ("x", "formula"), None),
        (("5%", "percent"), ("x", "formula"), None), (("1:2", "ratio"), ("0.5", "formula"), False),
        (("1:2", "ratio"), ("1:2", "ratio"), True), (("5%", "percent"), ("5.0%", "percent"), True),
        (("5%", "percent"), ("0.05", "number"), True), (("0.05", "number"), ("5%", "percent"), True),
        (("500%", "percent"), ("5", "number"), True), (("5", "number"), ("0.05%", "percent"), False),
        (("5", "number"), ("5%", "percent"), True), (("5.0", "number"), ("5", "number"), True),
    ],
)  # fmt: skip
def test_what_needs_no_algebra(gold: tuple[str, str], other: tuple[str, str], equal: bool | None) -> None:
    assert mathematics._equal(Formula(*gold), Formula(*other)) is equal
