"""A build that is killed with -9, at any moment and many times: what it had recorded is never asked for again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Body, Stub, said
from twofold.data.validate import check
from twofold.judges.registry import ledger_path

FAULTS = ("429", "500", "garbage", "half", "empty", "good", "good")
PROMPTS, SAMPLES = 6, 8
QUESTIONS = PROMPTS * (SAMPLES + 2)  # two different answers per prompt, judged in both orders


def say(body: Body) -> str:
    if body["model"] == "judge":
        return "Verdict: A" if 'part="answer A">\n#### 1\n' in said(body) else "Verdict: B"
    return f"#### {body['seed'] // 64 % 2}"


def asked(body: Body) -> str:
    """What a request asks: a sample is told by its seed, a judge's attempts are one question."""
    if body["model"] == "judge":
        return json.dumps({k: v for k, v in body.items() if k != "seed"}, sort_keys=True)
    return f"{said(body)} {body['seed'] // 64}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    """It fails first at five questions of seven."""
    attempts: Counter[str] = Counter()

    def behave(body: Body, nth: int) -> str:
        attempts[question := asked(body)] += 1
        return FAULTS[sum(question.encode()) % len(FAULTS)] if attempts[question] == 1 else "good"

    server = Stub(say, behave)
    server.pause = 0.02
    yield server
    server.close()


class Build:
    """One build in processes of its own."""

    def __init__(self, stub: Stub, folder: Path) -> None:
        self.stub, self.out = stub, folder / "out.jsonl"
        tasks = folder / "tasks.jsonl"
        tasks.write_text("".join(json.dumps({"prompt": f"{n}", "answer": "#### 1"}) + "\n" for n in range(PROMPTS)))
        self._command = [
            sys.executable, "-m", "twofold", "data", "build", str(tasks), "--model", f"{stub.url}#policy",
            "--judge", f"llm:{stub.url}#judge", "--samples", str(SAMPLES), "--out", str(self.out),
            "retry.pause=0.01", "retry.parallel=3",
        ]  # fmt: skip
        self._environment = {**os.environ, "PYTHONPATH": os.getcwd()}

    def killed_after(self, requests: int) -> bool:
        """Run until the stub got so many more requests, then kill; False where the build was done before."""
        child = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = len(self.stub.requests) + requests
        while len(self.stub.requests) < until and child.poll() is None:
            time.sleep(0.001)
        child.kill()
        killed = child.wait() == -signal.SIGKILL
        time.sleep(0.1)  # what the stub was still answering is answered
        return killed

    def finished(self) -> None:
        done = subprocess.run(self._command, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def recorded(self) -> list[str]:
        """What the ledger holds an answer to."""
        lines = ledger_path(self.out).read_bytes().split(b"\n")[:-1]
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [asked(row["request"]["body"]) for row in rows if "reply" in row]


@pytest.mark.slow
def test_after_a_kill_no_recorded_answer_is_asked_for_again(stub: Stub, tmp_path: Path) -> None:
    """Killed while answers are judged; the server misbehaves all along."""
    build = Build(stub, tmp_path)
    assert build.killed_after(90)
    assert not build.out.exists()
    recorded, before = build.recorded(), len(stub.requests)
    assert recorded
    build.finished()
    assert set(recorded).isdisjoint(asked(body) for body in stub.requests[before:])
    assert len(build.recorded()) == len(set(build.recorded())) == QUESTIONS
    assert len(check(str(build.out)).faults) == 0
    assert len(build.out.read_text().splitlines()) == PROMPTS


@pytest.mark.slow
def test_twenty_kills(stub: Stub, tmp_path: Path) -> None:
    """Builds killed again and again, until twenty kills are counted."""
    moments, kills = random.Random(0), 0
    for n in range(20):
        folder = tmp_path / str(n)
        folder.mkdir()
        build = Build(stub, folder)
        known: set[str] = set()
        first = len(stub.requests)
        while build.killed_after(moments.randrange(5, 40)):
            kills += 1
            assert known.isdisjoint(asked(body) for body in stub.requests[first:])
            known, first = set(build.recorded()), len(stub.requests)
        build.finished()
        assert len(build.recorded()) == len(set(build.recorded())) == QUESTIONS
        if kills >= 20:
            return
    raise AssertionError(f"only {kills} kills")
