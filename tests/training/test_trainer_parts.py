"""Parts of the loop by themselves, with a step, a saver and a progress that only record what they are asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from twofold.errors import BrokenUpdateError, CheckpointError, NonFiniteError
from twofold.training import trainer
from twofold.training.trainer import Evaluation, Trainer, TrainingSettings


class Shown:
    """Progress as a list of what is shown."""

    def __init__(self) -> None:
        self.seen = list[Any]()

    def begin(self, *what: Any) -> None:
        self.seen.append(("begin", *what))

    def advance(self, *what: Any, **figures: Any) -> None:
        self.seen.append(("advance", *what, figures))

    def end(self, what: str) -> None:
        self.seen.append(("end", what))

    def note(self, text: str) -> None:
        self.seen.append(("note", text))

    def warn(self, text: str) -> None:
        self.seen.append(("warn", text))

    def of(self, kind: str) -> list[Any]:
        return [row[1:] if len(row) > 2 else row[1] for row in self.seen if row[0] == kind]


class Saver:
    """Records what is saved."""

    def __init__(self, folder: Path, keep: int, device: torch.device) -> None:
        self.given, self.failed = (folder, keep, device), False
        self.saved, self.waited = list[tuple[int, Any, Any, Any]](), 0

    def save(self, step: int, tensors: Mapping[str, Any], state: Any, protect: Any) -> None:
        self.saved.append((step, dict(tensors), json.loads(json.dumps(state)), protect))

    def wait(self) -> None:
        self.waited += 1


METRICS = {"z": 1.0, "loss/b": 2.0, "loss": 3.0, "accuracy": 0.5}


class Stepping:
    """A step of fixed metrics; the rate falls with each."""

    def __init__(self, figures: Callable[[], dict[str, float]]) -> None:
        self.policy = SimpleNamespace(model=SimpleNamespace(device=torch.device("cpu")), learning_rate=0.5)
        self.trainables, self.figures = list[Any](), figures

    def __call__(self, made: Any) -> dict[str, float]:
        self.policy.learning_rate /= 2
        return self.figures()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "Saver", Saver)
    monkeypatch.setattr(trainer, "pace", lambda *given: {"drafts_per_second": 7.0, "seconds": 1.0})


def loop(
    folder: Path,
    values: list[float] | None = None,
    figures: Callable[[], dict[str, float]] = lambda: METRICS,
    steps: int = 4,
    samples: list[Any] | None = None,
    **how: Any,
) -> Trainer:
    """A loop whose evaluations give these values in turn."""
    given = iter(values or [])
    evaluators = [lambda: Evaluation({"rate": next(given)}, samples or [])] if values is not None else []
    made = SimpleNamespace(parts=[SimpleNamespace(objective="objective")])
    algorithm = SimpleNamespace(round=lambda step, state: made, observe=lambda metrics, state: None)
    return Trainer(
        run=folder, algorithm=cast(Any, algorithm), step=cast(Any, Stepping(figures)), evaluators=evaluators,
        settings=TrainingSettings(**{"checkpoint_every": 100, **how}), steps=steps,
        identity=cast(Any, SimpleNamespace(values={"a": 1})), progress=cast(Any, Shown()),
    )  # fmt: skip


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without warnings."""
    monkeypatch.setattr(trainer, "Diagnostics", lambda state: SimpleNamespace(check=lambda *given: []))
    monkeypatch.setattr(trainer, "alarms", lambda *given: [])
    monkeypatch.setattr(trainer, "sample_figures", lambda rows: {})


