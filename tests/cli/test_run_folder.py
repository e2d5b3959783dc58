"""What stands in the way of a run is one message before its first step; a full disk is one, and loses nothing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twofold.locks import exclusive
from twofold.runs.run_folder import LOCK

Run = Callable[..., Any]


@pytest.fixture
def recipe(tmp_path: Path, model_folder: Path) -> Path:
    pairs = [{"prompt": f"{n} + 1 = ", "chosen": str(n + 1), "rejected": str(n + 2)} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{path: {model_folder}}}\ndata: {{train: {tmp_path}/pairs.jsonl}}\nrun: {tmp_path}/run\n"
        "training: {steps: 3, batch_size: 4}\noptimizer: {learning_rate: 1e-3}\n",
        encoding="utf-8",
    )
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_one_message(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer.err
    told = answer.err[answer.err.index("error: ") :]
    assert "Traceback" not in answer.err
    assert len(told.splitlines()) <= 3
    for word in words:
        assert word in answer.err


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("/proc/no/run", "No such file"),
        ("/proc/self/run", "cannot be written"),
        ("{tmp}/" + "n" * 300, "File name too long"),
        ("{tmp}/pairs.jsonl", "File exists"),
        ("{tmp}/pairs.jsonl/run", "Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_is_one_message(
    twofold: Run, recipe: Path, tmp_path: Path, folder: str, word: str
) -> None:
    answer = twofold("train", recipe, f"run={folder.replace('{tmp}', str(tmp_path))}")
    assert_one_message(answer, "run", word, "name a folder that can be made and written to")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("model", "file"), ("checkpoints", "link"), ("checkpoints", "file"), ("metrics.jsonl", "folder")],
)
def test_what_stands_in_the_way_is_seen_before_training(
    twofold: Run, recipe: Path, tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / name
    if kind == "link":
        path.symlink_to(tmp_path)
    elif kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
    assert_one_message(twofold("train", recipe), f"run/{name}: is a {kind}", "move it away")
    assert [p.name for p in (tmp_path / "run").iterdir()] == [name]


def test_links_in_place_of_files_are_replaced_not_followed(twofold: Run, recipe: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "run").mkdir()
    names = ("metrics.jsonl", "timings.jsonl", "results.json", "resolved.yaml", "environment.json", "recipe.yaml")
    for name in names:
        (tmp_path / "run" / name).symlink_to(outside)
    assert twofold("train", recipe).code == 0
    assert outside.read_text() == "mine"
    assert not any((tmp_path / "run" / name).is_symlink() for name in names)


def test_a_mistake_in_the_data_leaves_no_folder(twofold: Run, recipe: Path, tmp_path: Path) -> None:
    assert_one_message(twofold("train", recipe, f"data.train={tmp_path}/none.jsonl"), "no such file")
    assert not (tmp_path / "run").exists()


def test_a_second_run_into_one_folder_is_refused_and_changes_nothing(twofold: Run, recipe: Path) -> None:
    run = recipe.parent / "run"
    assert twofold("train", recipe).code == 0
    with exclusive(run / LOCK, "busy"):
        before = everything(run)
        answer = twofold("train", recipe, "optimizer.learning_rate=2e-3", "--no-resume")
        assert_one_message(answer, "another process is writing this run", f"process {os.getpid()} on")
        assert everything(run) == before
    assert twofold("train", recipe, "--no-resume").code == 0


def test_a_killed_run_has_let_go_and_its_folder_was_there_at_once(twofold: Run, recipe: Path) -> None:
    """The folder, with its lock, comes before the model is loaded: `watch` finds a run that waits."""
    run = recipe.parent / "run"
    command = [sys.executable, "-m", "twofold", "train", str(recipe), "training.steps=1000"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (run / LOCK).exists():
        time.sleep(0.01)
    early = not (run / "metrics.jsonl").exists()
    assert twofold("watch", run, "--once").code == 0
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert early
    assert twofold("train", recipe).code == 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGUSR1, signal.SIGHUP))]
)
def test_a_signal_while_the_model_is_loaded_leaves_nothing(recipe: Path, number: int) -> None:
    """Long before the first step: there is nothing to save, so nothing to wait for."""
    command = [sys.executable, "-m", "twofold", "train", str(recipe), "training.steps=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (recipe.parent / "run" / LOCK).exists():
        time.sleep(0.001)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told
    assert "stopped between steps" in told
    assert not (recipe.parent / "run").exists()


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """A limit on how large a file may grow: the disk, as far as a program can see, takes no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_one_message_and_the_run_goes_on(
    twofold: Run, recipe: Path, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    """At whatever file it happens: the cache of the reference, a log, a checkpoint, the model."""
    runs = {size: tmp_path / str(size) for size in (300, 3_000, 30_000, 75_000)}
    for size, run in runs.items():
        small_files(size)
        assert_one_message(twofold("train", recipe, f"run={run}", "training.checkpoint_every=1"))
        small_files(resource.RLIM_INFINITY)
        assert twofold("train", recipe, f"run={run}", "training.checkpoint_every=1").code == 0
    assert twofold("train", recipe).code == 0
    whole = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for size, run in runs.items():
        assert (run / "metrics.jsonl").read_bytes() == whole, size


def test_files_that_no_run_wrote_are_never_replaced(twofold: Run, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("README.md", "results.json", "recipe.yaml"):
        (folder / name).write_text("mine", encoding="utf-8")
        before = everything(folder)
        assert_one_message(twofold("train", recipe), name, "no run wrote it", "name another run folder")
        assert {**everything(folder), ".lock": b""} == {**before, ".lock": b""}
        (folder / name).unlink()
    (folder / "model").mkdir()
    (folder / "recipe.yaml").write_bytes(recipe.read_bytes())  # people put it there
    assert twofold("train", recipe).code == 0
    assert twofold("train", recipe, "--no-resume").code == 0


@pytest.mark.parametrize(
    "setting", ["model.path={tmp}/run", "model.path={tmp}/run/model", "data.train={tmp}/run/README.md"]
)
def test_a_run_does_not_replace_what_it_reads(
    twofold: Run, recipe: Path, tmp_path: Path, model_folder: Path, setting: str
) -> None:
    shutil.copytree(model_folder, tmp_path / "run" / "model")
    (tmp_path / "run" / "README.md").write_text("{}", encoding="utf-8")
    (tmp_path / "run" / "resolved.yaml").write_text("{}", encoding="utf-8")
    before = everything(tmp_path)
    answer = twofold("train", recipe, setting.format(tmp=tmp_path), "--no-resume")
    assert_one_message(answer, "is an output of this run, which would replace it")
    assert everything(tmp_path) == before


def test_rows_that_are_put_aside_for_nobody_are_a_warning(twofold: Run, recipe: Path, tmp_path: Path) -> None:
    answer = twofold("train", recipe, "data.generator.fraction=0.25")
    assert answer.code == 0
    assert "data.generator: 3 rows of data.train are not trained on: algorithm offline has no generator" in answer.err
    assert "are not trained on" not in twofold("train", recipe, f"run={tmp_path}/whole").err
