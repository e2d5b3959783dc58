"""A run stopped anywhere and resumed ends with the same bytes as one that was not (design 8)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from support.resumable_runs import KINDS, STEPS, assembly, left_behind, loop, stop_after
from twofold.errors import CheckpointError, NonFiniteError
from twofold.runs.build import build_trainer
from twofold.training.checkpoint import Checkpoint, save
from twofold.training.identity import Identity
from twofold.training.trainer import TrainOutcome


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(kind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("whole") / "run"
    loop(run, kind).train()
    return left_behind(run)


def test_two_runs_are_the_same_to_the_byte(kind: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    loop(tmp_path, kind).train()
    assert left_behind(tmp_path) == whole
    lines = [json.loads(line) for line in whole["metrics.jsonl"].splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(STEPS))
    assert [line["step"] for line in lines if line["kind"] == "evaluation"] == [0, 2, 4, 6]


@pytest.mark.parametrize("at", range(1, STEPS))
def test_stopped_at_any_step_and_resumed(kind: str, whole: dict[str, bytes], tmp_path: Path, at: int) -> None:
    first = loop(tmp_path, kind).train(stop=stop_after(at))
    assert first == TrainOutcome(at, True, None, first.warnings, first.warning_kinds)
    second = loop(tmp_path, kind).train()
    assert not second.stopped
    assert left_behind(tmp_path) == whole


def test_stopped_between_checkpoints_and_killed(kind: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """The log is longer than the checkpoint: what came after it is cut and made again."""
    sparse = loop(tmp_path, kind, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        sparse.train(stop=raise_at(5))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) > 5
    loop(tmp_path, kind, checkpoint_every=4).train()
    assert left_behind(tmp_path)["metrics.jsonl"] == whole["metrics.jsonl"]
    assert left_behind(tmp_path)["policy.safetensors"] == whole["policy.safetensors"]


def raise_at(step: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))

    def stop() -> bool:
        if next(asked) == step:
            raise KeyboardInterrupt
        return False

    return stop


def child(work: Callable[[], object]) -> int:
    """Fork, do `work` and leave; the parent gets the process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int, *, wait: bool = True) -> int | None:
    """The exit status of a child, None while it still runs; asked again, the answer stays."""
    if pid not in _ENDED:
        done, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
        if done == 0:
            return None
        _ENDED[pid] = status
    return _ENDED[pid]


_ENDED: dict[int, int] = {}


def wait_for(log: Path, lines: int, pid: int) -> None:
    """Until the child has written so many lines, or has ended: moments that do not depend on the machine's speed."""
    while log.read_bytes().count(b"\n") < lines and ended(pid, wait=False) is None:
        time.sleep(0.0005)


@pytest.fixture
def durations(kind: str, tmp_path: Path) -> Iterator[float]:
    began = time.perf_counter()
    made = build_trainer(assembly(tmp_path / "timed", kind), tmp_path / "timed")
    _, status = os.waitpid(child(made.train), 0)
    assert status == 0
    yield time.perf_counter() - began
    shutil.rmtree(tmp_path / "timed")


@pytest.mark.parametrize("trials", [2, pytest.param(50, marks=pytest.mark.slow)])  # of every kind of run
def test_killed_at_random_moments_and_resumed(
    kind: str, whole: dict[str, bytes], durations: float, tmp_path: Path, trials: int
) -> None:
    """kill -9 in a child that forked from a parent with everything loaded, then a resume in another child."""
    chance = random.Random(kind)
    preloaded = assembly(tmp_path / "preloaded", kind)
    killed = 0
    for trial in range(trials):
        run = tmp_path / str(trial)
        run.mkdir()
        made = build_trainer(preloaded, run)
        pid = child(made.train)
        wait_for(run / "metrics.jsonl", chance.randrange(STEPS), pid)
        time.sleep(chance.uniform(0, durations / STEPS))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed += ended(pid) != 0
        _, status = os.waitpid(child(made.train), 0)
        assert status == 0
        assert left_behind(run) == whole, f"trial {trial}"
        shutil.rmtree(run)
    assert killed >= trials // 3


def test_best_step_is_protected_and_becomes_the_model(tmp_path: Path) -> None:
    made = loop(tmp_path, "offline", best_metric="heldout/loss", keep_checkpoints=1)
    outcome = made.train()  # the loss falls, so the first, highest value stays the best
    assert outcome.best_step == 0
    assert (tmp_path / "checkpoints" / "step-0").is_dir()
    fresh = assembly(tmp_path / "fresh", "offline").policy.trainable()
    assert all(torch.equal(p, fresh[n]) for n, p in made.step.policy.parameters.items())


def test_patience_stops_early_and_stays_stopped(tmp_path: Path) -> None:
    early = loop(tmp_path, "offline", best_metric="heldout/loss", patience=2).train()
    assert (early.step, early.best_step) == (4, 0)
    again = loop(tmp_path, "offline", best_metric="heldout/loss", patience=2).train()
    assert (again.step, again.best_step) == (4, 0)


def test_an_unknown_best_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="heldout/acuracy"):
        loop(tmp_path, "offline", best_metric="heldout/acuracy").train()


def test_changed_settings_or_data_are_refused_with_a_diff(tmp_path: Path) -> None:
    loop(tmp_path, "offline").train(stop=stop_after(2))
    with pytest.raises(CheckpointError, match=r"training.batch_size: 3 → 4"):
        loop(tmp_path, "offline", batch_size=4).train()
    changed = loop(tmp_path, "offline")
    changed.identity = Identity({**changed.identity.values, "data (train)": "other"})
    with pytest.raises(CheckpointError, match=r"data \(train\)"):
        changed.train()


def test_starting_over_forgets_the_old_run(tmp_path: Path) -> None:
    loop(tmp_path, "offline").train(stop=stop_after(4))
    loop(tmp_path, "offline", resume=False, batch_size=4).train(resume=False, stop=stop_after(1))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-1"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 0]


def test_not_finite_stops_before_the_update_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    made = loop(tmp_path, "offline")
    made.train(stop=stop_after(2))
    again = loop(tmp_path, "offline")
    parameter = next(iter(again.step.policy.parameters.values()))
    resume = again._resume

    def poison() -> bool:
        resumed = resume()
        with torch.no_grad():
            parameter.fill_(float("nan"))
        return resumed

    again._resume = poison  # type: ignore[method-assign]  # the only way in
    with pytest.raises(NonFiniteError, match="made:"):
        again.train()
    assert loop(tmp_path, "offline").train().step == STEPS


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_message(tmp_path: Path) -> None:
    loop(tmp_path, "offline").train(stop=stop_after(2))
    (folder,) = (tmp_path / "checkpoints").glob("step-2")
    tensors, state = Checkpoint.open(folder).tensors("policy"), Checkpoint.open(folder).state
    old = {"memory": state["trainer"], "identity": state["identity"]}
    save(tmp_path / "checkpoints", 2, {"weights": tensors}, old, keep=1)
    with pytest.raises(CheckpointError, match="begun by an earlier version of twofold"):
        loop(tmp_path, "offline").train()
