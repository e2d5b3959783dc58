"""Trackers get the rows of metrics.jsonl, go on where a run goes on, and never see a secret or stop a run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.sum_pairs import ROWS, write
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.progress import Silent
from twofold.runs.train import RunOptions, TrainResult, train_recipe
from twofold.training.track import FILE, redacted

SECRET = "sk-a-long-secret-of-mine"
Train = Callable[..., TrainResult]


@pytest.fixture
def train(tmp_path: Path, base: Path) -> Train:
    """A run of four steps; `stop` is asked after each."""

    def run(track: str, stop: Callable[[], bool] = lambda: False, progress: Silent | None = None) -> TrainResult:
        given = {
            "model": {"path": str(base), "precision": "float32"},
            "data": {"train": str(write(tmp_path / "pairs.jsonl", ROWS)), "heldout": {"count": 4}},
            "training": {"steps": 4, "batch_size": 4, "track": track, "evaluate_every": 2, "checkpoint_every": 2},
            "run": str(tmp_path / "run"),
        }
        conduct = RunOptions(progress=progress or Silent(), stop=stop)
        return train_recipe(validate(Recipe, Document("test", given, {})), conduct)

    return run


class Recorder:
    """The part of wandb's and trackio's interface that is used: `init(...)` gives a run with `log` and `finish`."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.inits: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished, self.breaks_at = 0, breaks_at

    def init(self, **given: Any) -> Recorder:
        self.inits.append(given)
        return self

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        if self.breaks_at is not None and len(self.logged) >= self.breaks_at:
            raise ConnectionError(f"the wire is cut, said {SECRET}")
        self.logged.append((step, metrics))

    def finish(self) -> None:
        self.finished += 1


def install(monkeypatch: pytest.MonkeyPatch, name: str, recorder: Recorder) -> None:
    module = ModuleType(name)
    module.__dict__["init"] = recorder.init
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    for variable in ("WANDB_PROJECT", "TRACKIO_PROJECT", "TRACKIO_SPACE_ID"):
        monkeypatch.delenv(variable, raising=False)


def told(run: Path) -> list[tuple[int, dict[str, float]]]:
    """metrics.jsonl as a tracker should have it."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    prefix = {"train": "train/", "evaluation": ""}
    return [
        (row["step"], {prefix[row["kind"]] + k: float(v) for k, v in row.items() if k not in ("kind", "step")})
        for row in rows
    ]


@pytest.mark.parametrize(("kind", "key"), [("wandb", "id"), ("trackio", "name")])
def test_a_tracker_gets_every_row_and_a_resumed_run_goes_on_in_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, key: str
) -> None:
    recorder = Recorder()
    install(monkeypatch, kind, recorder)
    steps = iter([False, True])
    assert train(kind, stop=lambda: next(steps)).outcome.stopped
    assert (len(recorder.inits), recorder.finished) == (1, 1)
    assert recorder.logged == told(tmp_path / "run")
    train(kind)
    assert recorder.logged == told(tmp_path / "run")
    assert (len(recorder.inits), recorder.finished) == (2, 2)
    first, second = recorder.inits
    assert (first[key], first["resume"], first["project"]) == (second[key], "allow", "twofold")
    assert first[key] == json.loads((tmp_path / "run" / FILE).read_text())["identity"]
    assert first["config"]["training"]["steps"] == 4
    names = set().union(*(figures for _, figures in recorder.logged))
    assert {"train/loss", "train/margin", "train/learning_rate", "heldout/accuracy"} <= names


def test_a_run_begun_anew_is_another_run_there(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    install(monkeypatch, "wandb", recorder)
    train("wandb")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train("wandb")
    first, second = recorder.inits
    assert first["id"] != second["id"]


def test_a_tracker_changes_no_figure(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "wandb", Recorder())
    train("wandb")
    tracked = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    (tmp_path / "run").rename(tmp_path / "tracked")
    train("none")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == tracked
    assert not (tmp_path / "run" / FILE).exists()


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "wandb", recorder := Recorder(breaks_at=2))
    progress = Silent()
    assert train("wandb", progress=progress).outcome.step == 4
    assert recorder.logged == told(tmp_path / "run")[:2]
    said = [w for w in progress.warnings if "wandb" in w]
    assert said == [
        "wandb failed (the wire is cut, said [redacted]); the run continues without it, metrics.jsonl is complete"
    ]


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "trackio", "mlflow"])
def test_a_missing_package_is_one_message_before_anything_is_done(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(RecipeError) as error:
        train(kind)
    assert str(error.value) == (
        f"training.track: {kind} is not installed\n  → pip install 'twofold[{kind}]', or leave training.track out"
    )
    assert not (tmp_path / "run").exists()


def test_wandb_without_a_key_is_refused_rather_than_asked_for(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "wandb", recorder := Recorder())
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(RecipeError, match="WANDB_API_KEY"):
        train("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train("wandb")
    assert len(recorder.inits) == 1


def test_secrets_of_the_environment_leave_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_API_KEY", SECRET)
    monkeypatch.setenv("OTHER_TOKEN", "short")
    settings = {"a": [f"Bearer {SECRET}", 3], "b": "llm-score:https://me:pass@host.example/v1#judge", "c": "short"}
    assert redacted(settings) == {
        "a": ["Bearer [redacted]", 3], "b": "llm-score:https://[redacted]@host.example/v1#judge", "c": "short",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_every_row_once_after_a_crash(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: its event files are not read here")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked: list[None] = []

    def crash() -> bool:
        asked.append(None)
        if len(asked) == 3:  # a step after the checkpoint
            raise MemoryError
        return False

    with pytest.raises(MemoryError):
        train("tensorboard", stop=crash)
    train("tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    found = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
    expected = {(k, step): v for step, figures in told(tmp_path / "run") for k, v in figures.items()}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train("tensorboard")  # anew: what was told before is gone
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"]) == len(expected)
