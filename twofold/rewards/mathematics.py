"""Whether two mathematical answers are equal, by math-verify (an optional extra), in a process that may be killed.

Expressions exist that keep a computer algebra system busy for ever; a judged file must not wait for them.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from importlib.util import find_spec
from typing import IO, Any

from twofold.errors import RecipeError

START_SECONDS = 60.0


class MathVerifier:
    """Compares answers in one child process; a comparison that takes longer than `timeout` seconds counts as unequal.

    A context manager. `timeouts` counts the comparisons that were given up.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        if find_spec("math_verify") is None:
            remedy = "pip install 'twofold[math]', or judge with verifier or verifier:flexible"
            raise RecipeError("the package math-verify is not installed", where="verifier:math", remedy=remedy)
        self.timeout, self.timeouts = timeout, 0
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def __call__(self, prompt: str, completion: str, truth: str | None) -> float:
        """1 where `right`, else 0."""
        assert truth is not None, "checked before anything is rated"
        return float(self.right(completion, truth))

    def right(self, completion: str, answer: str) -> bool:
        """Whether the last answer in `completion` equals the ground truth's."""
        child = self._child or self._start()
        line = json.dumps({"completion": completion, "answer": answer}).encode() + b"\n"
        try:
            child.stdin.write(line)  # type: ignore[union-attr]  # a pipe, as opened
            child.stdin.flush()  # type: ignore[union-attr]
            said = self._read(child, self.timeout)
        except OSError:
            said = None
        if said is None:
            self.timeouts += 1
            self._kill()
        return said is True

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "twofold.rewards.mathematics"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if self._read(self._child, START_SECONDS) is not True:
            self._kill()
            raise RecipeError("math-verify does not start", where="verifier:math", remedy="install it again")
        return self._child

    def _read(self, child: subprocess.Popen[bytes], seconds: float) -> Any | None:
        """One line of the child's as JSON; None if it takes too long or dies. A line is far below a pipe's size."""
        out: IO[bytes] = child.stdout  # type: ignore[assignment]  # a pipe, as opened
        if not select.select([out], [], [], seconds)[0]:
            return None
        line = out.readline()
        return json.loads(line) if line else None

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def serve(questions: IO[str], replies: IO[str]) -> None:
    """The child's life: a line `true` once it is ready, then one for each line of {completion, answer}."""
    from math_verify import parse, verify

    def tell(said: bool) -> None:
        replies.write(json.dumps(said) + "\n")
        replies.flush()

    ours: Any = {"parsing_timeout": None}  # the parent keeps the time
    tell(True)
    for line in questions:
        asked = json.loads(line)
        try:
            gold, said = parse(asked["answer"].rpartition("####")[2], **ours), parse(asked["completion"], **ours)
            tell(bool(verify(gold, said, timeout_seconds=None)))
        except Exception:  # whatever a computer algebra system raises: no answer was found equal
            tell(False)


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
