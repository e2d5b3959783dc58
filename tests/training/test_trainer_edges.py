"""A loop at its edges: no steps, more steps than asked for, a bound below the resumed step, and other processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from twofold.errors import NonFiniteError
from twofold.progress import Silent
from twofold.training import trainer
from twofold.training.identity import Identity
from twofold.training.trainer import Evaluation, Trainer, TrainingSettings


class Saver:
    """Records the step, whether it was the end, and what is protected."""

    def __init__(self, folder: Path, keep: int, device: torch.device) -> None:
        self.saved, self.failed = list[tuple[int, bool, tuple[int, ...]]](), False

    def save(self, step: int, tensors: Mapping[str, Any], state: Any, protect: Any) -> None:
        self.saved.append((step, state["finished"], protect))

    def wait(self) -> None: ...


class Stepping:
    """A step without models."""

    def __init__(self) -> None:
        self.policy = SimpleNamespace(model=SimpleNamespace(device=torch.device("cpu")), learning_rate=0.5)
        self.trainables = list[Any]()

    def __call__(self, made: Any) -> dict[str, float]:
        return {"loss": 1.0}


class Among:
    """One of several processes; what any of them wants comes from `wishes`, then is this one's own."""

    def __init__(self, size: int = 2, rank: int = 0, wishes: tuple[bool, ...] = ()) -> None:
        self.size, self.first, self.requests, self.waits = size, rank == 0, list[bool](), 0
        self._wishes: Iterator[bool] = iter(wishes)

    def any(self, flag: bool) -> bool:
        self.requests.append(flag)
        return next(self._wishes, flag)

    def wait(self) -> None:
        self.waits += 1


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "Saver", Saver)
    monkeypatch.setattr(trainer, "pace", lambda *args: {"seconds": 1.0})
    monkeypatch.setattr(trainer, "Diagnostics", lambda state: SimpleNamespace(check=lambda *args: []))


