"""The loop around the step: logging, evaluation, checkpoints, early stopping, resume. It knows no algorithm.

A run that was stopped anywhere and resumed ends with the same bytes as one that was not: order and noise are functions
of (seed, step), the logs are cut back to the checkpoint, and a checkpoint is whole or absent (`checkpoint.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from twofold import disk
from twofold.errors import BrokenUpdateError, CheckpointError, NonFiniteError
from twofold.models.packing import Packing
from twofold.progress import Progress
from twofold.settings import require, settings
from twofold.stopping import StopAsked, Stopped, droppable
from twofold.training import checkpoint
from twofold.training.alarms import AlarmSettings, alarms, sample_figures
from twofold.training.diagnostics import Diagnostics
from twofold.training.identity import Identity
from twofold.training.metrics import Log, ordered
from twofold.training.pace import pace
from twofold.training.save_schedule import SaveSchedule
from twofold.training.saving import Saver
from twofold.training.stateful import Stateful
from twofold.training.step import Round, Step
from twofold.training.track import Tracker, Tracking, untracked
from twofold.world import world

SHOWN = ("loss", "margin", "accuracy", "gap", "drafts_per_second")
TOLD = ("accuracy", "margin", "strict", "flexible", "rate")
CHECKPOINTS = "checkpoints"
"""Folder of a run."""
MOST_ROWS = 1_000_000
"""Of an optimizer step."""
LONGEST = 1_000_000_000
"""Steps or epochs of a run."""


@settings
class TrainingSettings:
    """Length of training, batch size, and how often to evaluate and to save."""

    steps: int | None = None
    """Optimizer steps. By default, as many as `epochs` requires."""
    epochs: float = 1.0
    batch_size: int = 32
    """Rows (pairs, rankings, labeled completions, demonstrations) per optimizer step. Packing does not change it."""
    packing: Packing = field(default_factory=Packing)
    evaluate_every: int | None = None
    """Steps between evaluations. By default, one before the first step and one after the last."""
    checkpoint_every: int | None = None
    """Steps between checkpoints. By default the time decides (`checkpoint_minutes`)."""
    checkpoint_minutes: float | None = None
    """Minutes between checkpoints, or more if writing them would take over a tenth of the time. By default 10, or none
    if `checkpoint_every` is set. A signal and the end of a run always save a checkpoint."""
    keep_checkpoints: int = 2
    """Number of checkpoints to keep, in addition to the best one."""
    best_metric: str | None = None
    """Evaluation metric that selects the final model, such as `exact_match/strict` or `win_rate/rate` (higher is
    better), or with a minus sign, such as `-samples/repetition` (lower is better)."""
    patience: int | None = None
    """Stop after this many evaluations without a better `best_metric`."""
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    """When the samples of an evaluation cause a warning."""
    track: Tracking = "none"
    """Where to log metrics in addition to metrics.jsonl. API keys come only from the environment (docs/reports.md)."""

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "checkpoint_every", "patience", "keep_checkpoints", "batch_size"):
            require(getattr(self, name) is None or getattr(self, name) >= 1, f"{name} must be ≥ 1")
        require(self.batch_size <= MOST_ROWS, f"batch_size must be ≤ {MOST_ROWS}")
        require((self.steps or 1) <= LONGEST, f"steps must be ≤ {LONGEST}")
        require(0 < self.epochs <= LONGEST, f"epochs must be > 0 and ≤ {LONGEST}")
        minutes = self.checkpoint_minutes
        require(minutes is None or minutes >= 0, "checkpoint_minutes must be ≥ 0")
        require(
            self.patience is None or self.best_metric is not None,
            "patience needs `best_metric`, the figure to be patient about",
        )

    def total_steps(self, num: int, passes: int = 1) -> int:
        """Steps for `num` groups, of which each is used in `passes` steps before the next ones are met."""
        return self.steps or passes * max(1, math.ceil(self.epochs * num / self.batch_size))


class Algorithm(Protocol):
    """Makes the parts of each step. What must last from one step to the next is in `state`, as JSON."""

    def round(self, step: int, state: dict[str, Any]) -> Round: ...

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Evaluation:
    """Figures, and rows for samples.jsonl."""

    figures: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]] = ()


Evaluator = Callable[[], Evaluation]


@dataclass
class TrainerState:
    """The state of the loop in addition to weights and optimizer; all of it is JSON."""

    step: int = 0
    algorithm: dict[str, Any] = field(default_factory=dict[str, Any])
    diagnostics: dict[str, Any] = field(default_factory=dict[str, Any])
    alarms: dict[str, Any] = field(default_factory=dict[str, Any])
    stateful: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: list[str] = field(default_factory=list[str])
    best_value: float | None = None
    best_step: int | None = None
    waited: int = 0
    evaluation_due: bool = False
    """A stop dropped the evaluation of this step; resuming begins with it."""
    logs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


@dataclass(frozen=True)
class TrainOutcome:
    """How a run ended: `stopped` by a signal (resume it), or finished, perhaps early."""

    step: int
    stopped: bool
    best_step: int | None
    warnings: tuple[str, ...]
    warning_kinds: tuple[str, ...] = ()
    """The names of the warnings that were given."""


@dataclass(kw_only=True)
class Trainer:
    """One run in one folder. `identity` must not change between stop and resume."""

    run: Path
    algorithm: Algorithm
    step: Step
    evaluators: Sequence[Evaluator]
    settings: TrainingSettings
    steps: int
    identity: Identity
    progress: Progress
    stateful: Sequence[Stateful] = ()
    tracker: Tracker = field(default_factory=untracked)
    state: TrainerState = field(default_factory=TrainerState, init=False)

    def __post_init__(self) -> None:
        self.logs = {name: Log(self.run / f"{name}.jsonl") for name in ("metrics", "samples", "warnings")}
        self.timings = Log(self.run / "timings.jsonl")
        self.checkpoints = self.run / CHECKPOINTS
        self._schedule = SaveSchedule(self.settings.checkpoint_every, self.settings.checkpoint_minutes)
        self._saver = Saver(self.checkpoints, self.settings.keep_checkpoints, self.step.policy.model.device)
        self._saved: int | None = None
        self._unsaved = True
        self._stop: StopAsked = lambda: False
        self._until: int | None = None

    def train(self, *, resume: bool = True, stop: StopAsked = lambda: False, until: int | None = None) -> TrainOutcome:
        """Run to the end or until `stop()`, which is asked once per step, or stop after step `until`; the state is
        saved in each case. A `StopRequest` also ends an evaluation, which is then made when the run is resumed."""
        self._until = until
        self._stop = stop if world().size == 1 else lambda: world().any(stop())  # at one place, after a step
        resumed = resume and self._resume()
        self.tracker.begin(self.state.step, resumed=resumed)
        try:
            return self._train(resumed)
        except NonFiniteError as error:
            remedy = self._way_out(own_numbers=not isinstance(error, BrokenUpdateError))
            raise type(error)(error.what, where=error.where, remedy=remedy) from error
        finally:
            self.tracker.end()

    def _train(self, resumed: bool) -> TrainOutcome:
        if not resumed:
            if world().first:
                disk.remove(self.checkpoints)
            for log in (*self.logs.values(), self.timings):
                log.cut()
        try:
            self._all_steps(begin=not resumed)
        except Stopped:
            if self.state.step:
                self._save()
            self._saver.wait()
            return self._result(stopped=True)
        self._save()
        self._saver.wait()
        for log in self.logs.values():
            log.check()
        if self.settings.best_metric is not None:
            self._load_best()
        return self._result(stopped=False)

    def _all_steps(self, *, begin: bool) -> None:
        """Raises Stopped where a stop was asked for."""
        if begin or self.state.evaluation_due:
            self._evaluate(self.state.step)
        self.progress.begin("train", self.steps)
        self.progress.advance("train", self.state.step)
        try:
            while self.state.step < self.steps and not self._patience_spent():
                if self._until is not None and self.state.step >= self._until:
                    raise Stopped
                self._one_step(self.state.step)
                if self._stop():
                    raise Stopped
                if world().any(self._schedule.due(self.state.step) or self._saver.failed):
                    self._save()
        finally:
            self.progress.end("train")

    def _way_out(self, *, own_numbers: bool) -> str:
        """The remedy for numbers that are not finite. If nothing was updated since the checkpoint, the checkpoint
        itself is their cause (`own_numbers`), so it is set aside first."""
        self._saver.wait()
        if own_numbers and self._saved is not None and self._saved == self.state.step:
            if world().first:
                checkpoint.set_aside(self.checkpoints, self._saved)
            world().wait()
            saved = checkpoint.newest_state(self.checkpoints)
            self._saved = None if saved is None else saved[1]["trainer"]["step"]
        effect = "starts over" if self._saved is None else f"resumes from its checkpoint of step {self._saved}"
        return f"lower the learning rate, or look at these rows; the same command then {effect}"

    def _one_step(self, step: int) -> None:
        began = time.perf_counter()
        self._unsaved = True
        made = self.algorithm.round(step, self.state.algorithm)
        drawn = time.perf_counter()
        rate = self.step.policy.learning_rate
        metrics = self.step(made)
        for trainable in self.step.trainables:
            trainable.on_step_end()
        self.algorithm.observe(metrics, self.state.algorithm)
        for each in self.stateful:
            each.on_step_end(step + 1)
        self._log({"kind": "train", "step": step, **ordered(metrics), "learning_rate": rate})
        seconds = time.perf_counter() - began
        timing = pace(made, metrics, drawn - began, seconds)
        self.timings.write({"step": step, **timing})
        self.state.step = step + 1
        for warning in Diagnostics(self.state.diagnostics).check(step, metrics, made.parts[0].objective):
            self._record_warning(step, warning)
        shown = {k: v for k, v in (metrics | timing).items() if k in SHOWN}
        self.progress.advance("train", 1, **shown)
        if self._due(self.settings.evaluate_every) or self.state.step == self.steps:
            self._evaluate(self.state.step)

    def _log(self, row: Mapping[str, Any]) -> None:
        self.logs["metrics"].write(row)
        self.tracker.write(row)

    def _due(self, every: int | None) -> bool:
        return every is not None and self.state.step % every == 0

    def _record_warning(self, step: int, text: str) -> None:
        self.logs["warnings"].write({"step": step, "text": text})
        self._warn(text)

    def _warn(self, text: str) -> None:
        self.state.warnings.append(text)
        self.progress.warn(text)

    def _evaluate(self, step: int) -> None:
        if not self.evaluators:
            return
        self.state.evaluation_due = self._unsaved = True
        with droppable(self._stop):
            results = [evaluate() for evaluate in self.evaluators]
        self.state.evaluation_due = False
        figures: dict[str, float] = {}
        for result in results:
            figures.update(result.figures)
            for row in result.samples:
                self.logs["samples"].write({"step": step, **row})
        figures |= sample_figures([row for result in results for row in result.samples])
        self._log({"kind": "evaluation", "step": step, **figures})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if name.rpartition("/")[2] in TOLD)
        self.progress.note(f"step {step}: {shown}")
        for warning in alarms(step, figures, self.settings.alarms, self.state.alarms):
            self._record_warning(step, warning)
        self._remember_best(step, figures)

    def _remember_best(self, step: int, figures: Mapping[str, float]) -> None:
        name = self.settings.best_metric
        if name is None:
            return
        sign, name = (-1, name[1:]) if name.startswith("-") else (1, name)
        if name not in figures:
            raise CheckpointError(
                f"no evaluation gives {name!r}",
                where="training.best_metric",
                remedy=f"known here: {', '.join(sorted(figures))}",
            )
        value = sign * figures[name]
        if self.state.best_value is None or value > self.state.best_value:
            self.state.best_value, self.state.best_step, self.state.waited = value, step, 0
            self._save()
        else:
            self.state.waited += 1

    def _patience_spent(self) -> bool:
        return self.settings.patience is not None and self.state.waited >= self.settings.patience

    def _save(self) -> None:
        """Save the state as it is, unless it has been."""
        if not self._unsaved:
            return
        began = self._schedule.clock()
        self.state.logs = {name: log.mark() for name, log in self.logs.items()}
        self.state.stateful = {each.name: each.state_dict() for each in self.stateful}
        finished = self.state.step >= self.steps or self._patience_spent()
        state = {"trainer": vars(self.state), "identity": dict(self.identity.values), "finished": finished}
        tensors: dict[str, Mapping[str, Tensor]] = {k.name: kept for k in self.stateful if (kept := k.tensors())}
        for each in self.step.trainables:
            tensors |= {each.name: each.weights(), _optimizer_of(each.name): each.moments()}
        best = () if self.state.best_step is None else (self.state.best_step,)
        self._saver.save(self.state.step, tensors, state, protect=best)
        self._saved, self._unsaved = self.state.step, False
        self._schedule.took(began)

    def _resume(self) -> bool:
        """Load the newest valid checkpoint, if there is one."""
        found = checkpoint.newest(self.checkpoints, world())
        if found is None:
            return False
        for name, reason in found.skipped.items():
            self._warn(f"{name} was passed over: {reason}")
        adjusted = self.identity.changes(found.state, found.path)
        warned = self.state.warnings
        self.state = TrainerState(**found.state["trainer"])
        self.state.warnings += warned
        for each in self.step.trainables:
            weights, moments = (found.tensors(name, each.like) for name in (each.name, _optimizer_of(each.name)))
            each.restore(weights, moments, self.state.step)
        for each in self.stateful:
            mine = each.tensors()
            kept = found.tensors(each.name, mine.get) if mine else {}
            each.restore(kept, self.state.stateful[each.name])
        for name, log in self.logs.items():
            log.cut(self.state.logs[name])
        self._saved, self._unsaved = self.state.step, bool(adjusted)
        for change in adjusted:
            self._record_warning(self.state.step, f"from step {self.state.step} on: {change}")
        self.progress.note(f"resumed at step {self.state.step}")
        return True

    def _load_best(self) -> None:
        found = checkpoint.Checkpoint.open(self.checkpoints / f"step-{self.state.best_step}", world())
        self.step.policy.load_weights(found.tensors(self.step.policy.name, self.step.policy.like))
        self.progress.note(
            f"{self.settings.best_metric} was best at step {self.state.best_step}: its weights are the model"
        )

    def _result(self, *, stopped: bool) -> TrainOutcome:
        said = tuple(self.state.diagnostics.get("said", ()))
        return TrainOutcome(self.state.step, stopped, self.state.best_step, tuple(self.state.warnings), said)


def _optimizer_of(name: str) -> str:
    """The name of a trainable's moments in a checkpoint."""
    return f"{name}-optimizer"
