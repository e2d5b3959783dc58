"""Programs of a model are refused, and where they are allowed, limited."""

from __future__ import annotations

import os
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


ALLOW = (
    "set {} to {{allow: true, sandbox: [bwrap, --unshare-all, …]}}: a command without network and without your files"
)


@pytest.mark.parametrize(
    ("given", "where", "message", "remedy"),
    [
        ({}, "reward", "this reward runs programs that the model writes", ALLOW),
        ({"sandbox": ("env",)}, "reward", "this reward runs programs that the model writes", ALLOW),
        ({"allow": True}, "execution.sandbox", "programs of a model are run in a sandbox only", ALLOW),
        ({"allow": True, "sandbox": ("no-such-sandbox",)}, "execution.sandbox", "there is no `no-such-sandbox`",
         "install it, or name another; the first word must be a program on the PATH"),
        ({"allow": True, "sandbox": ("env",)}, "execution.sandbox", "lets programs reach the network",
         "cut it off: bwrap --unshare-net, firejail --net=none, docker run --network none"),
        ({"allow": True, "sandbox": ("false",)}, "execution.sandbox", "runs no program: 1",
         "try it: false python3 -c pass"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["algorithm", "datagen"])
def test_nothing_is_run_unless_it_is_allowed_in_a_sandbox(
    given: dict[str, Any], where: str, message: str, remedy: str, place: str
) -> None:
    names = {} if place == "algorithm" else {"where": f"{place}.reward", "settings": f"{place}.execution"}
    with pytest.raises(RecipeError) as caught:
        Sandbox(Execution(**given), **names)
    assert (caught.value.what, caught.value.where) == (message, f"{place}.{where}")
    assert caught.value.remedy.startswith(remedy.format(f"{place}.execution"))


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_a_sandbox_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    box = script(tmp_path / "box", "\x00")
    with pytest.raises(RecipeError) as caught:
        Sandbox(Execution(allow=True, sandbox=(box, "-x")))
    assert caught.value.what == f"`{box}` cannot be started: Exec format error"
    assert (caught.value.where, caught.value.remedy) == (
        "algorithm.execution.sandbox", f"try it: {box} -x python3 -c pass",
    )  # fmt: skip


def test_settings_of_running_programs() -> None:
    assert Execution() == Execution(allow=False, sandbox=(), python="python3", seconds=5.0, memory=512, parallel=2)
    assert Execution(seconds=0.1, memory=1, parallel=1).memory == 1
    for wrong in ({"seconds": 0.0}, {"memory": 0}, {"seconds": -1.0}, {"memory": -1}):
        with pytest.raises(ValueError, match="seconds and memory must be > 0"):
            Execution(**wrong)
    with pytest.raises(ValueError, match="parallel must be ≥ 1"):
        Execution(parallel=0)


@isolated
@pytest.mark.parametrize(("seconds", "limit"), [(7.4, 7), (12.6, 13)])
def test_what_a_program_finds_around_it(monkeypatch: pytest.MonkeyPatch, seconds: float, limit: int) -> None:
    """Its limits, an empty folder, nothing of our environment, a group of processes of its own."""
    monkeypatch.setenv("TWOFOLD_TEST", "1")
    ran = sandbox(seconds=seconds, memory=333).run(
        "import os, resource as r, sys\n"
        "print([r.getrlimit(w)[0] for w in (r.RLIMIT_CPU, r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_CORE)])\n"
        "print(os.listdir(), 'TWOFOLD_TEST' in os.environ, os.getsid(0) == os.getpid())\n"
        "print(sys.argv, __name__, sys.flags.isolated, os.getcwd())\n"
        "print(os.environ['PATH'], file=sys.stderr)\n"
    )
    path, *told = ran.output.splitlines()  # what is not buffered comes first
    assert path.endswith(os.environ["PATH"])
    assert told[0] == str([limit, 333 * 2**20, 2**20, 0])
    assert told[1] == "[] False True"
    assert told[2].startswith("['-c'] __main__ 1 ")
    assert not Path(told[2].split()[-1]).exists()


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
    two = "```py\ndef double(x): return x\n```\nor rather\n```\ndef double(x): return 2 * x\n```"
    assert reward("?", two, "assert double(4) == 8") == 1.0
    assert reward("?", two, "assert double(4) == 8\nimport sys, atexit\natexit.register(print, 'late')") == 0.0
    assert reward("?", two, "import atexit, os\natexit.register(os._exit, 3)") == 0.0