def loop(folder: Path, steps: int, values: list[float] | None = None, **how: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    left = iter(values or [])
    made = SimpleNamespace(parts=[SimpleNamespace(objective="objective")])
    algorithm = SimpleNamespace(round=lambda step, state: made, observe=lambda metrics, state: None)
    evaluators = [] if values is None else [lambda: Evaluation({"rate": next(left)})]
    identity = how.pop("identity", Identity({"a": 1}))
    return Trainer(
        run=folder, algorithm=cast(Any, algorithm), step=cast(Any, Stepping()), evaluators=evaluators,
        settings=TrainingSettings(**{"checkpoint_every": 100, **how}), steps=steps, identity=identity,
        progress=Silent(),
    )  # fmt: skip


def saved(made: Trainer) -> list[tuple[int, bool, tuple[int, ...]]]:
    return cast(Saver, made._saver).saved


def resumed_at(step: int, made: Trainer, monkeypatch: pytest.MonkeyPatch, **state: Any) -> None:
    """A checkpoint of `step`, whose logs are those of `made`."""
    logs = {name: log.mark() for name, log in made.logs.items()}
    stored = {"trainer": {"step": step, "logs": logs, **state}, "identity": {"a": 1}}
    checkpoint = SimpleNamespace(skipped={}, state=stored, path=Path("step"))
    monkeypatch.setattr(trainer.checkpoint, "newest", lambda folder, among: checkpoint)


def test_a_run_of_no_steps_saves_how_it_began(tmp_path: Path) -> None:
    made = loop(tmp_path, 0)
    assert made._stop() is False
    ended = made.train(resume=False)
    assert (ended.step, ended.stopped, saved(made)) == (0, False, [(0, True, ())])


def test_a_best_at_the_start_is_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 0 is a step like any other; it is saved with its evaluation, though nothing was trained."""
    made = loop(tmp_path, 2, [0.5, 0.25, 0.25], best_metric="rate", evaluate_every=1)
    monkeypatch.setattr(made, "_load_best", lambda: None)
    assert made.train(resume=False).best_step == 0
    assert saved(made) == [(0, False, (0,)), (2, True, (0,))]


def test_a_run_beyond_its_end_with_other_settings_is_saved_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loop(tmp_path, 2, identity=Identity({"a": 2}, ["a"]))
    resumed_at(3, made, monkeypatch)
    ended = made.train()
    assert (ended.step, ended.stopped, ended.warnings) == (3, False, ("from step 3 on: a: 1 → 2",))
    assert saved(made) == [(3, True, ())]


def test_a_bound_before_the_resumed_step_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loop(tmp_path, 9)
    resumed_at(3, made, monkeypatch)
    ended = made.train(until=2)
    assert (ended.step, ended.stopped, saved(made)) == (3, True, [])
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_an_evaluation_that_is_due_is_made_before_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for due, first in ((True, "evaluation"), (False, "train")):
        made = loop(tmp_path / str(due), 4, [0.5, 0.25])
        resumed_at(3, made, monkeypatch, evaluation_due=due)
        made.train()
        rows = [json.loads(line) for line in (made.run / "metrics.jsonl").read_text().splitlines()]
        assert [(rows[0]["kind"], rows[0]["step"]), len(rows)] == [(first, 3), 3 if due else 2]
        assert saved(made)[-1] == (4, True, ())


def test_warnings_of_what_was_passed_over_come_after_those_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loop(tmp_path, 3)
    resumed_at(3, made, monkeypatch, warnings=["earlier"], diagnostics={"said": ["a", "b"]})
    trainer.checkpoint.newest(tmp_path, None).skipped["step-4"] = "damaged"  # type: ignore[arg-type, union-attr, index]
    ended = made.train()
    assert ended.warnings == ("earlier", "step-4 was passed over: damaged")
    assert ended.warning_kinds == ("a", "b")


@pytest.mark.parametrize(
    ("size", "wishes", "step", "calls"),
    [(2, (False, False, True), 2, [False, False, False]), (2, (), 3, [False] * 6), (1, (), 3, [False] * 3)],
)
def test_a_stop_of_another_process_ends_the_step_here(
    size: int, wishes: tuple[bool, ...], step: int, calls: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step of several processes all are asked for a stop, and then, as in a single one, for a save."""
    among = Among(size, wishes=wishes)
    monkeypatch.setattr(trainer, "world", lambda: among)
    made = loop(tmp_path, 3)
    ended = made.train(resume=False, stop=lambda: False)
    assert (ended.step, ended.stopped, among.requests) == (step, bool(wishes), calls)


def test_a_save_that_is_due_elsewhere_is_made_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "world", lambda: among)
    among = Among(wishes=(False, True))
    made = loop(tmp_path, 3)
    made.train(resume=False)
    assert [step for step, *_ in saved(made)] == [1, 3]


@pytest.mark.parametrize(("rank", "left"), [(0, False), (1, True)])
def test_only_the_first_process_removes_checkpoints(
    rank: int, left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "world", lambda: Among(2, rank))
    (tmp_path / "checkpoints" / "step-1").mkdir(parents=True)
    loop(tmp_path, 1).train(resume=False)
    assert (tmp_path / "checkpoints").exists() == left


@pytest.mark.parametrize(("rank", "aside"), [(0, [1]), (1, [])])
def test_only_the_first_process_sets_a_checkpoint_aside_and_all_wait_for_it(
    rank: int, aside: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    among, put = Among(2, rank), list[int]()
    monkeypatch.setattr(trainer, "world", lambda: among)
    monkeypatch.setattr(trainer.checkpoint, "set_aside", lambda folder, step: put.append(step))
    monkeypatch.setattr(trainer.checkpoint, "newest_state", lambda folder: None)
    made = loop(tmp_path, 3, checkpoint_every=1)

    def fails(args: Any) -> dict[str, float]:
        if made.state.step == 1:
            raise NonFiniteError("what", where="here", remedy="")
        return {"loss": 1.0}

    monkeypatch.setattr(made, "step", _Calling(made.step, fails))
    with pytest.raises(NonFiniteError) as error:
        made.train(resume=False)
    assert (put, among.waits) == (aside, 1)
    assert str(error.value) == (
        "here: what\n  → lower the learning rate, or look at these rows; the same command then starts over"
    )


class _Calling:
    """A step of another call."""

    def __init__(self, step: Any, call: Any) -> None:
        self.policy, self.trainables, self._call = step.policy, step.trainables, call

    def __call__(self, made: Any) -> dict[str, float]:
        return self._call(made)
