"""A real pretrained model behind a real server, `transformers serve`: drafts of training, with weights that are pushed,
and answers for data building."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.real_model import read_lines, verb, write_lines
from twofold.records import Source, Task
from twofold.runs.train import train

pytestmark = pytest.mark.real
PYTHON = "TWOFOLD_SERVER_PYTHON"
START = "from transformers.cli.transformers import main; main()"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the environment that TWOFOLD_SERVER_PYTHON names, or of this one."""
    python = os.environ.get(PYTHON, sys.executable)
    needs = "import fastapi, openai, uvicorn"
    if subprocess.run([python, "-c", needs], capture_output=True, check=False).returncode:
        pytest.skip(
            f"no `transformers serve`: pip install 'transformers[serving]', or let {PYTHON} name a python with it"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as out:
        server = subprocess.Popen([python, "-c", START, "serve", *where], stdout=out, stderr=out)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(health: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(health, timeout=5):  # of this machine
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()}")


def digits(prompt: str, completion: str, truth: str | None) -> float:
    return float(sum(map(str.isdigit, completion))) - 0.01 * len(completion)


KINDS: dict[str, dict[str, Any]] = {
    "policy_gradient": {
        "objective": {"kind": "grpo", "beta": 0.0},
        "algorithm": {"kind": "policy_gradient", "samples": 2, "reward": digits},
    },
    "online": {"algorithm": {"kind": "online", "samples": 2, "judge": digits}},
}


@pytest.mark.parametrize(("kind", "ahead"), [("policy_gradient", 1), ("online", 0)])
def test_training_on_its_drafts(kind: str, ahead: int, real_model: Path, url: str, tmp_path: Path) -> None:
    rows = [Task(f"Name a number between {a} and {a + 9}.", str(a), Source("made", a)) for a in range(4)]
    server = {"url": url, "engine": "transformers", "push": "folder", "ahead": ahead, "importance_cap": "none"}
    result = train(
        str(real_model),
        rows,
        run=str(tmp_path / "run"),
        model={"precision": "float32"},
        training={"steps": 3, "batch_size": 2, "checkpoint_every": 3},
        optimizer={"kind": "sgd", "learning_rate": 1e-3},
        sampling={"max_new_tokens": 12, "server": server},
        **KINDS[kind],
    )
    assert result.outcome.step == 3
    lines = [row for row in read_lines(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["served/behind"] for row in lines] == [0.0, float(ahead), float(ahead)]
    assert all(row["drafts"] == 4 for row in lines)
    assert len(list((tmp_path / "run" / "served").iterdir())) == 1


def test_building_data_with_its_answers_and_scores(real_model: Path, url: str, tmp_path: Path) -> None:
    """Greedy, as this model's generation_config has it; what its scores are is its own affair."""
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": "What is 3 + 4?"}])
    model, out = f"{url}/v1#{real_model}", tmp_path / "labels.jsonl"
    how = ("--as", "labels", "--threshold", "5", "-n", "1", "--max-new-tokens", "12", "--keep-truncated")
    verb("data", "build", prompts, "--model", model, "--judge", f"llm-score:{model}", *how, "--out", out)
    ledger = read_lines(tmp_path / "labels.ledger.jsonl")
    assert {row["request"]["body"]["model"] for row in ledger} == {str(real_model)}
    assert len(ledger) >= 2
