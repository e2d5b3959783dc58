"""The loop by itself, around one small step: what it logs, tells, saves, and hands to those it works with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.errors import CheckpointError, NonFiniteError
from twofold.models.packing import Packing
from twofold.objectives import SFT
from twofold.training.checkpoint import Checkpoint
from twofold.training.identity import Identity
from twofold.training.optim import AdamW
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable
from twofold.training.trainer import Evaluation, Trainer, TrainingSettings, TrainOutcome


class Listener:
    """Notes every report of progress."""

    def __init__(self) -> None:
        self.reports: list[tuple[Any, ...]] = []

    def begin(self, task: str, total: int | None = None) -> None:
        self.reports.append(("begin", task, total))

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.reports.append(("advance", task, steps, set(figures)))

    def end(self, task: str) -> None:
        self.reports.append(("end", task))

    def note(self, message: str) -> None:
        self.reports.append(("note", message))

    def warn(self, message: str) -> None:
        self.reports.append(("warn", message))

    def texts(self, kind: str) -> list[str]:
        return [report[1] for report in self.reports if report[0] == kind]


@dataclass
class Fitting:
    """Demonstrations of a step; counts its rounds in its state, and notes what it may observe there."""

    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    observed: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])

    def round(self, step: int, state: dict[str, Any]) -> Round:
        state["rounds"] = state.get("rounds", 0) + 1
        return Round(step, [Part(tiny.groups((2, 3), (3, 2), seed=step), SFT())], self.figures)

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        self.observed.append((state["rounds"], "loss/sft" in metrics))


class Counter:
    """A tensor and a number that follow the steps."""

    name = "counter"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.total, self.saves = torch.zeros(1), 0

    def tensors(self) -> Mapping[str, Tensor]:
        return {"total": self.total}

    def state_dict(self) -> dict[str, Any]:
        self.saves += 1
        return {"seen": list(self.seen)}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        self.total, self.seen = tensors["total"].clone(), list(numbers["seen"])

    def on_step_end(self, steps: int) -> None:
        self.seen.append(steps)
        self.total += steps


def trainer(run: Path, steps: int = 4, evaluators: Sequence[Callable[[], Evaluation]] = (), **more: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    parts = {k: more.pop(k) for k in ("stateful", "identity", "algorithm", "tracker") if k in more}
    policy = tiny.policy(dtype=torch.float32)
    trainable = Trainable.of(POLICY, policy, AdamW(learning_rate=1e-3, schedule="constant", warmup=0), steps)
    return Trainer(
        run=run,
        step=Step([trainable], providers={}, packing=Packing()),
        evaluators=evaluators,
        settings=TrainingSettings(**{"steps": steps, **more}),
        steps=steps,
        progress=Listener(),
        **{"algorithm": Fitting(), "identity": Identity({"a": 1}), **parts},
    )


def reports(made: Trainer) -> Listener:
    assert isinstance(made.progress, Listener)
    return made.progress


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def after(steps: int) -> Callable[[], bool]:
    left = iter([False] * (steps - 1) + [True] * 99)
    return lambda: next(left)


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_every_step_is_logged_and_told(tmp_path: Path) -> None:
    made = trainer(tmp_path, 3, algorithm=Fitting({"drafts": 6.0, "gap": 0.5}))
    assert made.train() == TrainOutcome(3, False, None, (), ())
    rows = lines(tmp_path, "metrics")
    assert [list(row) for row in rows] == [
        ["kind", "step", "loss", "loss/sft", "demonstration_length", "demonstration_logp", "drafts", "gap", "grad_norm",
         "learning_rate"]
    ] * 3  # fmt: skip
    assert [(row["kind"], row["step"], row["learning_rate"]) for row in rows] == [("train", s, 1e-3) for s in range(3)]
    assert reports(made).reports == [
        ("begin", "train", 3), ("advance", "train", 0, set()),
        *[("advance", "train", 1, {"loss", "gap", "drafts_per_second"})] * 3, ("end", "train"),
    ]  # fmt: skip
    timings = lines(tmp_path, "timings")
    figures = ["step", "seconds", "tokens", "tokens_per_second", "memory_gib", "drafts_per_second"]
    assert [(row["step"], list(row)) for row in timings] == [(s, figures) for s in range(3)]
    assert all(0 < row["seconds"] < 60 and row["drafts_per_second"] > 6 / 60 for row in timings)
    assert all(round(row["seconds"], 4) == row["seconds"] for row in timings)
    assert saved(tmp_path) == ["step-3"]


def test_the_pace_is_of_the_drawing_and_told_only_of_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round takes 2 seconds by this clock, the rest of a step 6."""
    times = iter([10.0, 12.0, 18.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr("twofold.training.trainer.time.perf_counter", lambda: next(times))
    made = trainer(tmp_path, 2, algorithm=Fitting({"drafts": 5.0}))
    made._one_step(0)
    made._one_step(1)
    rows = lines(tmp_path, "timings")
    assert [(row["seconds"], row["drafts_per_second"]) for row in rows] == [(8.0, 2.5), (0.0, 5e9)]
    tokens = [sum(g.num_tokens for part in made.algorithm.round(s, {}).parts for g in part.groups) for s in (0, 1)]
    assert [row["tokens"] for row in rows] == tokens
    assert rows[0]["tokens_per_second"] == round(tokens[0] / 8, 1) > 0
    assert 0.05 < rows[0]["memory_gib"] <= rows[1]["memory_gib"] < 64


def test_the_algorithm_and_what_is_stateful_are_told_of_every_step(tmp_path: Path) -> None:
    counter, made = Counter(), Fitting()
    trainer(tmp_path, 3, algorithm=made, stateful=[counter]).train()
    assert made.observed == [(1, True), (2, True), (3, True)]
    assert (counter.seen, counter.total.item()) == ([1, 2, 3], 6.0)


def test_a_stop_saves_all_and_a_resume_takes_it_up(tmp_path: Path) -> None:
    first = trainer(tmp_path, 4, stateful=[Counter()])
    assert first.train(stop=after(2)) == TrainOutcome(2, True, None, (), ())
    found = Checkpoint.open(tmp_path / "checkpoints" / "step-2")
    assert found.state["identity"] == {"a": 1}
    assert found.state["finished"] is False
    state = found.state["trainer"]
    assert {k: v for k, v in state.items() if k not in ("logs", "diagnostics")} == {
        "step": 2, "algorithm": {"rounds": 2}, "stateful": {"counter": {"seen": [1, 2]}}, "warnings": [],
        "best_value": None, "best_step": None, "waited": 0, "evaluation_due": False, "alarms": {},
    }  # fmt: skip
    assert set(state["logs"]) == {"metrics", "samples", "warnings"}
    assert found.tensors("counter")["total"].tolist() == [3.0]
    counter, algorithm = Counter(), Fitting()
    second = trainer(tmp_path, 4, stateful=[counter], algorithm=algorithm)
    assert second.train() == TrainOutcome(4, False, None, (), ())
    assert (counter.seen, counter.total.item(), algorithm.observed) == ([1, 2, 3, 4], 10.0, [(3, True), (4, True)])
    assert reports(second).reports[:3] == [
        ("note", "resumed at step 2"), ("begin", "train", 4), ("advance", "train", 2, set()),
    ]  # fmt: skip
    whole = trainer(tmp_path.with_name("whole"), 4, stateful=[Counter()])
    whole.train()
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole.run / "metrics.jsonl").read_bytes()
    assert Checkpoint.open(tmp_path / "checkpoints" / "step-4").state["finished"] is True


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    trainer(tmp_path, 2).train()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints" / "step-2").iterdir()}
    again = trainer(tmp_path, 2)
    assert again.train() == TrainOutcome(2, False, None, (), ())
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints" / "step-2").iterdir()} == before
    assert len(lines(tmp_path, "metrics")) == 2


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    """Of 4 steps, saved every 2: after 2, after 4, and not again at the end."""
    counter = Counter()
    trainer(tmp_path, 4, stateful=[counter], checkpoint_every=2).train()
    assert counter.saves == 2


def test_a_run_that_is_beyond_its_end_takes_no_step(tmp_path: Path) -> None:
    trainer(tmp_path, 4).train(stop=after(3))
    assert trainer(tmp_path, 2).train() == TrainOutcome(3, False, None, (), ())


def evaluator(*values: float) -> Callable[[], Evaluation]:
    """Gives `values` one after the other."""
    left = iter(values)

    def evaluate() -> Evaluation:
        value = next(left)
        return Evaluation({"dev/accuracy": value, "dev/other": 1.0}, [{"prompt": "p", "value": value}])

    return evaluate


def test_evaluations_are_before_in_between_and_after(tmp_path: Path) -> None:
    other = iter(range(9))
    both = [evaluator(0.25, 0.5, 0.75, 0.125), lambda: Evaluation({"x/strict": float(next(other))})]
    made = trainer(tmp_path, 5, both, evaluate_every=2)
    made.train()
    rows = [row for row in lines(tmp_path, "metrics") if row["kind"] == "evaluation"]
    values = list(zip((0, 2, 4, 5), (0.25, 0.5, 0.75, 0.125), range(4), strict=True))
    assert rows == [
        {"kind": "evaluation", "step": s, "dev/accuracy": a, "dev/other": 1.0, "x/strict": float(b)}
        for s, a, b in values
    ]
    assert lines(tmp_path, "samples") == [{"step": s, "prompt": "p", "value": a} for s, a, _ in values]
    assert reports(made).texts("note") == [
        f"step {s}: dev/accuracy {a:.3f}, x/strict {b:.3f}" for s, a, b in values
    ]  # fmt: skip


def test_without_an_interval_there_are_two_evaluations_and_without_evaluators_none(tmp_path: Path) -> None:
    trainer(tmp_path / "a", 4, [evaluator(1, 2)]).train()
    assert [row["step"] for row in lines(tmp_path / "a", "samples")] == [0, 4]
    made = trainer(tmp_path / "b", 2)
    made.train()
    assert (lines(tmp_path / "b", "samples"), reports(made).texts("note")) == ([], [])


def test_the_best_step_becomes_the_model(tmp_path: Path) -> None:
    """Evaluated 0 to 4 times as 0.1, 0.7, 0.7, 0.2, 0.3: step 1 is the first of the best."""
    how = {"evaluate_every": 1, "best_metric": "dev/accuracy", "keep_checkpoints": 1}
    made = trainer(tmp_path, 4, [evaluator(0.1, 0.7, 0.7, 0.2, 0.3)], **how)
    assert made.train() == TrainOutcome(4, False, 1, (), ())
    assert saved(tmp_path) == ["step-1", "step-4"]
    state = Checkpoint.open(tmp_path / "checkpoints" / "step-4").state["trainer"]
    assert (state["best_value"], state["best_step"], state["waited"]) == (0.7, 1, 3)
    best = Checkpoint.open(tmp_path / "checkpoints" / "step-1").tensors(POLICY)
    assert all(torch.equal(w, best[n]) for n, w in made.step.policy.weights().items())
    last = Checkpoint.open(tmp_path / "checkpoints" / "step-4").tensors(POLICY)
    assert not all(torch.equal(w, last[n]) for n, w in best.items())
    assert reports(made).texts("note")[-1] == "dev/accuracy was best at step 1: its weights are the model"


def test_a_best_figure_that_nobody_measures_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        trainer(tmp_path, 4, [evaluator(1)], best_metric="dev/exact").train()
    assert str(error.value) == (
        "training.best_metric: no evaluation gives 'dev/exact'\n  → known here: dev/accuracy, dev/other"
    )


def test_checkpoints_by_steps_and_how_many_stay(tmp_path: Path) -> None:
    trainer(tmp_path, 7, checkpoint_every=2).train()
    assert saved(tmp_path) == ["step-6", "step-7"]  # two by default
    trainer(tmp_path / "more", 7, checkpoint_every=2, keep_checkpoints=3).train()
    assert saved(tmp_path / "more") == ["step-4", "step-6", "step-7"]


def test_what_was_adjusted_is_told_and_saved_even_without_a_step_to_go(tmp_path: Path) -> None:
    trainer(tmp_path, 4).train(stop=after(2))
    again = trainer(tmp_path, 4, identity=Identity({"a": 2}, ["a"]))
    words = "from step 2 on: a: 1 → 2"
    assert again.train(stop=after(1)) == TrainOutcome(3, True, None, (words,), ())
    assert lines(tmp_path, "warnings") == [{"step": 2, "text": words}]
    assert reports(again).texts("warn") == [words]
    assert Checkpoint.open(tmp_path / "checkpoints" / "step-3").state["identity"] == {"a": 2}
    third = trainer(tmp_path, 4, identity=Identity({"a": 2}, ["a"]))
    assert third.train().warnings == (words,)


def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path: Path) -> None:
    trainer(tmp_path, 4, checkpoint_every=1).train(stop=after(3))
    (tmp_path / "checkpoints" / "step-3" / "state.json").write_text("{}")
    again = trainer(tmp_path, 4, checkpoint_every=1)
    (words,) = again.train().warnings
    assert words.startswith("step-3 was passed over: state.json has 2 bytes instead of ")
    assert reports(again).reports[:2] == [("warn", words), ("note", "resumed at step 2")]
    assert [row["step"] for row in lines(tmp_path, "metrics")] == [0, 1, 2, 3]


