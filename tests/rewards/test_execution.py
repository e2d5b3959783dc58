"""Programs of a model are refused, and where they are allowed, limited."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import RecipeError
from twofold.rewards.execution import CodeReward, Execution, Sandbox


def cut_off() -> tuple[str, ...] | None:
    """A harmless command that leaves a program without network, where this machine has one."""
    for command in (("unshare", "-n"), ("unshare", "-r", "-n")):
        if shutil.which(command[0]) and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return None


SANDBOX = cut_off()
isolated = pytest.mark.skipif(SANDBOX is None, reason="this machine lets nobody make a network namespace")


def sandbox(**changes: Any) -> Sandbox:
    return Sandbox(Execution(allow=True, sandbox=SANDBOX or (), **{"seconds": 10.0, **changes}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "runs programs that the model writes"),
        ({"sandbox": ("env",)}, "runs programs that the model writes"),
        ({"allow": True}, "in a sandbox only"),
        ({"allow": True, "sandbox": ("no-such-sandbox",)}, "there is no `no-such-sandbox`"),
        ({"allow": True, "sandbox": ("env",)}, "lets programs reach the network"),
        ({"allow": True, "sandbox": ("false",)}, "runs no program"),
    ],
)
def test_nothing_is_run_unless_it_is_allowed_in_a_sandbox(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Sandbox(Execution(**given))
    assert caught.value.remedy


@isolated
def test_a_program_is_run_with_its_output_and_status() -> None:
    box = sandbox()
    ran = box.run("print(6 * 7)")
    assert (ran.status, ran.output) == (0, "42\n")
    assert box.run("raise SystemExit(3)").status == 3
    assert "ZeroDivisionError" in box.run("1 / 0").output


@isolated
def test_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_API_KEY", "secret")
    box = sandbox(seconds=3.0, memory=200)
    assert "secret" not in box.run("import os; print(os.environ)").output
    assert "MemoryError" in box.run("x = bytearray(400 * 2**20)").output
    assert len(box.run("while True: print('x' * 1000)").output) <= 2**20
    began = time.monotonic()
    assert box.run("import time; time.sleep(60)").status is None
    assert time.monotonic() - began < 20


@isolated
def test_what_a_program_starts_goes_with_it(tmp_path: Path) -> None:
    child = f"import time; time.sleep(4); open({str(tmp_path / 'late')!r}, 'w').close()"
    sandbox(seconds=2.0).run(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])")
    time.sleep(5)
    assert not (tmp_path / "late").exists()


@isolated
def test_a_draft_is_rated_by_its_tests() -> None:
    drafts = [
        "def double(x): return 2 * x",
        "So:\n```python\ndef double(x):\n    return x + x\n```\nThat is it.",
        "def double(x): return x",
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "not Python",
    ]
    reward = CodeReward(sandbox())
    assert [reward("?", draft, "assert double(4) == 8") for draft in drafts] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
