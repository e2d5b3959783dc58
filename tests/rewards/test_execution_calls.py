"""How a program is started, fed and ended, and what a reward makes of it; nothing is run here but a script of ours."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import RecipeError
from twofold.rewards import execution
from twofold.rewards.execution import CodeReward, Execution, ExecutionResult, Sandbox


class Process:
    """Writes its output at once, and ends unless it is slow."""

    def __init__(self, calls: list[Any], output: bytes, slow: bool) -> None:
        self.calls, self.output, self.slow, self.pid, self.returncode = calls, output, slow, 4321, 3

    def communicate(self, program: bytes, timeout: float) -> None:
        self.calls.append(("communicate", program, timeout))
        if self.slow:
            raise subprocess.TimeoutExpired("x", timeout)

    def wait(self) -> None:
        self.calls.append("wait")


def box(
    monkeypatch: pytest.MonkeyPatch, output: bytes = b"", slow: bool = False, gone: bool = False, **settings: Any
) -> tuple[Sandbox, list[Any]]:
    """A sandbox that starts nothing, and its calls."""
    calls: list[Any] = []

    def popen(command: list[str], **how: Any) -> Process:
        calls.append((command, how))
        how["stdout"].write(output)
        return Process(calls, output, slow)

    def killpg(group: int, number: int) -> None:
        calls.append(("kill", group, number))
        if gone:
            raise ProcessLookupError

    monkeypatch.setattr(execution.subprocess, "Popen", popen)
    monkeypatch.setattr(execution.os, "killpg", killpg)
    monkeypatch.setattr(execution.shutil, "which", lambda name: name)
    monkeypatch.setattr(Sandbox, "_refuse_open", lambda self: None)
    return Sandbox(Execution(allow=True, sandbox=("jail", "-x"), **settings)), calls


@pytest.mark.parametrize(
    ("settings", "python", "limits"),
    [
        ({}, "python3", ["5", str(512 * 2**20), str(2**20)]),
        ({"seconds": 0.2, "memory": 1, "python": "py"}, "py", ["1", str(2**20), str(2**20)]),
        ({"seconds": 1.6, "memory": 3}, "python3", ["2", str(3 * 2**20), str(2**20)]),
    ],
)
def test_the_command_has_the_sandbox_then_the_interpreter_then_the_limits(
    settings: dict[str, Any], python: str, limits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit of processor time is of whole seconds, and of one at least; the other one is as it was set."""
    made, calls = box(monkeypatch, b"out", **settings)
    monkeypatch.setenv("PATH", "/here")
    assert made.run("print(1) \ud800") == ExecutionResult(3, "out")
    (command, how), fed, *ended = calls
    assert command[:5] == ["jail", "-x", python, "-I", "-c"]
    assert command[6:] == limits
    assert (how["stdin"], how["stderr"], how["start_new_session"]) == (subprocess.PIPE, subprocess.STDOUT, True)
    assert how["env"] == {"PATH": "/here"}
    assert fed == ("communicate", b"print(1) ?", settings.get("seconds", 5.0))
    assert ended == [("kill", 4321, signal.SIGKILL), "wait"]
    assert not Path(how["cwd"]).exists()


@pytest.mark.parametrize("gone", [False, True])
def test_a_program_that_takes_too_long_is_killed_and_has_no_status(gone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = box(monkeypatch, b"begun \xff", slow=True, gone=gone)
    assert made.run("loop") == ExecutionResult(None, "begun \ufffd")
    assert calls[-2:] == [("kill", 4321, signal.SIGKILL), "wait"]


def test_the_start_of_a_long_output_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = box(monkeypatch, b"a" * 2**20 + b"b")
    assert made.run("x").output == "a" * 2**20


def test_without_a_path_the_systems_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = box(monkeypatch)
    monkeypatch.delenv("PATH")
    made.run("x")
    assert calls[0][1]["env"] == {"PATH": execution.os.defpath}


def test_a_sandbox_that_cannot_be_started_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = box(monkeypatch)

    def popen(command: list[str], **how: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(execution.subprocess, "Popen", popen)
    with pytest.raises(RecipeError) as error:
        made.run("x")
    assert str(error.value) == (
        "algorithm.execution.sandbox: `jail` cannot be started: Permission denied\n  → try it: jail -x python3 -c pass"
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [(("one", "two", "three"), "three"), (("", ""), "0"), (("only",), "only"), (("a", "b", " "), "b")],
)
def test_a_sandbox_that_runs_nothing_is_shown_by_the_end_of_its_output(
    lines: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    script = tmp_path / "jail"
    script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    script.chmod(0o755)
    with pytest.raises(RecipeError) as error:
        Sandbox(Execution(allow=True, sandbox=(str(script),)), settings="datagen.execution")
    assert str(error.value) == (
        f"datagen.execution.sandbox: runs no program: {words}\n  → try it: {script} python3 -c pass"
    )


class Scripted:
    """A sandbox whose programs have this status and output; `{sign}` is what a whole program ends with."""

    def __init__(self, status: int | None = 0, output: str = "{sign}") -> None:
        self.status, self.output, self.programs = status, output, list[str]()

    def run(self, program: str) -> ExecutionResult:
        self.programs.append(program)
        sign = program.rpartition("\\n")[2].partition("'")[0]
        assert len(bytes.fromhex(sign)) == 16
        return ExecutionResult(self.status, self.output.format(sign=sign))


@pytest.mark.parametrize(
    ("status", "output", "reward"),
    [(0, "{sign}", 1.0), (0, "text\n{sign}\n \n", 1.0), (1, "{sign}", 0.0), (None, "{sign}", 0.0), (0, "", 0.0),
     (0, "{sign} more", 0.0), (-9, "{sign}", 0.0)],
)  # fmt: skip
def test_a_program_passes_that_ends_with_its_sign(status: int | None, output: str, reward: float) -> None:
    scripted: Any = Scripted(status, output)
    assert CodeReward(scripted)("prompt", "x = 1", "assert x") == reward
    (program,) = scripted.programs
    assert program.startswith("x = 1\nassert x\nprint('\\n")
    assert program.endswith("')\n")


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\na\n```\n```py\nb\n```\n```\nc\n```", "c\n"), ("```python\na\n```\ntext", "a\n"),
        ("```js\na\n```", "```js\na\n```"), ("no block", "no block"), ("```\na\n", "```\na\n"),
    ],
)  # fmt: skip
def test_the_program_is_the_last_block_or_all_of_it(completion: str, program: str) -> None:
    scripted: Any = Scripted()
    CodeReward(scripted)("p", completion, "test")
    assert scripted.programs[0].startswith(f"{program}\ntest\n")


def test_signs_are_not_to_be_guessed() -> None:
    scripted: Any = Scripted()
    reward = CodeReward(scripted)
    for _ in range(3):
        reward("p", "x", "y")
    assert len(set(scripted.programs)) == 3