def test_a_watch_warns_once_in_the_log_and_in_the_outcome(tmp_path: Path) -> None:
    """A first DPO loss that is not ln 2."""
    made = trainer(tmp_path, 2, algorithm=Fitting({"loss/dpo": 0.25}))
    outcome = made.train()
    (words,) = outcome.warnings
    assert words.startswith("the first DPO loss is 0.2500, not ln 2")
    assert outcome.warning_kinds == ("first loss",)
    assert lines(tmp_path, "warnings") == [{"step": 0, "text": words}]
    assert reports(made).texts("warn") == [words]


def test_a_log_that_was_changed_meanwhile_is_refused_at_the_end(tmp_path: Path) -> None:
    def change() -> Evaluation:
        (tmp_path / "warnings.jsonl").write_text("mine\n")
        return Evaluation({})

    with pytest.raises(CheckpointError, match=r"warnings\.jsonl: is damaged or was changed"):
        trainer(tmp_path, 2, [change]).train()


def test_beginning_anew_forgets_logs_and_checkpoints(tmp_path: Path) -> None:
    trainer(tmp_path, 3).train()
    again = trainer(tmp_path, 3, identity=Identity({"a": 2}))
    assert again.train(resume=False, stop=after(1)).step == 1
    assert [len(lines(tmp_path, name)) for name in ("metrics", "timings")] == [1, 1]
    assert saved(tmp_path) == ["step-1"]


