"""`data build` and `data label` as a person meets them: a local model, mistakes, a page that ends on a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import read
from twofold.records import Labelled, Pair

Run = Callable[..., Any]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return lines(tmp_path / "tasks.jsonl", *({"question": f"{n} + 1 = ", "answer": f"#### {n + 1}"} for n in range(4)))


def test_own_samples_of_a_local_model_are_drawn_once(
    twofold: Run, model_folder: Path, tasks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pairs.jsonl"
    command = ("data", "build", tasks, "--model", model_folder, "--judge", "truth", "--samples", 2, "--keep-truncated",
               "--all-pairs", "--out", out, "sampling.max_new_tokens=6")  # fmt: skip
    answer = twofold(*command)
    assert answer.code == 0, answer.err
    assert f"{out}: 8 pairs from 4 of 4 prompts" in answer.out
    records = read(str(out)).records
    assert [r.chosen for r in records if isinstance(r, Pair)] == [f"#### {n + 1}" for n in range(4) for _ in range(2)]
    ledger, first = tmp_path / "pairs.ledger.jsonl", out.read_bytes()
    kept = ledger.read_bytes()
    # What a killed run leaves: the first answers, the last of them half written, and no rows yet.
    ledger.write_bytes(kept[: len(kept) // 2])
    out.unlink()
    assert twofold(*command).code == 0
    assert out.read_bytes() == first
    assert sorted(ledger.read_bytes().splitlines()) == sorted(kept.splitlines())
    told = twofold(*command, "--dry-run").out
    assert "answers drawn here: 8" in told
    assert "8 answers and verdicts" in told
    assert twofold(*command, "--as", "labels").code == 0
    assert sum(r.desirable for r in read(str(out)).records if isinstance(r, Labelled)) == 4


def test_shards_are_built_and_merged(
    twofold: Run, model_folder: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by a command of its own, the last as a task of a SLURM array; the rows are those of one command."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "pairs.jsonl"
    command = ("data", "build", tasks, "--model", model_folder, "--judge", "truth", "--samples", 2, "--keep-truncated",
               "sampling.max_new_tokens=6")  # fmt: skip
    one = twofold(*command, "--out", whole)
    assert one.code == 0
    assert twofold(*command, "--out", out, "--shard", "0/2").code == 0
    early = twofold("data", "merge", out)
    assert early.code == 2
    assert "lacks 1 of 2 shards: 1" in early.err
    for name, value in (("ID", "2"), ("MIN", "1"), ("COUNT", "2")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert twofold(*command, "--out", out, "--shard", "auto").code == 0
    merged = twofold("data", "merge", out)
    assert merged.out == f"{out}: 4 prompts in 2 shards\n" + one.out.replace("whole", "pairs")
    assert out.read_bytes() == whole.read_bytes()
    wrong = twofold(*command, "--out", out, "--shard", "2/2")
    assert (wrong.code, "is none of 2 shards" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--judge", "verifer"), "no judge is called 'verifer'"),
        (("--judge", "llm:localhost:8000"), "names no server and model"),
        (("--as", "piars"), "pairs"),
        (("samplig.temperature=1",), "sampling"),
        (("--samples", "0"), "--samples: samples: must be from 1 to 1000000"),
    ],
)
def test_a_mistake_is_one_message(twofold: Run, tasks: Path, tmp_path: Path, options: Any, told: str) -> None:
    answer = twofold(
        "data", "build", tasks, "--model", "http://127.0.0.1:9/v1#m", "--out", tmp_path / "o.jsonl", *options
    )
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) <= 11


def test_a_language_model_is_no_reward_model(twofold: Run, model_folder: Path, tasks: Path, tmp_path: Path) -> None:
    options = ("--model", model_folder, "--judge", f"reward:{model_folder}", "--out", tmp_path / "o.jsonl")
    answer = twofold("data", "build", tasks, *options)
    assert answer.code == 2
    assert "this model has no trained score head" in answer.err


def test_labelling_ends_on_a_signal_with_the_pairs_written(tasks: Path, tmp_path: Path) -> None:
    file = lines(
        tmp_path / "answers.jsonl", {"prompt": "p", "answers": ["a", "b"]}, {"prompt": "q", "answers": ["c", "d"]}
    )
    out = tmp_path / "pairs.jsonl"
    command = [sys.executable, "-m", "twofold", "data", "label", str(file), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    address = next(line for line in child.stderr if line.startswith("http"))
    base, _, token = address.strip().partition("/#")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", base)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    state = json.load(urllib.request.urlopen(urllib.request.Request(f"{base}/state", headers=headers), timeout=10))
    body = json.dumps({"key": state["row"]["key"], "choice": "left", "seconds": 1}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{base}/verdict", body, headers), timeout=10).close()
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    assert f"{out}: 1 pair; 1 of 2 judged" in said
    (pair,) = read(str(out)).records
    assert isinstance(pair, Pair)
    assert pair.chosen == "".join(text for text, _ in state["row"]["left"])


def test_the_pairs_of_the_verdicts_so_far_without_a_page(twofold: Run, tmp_path: Path) -> None:
    file = lines(tmp_path / "answers.jsonl", {"prompt": "p", "answers": ["a", "b"]})
    answer = twofold("data", "label", file, "--out", tmp_path / "pairs.jsonl", "--no-serve")
    assert (answer.code, answer.out.strip()) == (0, f"{tmp_path / 'pairs.jsonl'}: 0 pairs; 0 of 1 judged")