def rows(folder: Path, name: str = "metrics") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": 0}, "steps must be ≥ 1"),
        ({"evaluate_every": 0}, "evaluate_every must be ≥ 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be ≥ 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be ≥ 1"),
        ({"batch_size": 0}, "batch_size must be ≥ 1"),
        ({"patience": 0, "best_metric": "x"}, "patience must be ≥ 1"),
        ({"batch_size": 1_000_001}, "batch_size must be ≤ 1000000"),
        ({"epochs": 0.0}, "epochs must be > 0 and ≤ 1000000000"),
        ({"epochs": float("inf")}, "epochs must be > 0 and ≤ 1000000000"),
        ({"checkpoint_minutes": -0.1}, "checkpoint_minutes must be ≥ 0"),
        ({"patience": 1}, "patience needs `best_metric`, the figure to be patient about"),
    ],
)
def test_settings_out_of_bounds_in_words(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        TrainingSettings(**how)
    assert str(error.value) == message


def test_settings_at_their_bounds() -> None:
    TrainingSettings(
        steps=1, evaluate_every=1, checkpoint_every=1, keep_checkpoints=1, batch_size=1, patience=1, best_metric="x",
        checkpoint_minutes=0.0, epochs=0.001,
    )  # fmt: skip
    assert TrainingSettings(batch_size=1_000_000).batch_size == 1_000_000


def test_steps_of_epochs_by_hand() -> None:
    """65 rows of 32: two steps and a begun third; each batch serves as many steps as there are passes."""
    assert [TrainingSettings(epochs=e).total_steps(65) for e in (1.0, 2.0, 0.001)] == [3, 5, 1]
    assert TrainingSettings(batch_size=65).total_steps(65) == 1
    assert TrainingSettings(epochs=2.0).total_steps(65, 3) == 15
    assert TrainingSettings(steps=7).total_steps(65, 3) == 7


@pytest.mark.usefixtures("quiet")
def test_a_run_from_its_first_step_to_its_last(tmp_path: Path) -> None:
    made = loop(tmp_path, [0.25, 0.5, 0.75], steps=3, evaluate_every=2, keep_checkpoints=5, samples=[{"text": "a"}])
    ended = made.train(resume=False)
    assert (ended.step, ended.stopped, ended.best_step, ended.warnings, ended.warning_kinds) == (3, False, None, (), ())
    assert [(row["kind"], row["step"]) for row in rows(tmp_path)] == [
        ("evaluation", 0), ("train", 0), ("train", 1), ("evaluation", 2), ("train", 2), ("evaluation", 3),
    ]  # fmt: skip
    assert list(rows(tmp_path)[1].items()) == [
        ("kind", "train"), ("step", 0), ("loss", 3.0), ("loss/b", 2.0), ("accuracy", 0.5), ("z", 1.0),
        ("learning_rate", 0.5),
    ]  # fmt: skip
    assert [row["learning_rate"] for row in rows(tmp_path) if row["kind"] == "train"] == [0.5, 0.25, 0.125]
    assert rows(tmp_path, "samples") == [{"step": step, "text": "a"} for step in (0, 2, 3)]
    assert rows(tmp_path, "timings") == [{"step": n, "drafts_per_second": 7.0, "seconds": 1.0} for n in range(3)]
    shown = cast(Shown, made.progress)
    assert shown.of("note") == ["step 0: rate 0.250", "step 2: rate 0.500", "step 3: rate 0.750"]
    assert shown.of("begin") == [("train", 3)]
    assert shown.of("advance") == [
        ("train", 0, {}), *[("train", 1, {"loss": 3.0, "accuracy": 0.5, "drafts_per_second": 7.0})] * 3,
    ]  # fmt: skip
    assert shown.of("end") == ["train"]
    saver = cast(Any, made._saver)
    assert saver.given == (tmp_path / "checkpoints", 5, torch.device("cpu"))
    ((step, tensors, state, protect),) = saver.saved
    assert (step, tensors, protect, saver.waited) == (3, {}, (), 1)
    assert (state["identity"], state["finished"]) == ({"a": 1}, True)
    kept = state["trainer"]
    assert {name: kept[name] for name in ("step", "best_value", "best_step", "waited", "evaluation_due")} == {
        "step": 3, "best_value": None, "best_step": None, "waited": 0, "evaluation_due": False,
    }  # fmt: skip
    assert kept["logs"].keys() == {"metrics", "samples", "warnings"}


@pytest.mark.usefixtures("quiet")
def test_a_run_may_end_before_its_last_step_and_is_not_finished(tmp_path: Path) -> None:
    made = loop(tmp_path)
    assert made.train(resume=False, until=2).stopped
    ((step, _, state, _),) = cast(Any, made._saver).saved
    assert (step, state["finished"]) == (2, False)
    asked: list[int] = []
    other = loop(tmp_path)
    ended = other.train(resume=False, stop=lambda: asked.append(1) is None)
    assert (ended.step, ended.stopped, len(asked)) == (1, True, 1)
    nothing = loop(tmp_path)
    assert nothing.train(resume=False, until=0).step == 0
    assert cast(Any, nothing._saver).saved == []


@pytest.mark.usefixtures("quiet")
def test_a_save_is_made_as_often_as_said_and_after_one_that_failed(tmp_path: Path) -> None:
    made = loop(tmp_path, steps=5, checkpoint_every=2)
    made.train(resume=False)
    assert [step for step, *_ in cast(Any, made._saver).saved] == [2, 4, 5]
    failing = loop(tmp_path, steps=2)
    cast(Any, failing._saver).failed = True
    failing.train(resume=False)
    assert [step for step, *_ in cast(Any, failing._saver).saved] == [1, 2]


@pytest.mark.parametrize(("metric", "best", "value"), [("rate", 2, 0.75), ("-rate", 3, -0.25)])
@pytest.mark.usefixtures("quiet")
def test_the_best_is_the_first_that_is_better(
    metric: str, best: int, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loop(tmp_path, [0.5, 0.5, 0.75, 0.25, 0.5], best_metric=metric, evaluate_every=1)
    loaded: list[Any] = []
    monkeypatch.setattr(made, "_load_best", lambda: loaded.append(made.state.best_step))
    ended = made.train(resume=False)
    assert (ended.best_step, made.state.best_value, ended.step, loaded) == (best, value, 4, [best])
    assert made.state.waited == 4 - best
    last = cast(Any, made._saver).saved[-1]
    assert (last[0], last[3]) == (4, (best,))


@pytest.mark.parametrize(("patience", "ends"), [(1, 2), (2, 3), (3, 4)])
@pytest.mark.usefixtures("quiet")
def test_patience_is_spent_after_as_many_that_are_no_better(
    patience: int, ends: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is the best; the next of the same value is no better."""
    made = loop(tmp_path, [0.1, 0.5, 0.5, 0.4, 0.3], best_metric="rate", patience=patience, evaluate_every=1)
    monkeypatch.setattr(made, "_load_best", lambda: None)
    ended = made.train(resume=False)
    assert (ended.step, ended.stopped, ended.best_step) == (ends, False, 1)
    step, _, state, _ = cast(Any, made._saver).saved[-1]
    assert (step, state["finished"]) == (ends, True)


@pytest.mark.usefixtures("quiet")
def test_a_figure_that_no_evaluation_gives(tmp_path: Path) -> None:
    made = loop(tmp_path, best_metric="-other")
    with pytest.raises(CheckpointError) as error:
        made._remember_best(0, {"rate": 1.0, "also": 2.0})
    assert str(error.value) == "training.best_metric: no evaluation gives 'other'\n  → known here: also, rate"


def test_warnings_are_logged_with_their_step_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    alarmed: list[Any] = []

    def check(*given: Any) -> list[str]:
        asked.append(given)
        return ["falls"] if given[0] == 1 else []

    monkeypatch.setattr(trainer, "Diagnostics", lambda state: SimpleNamespace(check=check))
    monkeypatch.setattr(trainer, "sample_figures", lambda rows: {"samples/n": float(len(rows))})
    monkeypatch.setattr(trainer, "alarms", lambda *given: alarmed.append(given) or ["rings"])
    made = loop(tmp_path, [0.25, 0.5], steps=2, samples=[{}, {}])
    made.state.diagnostics["said"] = ["kind"]
    ended = made.train(resume=False)
    assert asked == [(0, METRICS, "objective"), (1, METRICS, "objective")]
    assert [given[:2] for given in alarmed] == [(n, {"rate": r, "samples/n": 2.0}) for n, r in ((0, 0.25), (2, 0.5))]
    assert alarmed[0][2] is made.settings.alarms
    assert rows(tmp_path, "warnings") == [
        {"step": 0, "text": "rings"}, {"step": 1, "text": "falls"}, {"step": 2, "text": "rings"},
    ]  # fmt: skip
    assert ended.warnings == ("rings", "falls", "rings")
    assert ended.warning_kinds == ("kind",)
    assert cast(Shown, made.progress).of("warn") == ["rings", "falls", "rings"]


@pytest.mark.parametrize(
    ("error", "saved", "left", "effect"),
    [
        (NonFiniteError, None, None, "starts over"),
        (NonFiniteError, 2, None, "starts over"),
        (NonFiniteError, 2, 1, "resumes from its checkpoint of step 1"),
        (BrokenUpdateError, 2, None, "resumes from its checkpoint of step 2"),
        (NonFiniteError, 1, None, "resumes from its checkpoint of step 1"),
    ],
)
@pytest.mark.usefixtures("quiet")
def test_the_way_out_of_numbers_that_are_none(
    error: Any, saved: int | None, left: int | None, effect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At step 2, with a checkpoint of this step, of one before it, or none. The one of this step is set aside, unless
    the update is the cause."""
    aside = [2] if saved == 2 and error is NonFiniteError else []
    put: list[Any] = []
    newest = None if left is None else (tmp_path, {"trainer": {"step": left}})
    monkeypatch.setattr(trainer.checkpoint, "set_aside", lambda folder, step: put.append((folder, step)))
    monkeypatch.setattr(trainer.checkpoint, "newest_state", lambda folder: newest)
    turn = iter([METRICS, METRICS])

    def figures() -> dict[str, float]:
        found = next(turn, None)
        if found is None:
            made._saved = saved
            raise error("what", where="here", remedy="none")
        return found

    made = loop(tmp_path, figures=figures)
    with pytest.raises(error) as raised:
        made.train(resume=False)
    assert put == [(tmp_path / "checkpoints", step) for step in aside]
    assert (raised.value.what, raised.value.where) == ("what", "here")
    assert raised.value.remedy == f"lower the learning rate, or look at these rows; the same command then {effect}"
    assert cast(Any, made._saver).waited == 1


@pytest.mark.usefixtures("quiet")
def test_a_run_that_begins_anew_removes_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-1").mkdir(parents=True)
    for name in ("metrics", "samples", "warnings", "timings"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n", encoding="utf-8")
    made = loop(tmp_path, steps=1)
    made.train(resume=False)
    assert not (tmp_path / "checkpoints").exists()
    assert [len(rows(tmp_path, name)) for name in ("metrics", "samples", "warnings", "timings")] == [1, 0, 0, 1]


@pytest.mark.usefixtures("quiet")
def test_a_tracker_hears_all_that_is_logged(tmp_path: Path) -> None:
    heard: list[Any] = []
    made = loop(tmp_path, [0.25, 0.5], steps=1)
    made.tracker = cast(Any, SimpleNamespace(
        begin=lambda step, resumed: heard.append((step, resumed)), write=heard.append, end=lambda: heard.append("end"),
    ))  # fmt: skip
    made.train(resume=False)
    assert heard == [(0, False), *rows(tmp_path), "end"]