@dataclass
class Recording:
    """Takes the place of a tracker."""

    calls: list[Any] = field(default_factory=list[Any])

    def begin(self, step: int, *, resumed: bool) -> None:
        self.calls.append(("begin", step, resumed))

    def write(self, row: Mapping[str, Any]) -> None:
        self.calls.append((row["kind"], row["step"]))

    def end(self) -> None:
        self.calls.append("end")


def test_a_tracker_is_begun_written_to_and_closed_whatever_happens(tmp_path: Path) -> None:
    first, second, third = Recording(), Recording(), Recording()
    trainer(tmp_path, 3, [evaluator(1, 2)], tracker=first).train(stop=after(2))
    trainer(tmp_path, 3, [evaluator(3)], tracker=second).train()
    assert first.calls == [("begin", 0, False), ("evaluation", 0), ("train", 0), ("train", 1), "end"]
    assert second.calls == [("begin", 2, True), ("train", 2), ("evaluation", 3), "end"]
    broken = trainer(tmp_path / "broken", 3, tracker=third)
    with torch.no_grad():
        next(iter(broken.step.policy.parameters.values())).fill_(math.nan)
    with pytest.raises(NonFiniteError) as error:
        broken.train()
    assert error.value.remedy == "lower the learning rate, or look at these rows; the same command then starts over"
    assert third.calls == [("begin", 0, False), "end"]
    assert reports(broken).reports[-1] == ("end", "train")
