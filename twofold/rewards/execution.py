"""Rewards that run programs which a model generated. A recipe must allow this and name an existing sandbox.

The sandbox is a command of the user (bubblewrap, firejail, docker …); nothing is run without it. This module sets the
limits inside it: CPU seconds, memory, output, an empty environment, and a process group that is killed after the time
limit.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass

from twofold.errors import RecipeError
from twofold.settings import require, settings

MOST_BYTES = 2**20  # of output
BLOCK = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)
REMEDY = (
    "set {} to {{allow: true, sandbox: [bwrap, --unshare-all, …]}}: a command without network and without your files, "
    "which the program is run by (docs/policy-gradient.md)"
)

# Runs inside the sandbox: limits first, then the program from standard input.
_LAUNCH = """
import resource, sys
seconds, memory, output = map(int, sys.argv[1:4])
for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, output),
                   (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(what, (most, most))
program = compile(sys.stdin.read(), "sample", "exec")
sys.argv[1:] = []
exec(program, {"__name__": "__main__"})
"""

_REACHES = """
import socket
socket.create_connection(("127.0.0.1", {port}), timeout=2).close()
print("{nonce}")
"""


@settings
class Execution:
    """How to run programs that a model generates."""

    allow: bool = False
    """Whether to run them at all."""
    sandbox: tuple[str, ...] = ()
    """The command that runs them without network and without access to your files. The interpreter's command is
    appended."""
    python: str = "python3"
    """The interpreter's command inside the sandbox."""
    seconds: float = 5.0
    """Time limit of one program. It is killed after that."""
    memory: int = 512
    """Address space of one program in MiB."""
    parallel: int = 2
    """Number of programs that run at once."""

    def __post_init__(self) -> None:
        require(self.seconds > 0 and self.memory > 0, "seconds and memory must be > 0")
        require(self.parallel > 0, "parallel must be ≥ 1")


@dataclass(frozen=True)
class ExecutionResult:
    """The result of a program: its exit status (None if it was killed at the time limit) and the start of its
    output."""

    status: int | None
    output: str


class Sandbox:
    """Runs programs by the user's command."""

    def __init__(
        self, execution: Execution, where: str = "algorithm.reward", settings: str = "algorithm.execution"
    ) -> None:
        """Raises RecipeError, which names the setting that needs it (`where`) and the one that allows it (`settings`),
        unless running is allowed, by a command that exists and cuts the network off."""
        self.execution, self.where = execution, f"{settings}.sandbox"
        remedy = REMEDY.format(settings)
        if not execution.allow:
            raise RecipeError("this reward runs programs that the model writes", where=where, remedy=remedy)
        if not execution.sandbox:
            fault = "programs of a model are run in a sandbox only"
            raise RecipeError(fault, where=f"{settings}.sandbox", remedy=remedy)
        if shutil.which(execution.sandbox[0]) is None:
            remedy = "install it, or name another; the first word must be a program on the PATH"
            raise RecipeError(f"there is no `{execution.sandbox[0]}`", where=self.where, remedy=remedy)
        self._refuse_open()

    def run(self, program: str) -> ExecutionResult:
        """Run a program of Python; its standard error counts as output."""
        limits = (max(1, round(self.execution.seconds)), self.execution.memory * 2**20, MOST_BYTES)
        interpreter = [self.execution.python, "-I", "-c", _LAUNCH, *map(str, limits)]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory() as folder:
            try:
                process = subprocess.Popen(
                    [*self.execution.sandbox, *interpreter],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                )
            except OSError as error:
                what = f"`{self.execution.sandbox[0]}` cannot be started: {error.strerror}"
                raise RecipeError(what, where=self.where, remedy=f"try it: {self._by_hand()}") from None
            status = self._ended(process, program)
            output.seek(0)
            return ExecutionResult(status, output.read(MOST_BYTES).decode("utf-8", "replace"))

    def _ended(self, process: subprocess.Popen[bytes], program: str) -> int | None:
        try:
            process.communicate(program.encode("utf-8", "replace"), timeout=self.execution.seconds)
            return process.returncode
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Its child processes are killed too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _by_hand(self) -> str:
        return f"{' '.join(self.execution.sandbox)} python3 -c pass"

    def _refuse_open(self) -> None:
        """Raise RecipeError if no program runs, or if one can connect to a port of this machine."""
        nonce = secrets.token_hex(8)
        said = self.run(f"print('{nonce}')")
        if nonce not in said.output:
            what = f"runs no program: {said.output.strip().splitlines()[-1] if said.output.strip() else said.status}"
            raise RecipeError(what, where=self.where, remedy=f"try it: {self._by_hand()}")
        with socket.create_server(("127.0.0.1", 0)) as server:
            reached = self.run(_REACHES.format(port=server.getsockname()[1], nonce=nonce))
        if nonce in reached.output:
            remedy = "cut it off: bwrap --unshare-net, firejail --net=none, docker run --network none"
            raise RecipeError("lets programs reach the network", where=self.where, remedy=remedy)


@dataclass(frozen=True)
class CodeReward:
    """1 for a completion whose program passes the reference answer's tests, which run after it; else 0.

    The program is the last code block of the completion, or all of it. A program that exits early passes nothing. A
    program that searches its own interpreter for the success marker can forge it.
    """

    sandbox: Sandbox

    def __call__(self, prompt: str, completion: str, truth: str | None) -> float:
        blocks, sign = BLOCK.findall(completion), secrets.token_hex(16)
        ran = self.sandbox.run(f"{blocks[-1] if blocks else completion}\n{truth}\nprint('\\n{sign}')\n")
        return float(ran.status == 0 and ran.output.rstrip().endswith(sign))
