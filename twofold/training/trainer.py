"""The loop around the step: logging, evaluation, checkpoints, early stopping, resume. It knows no algorithm.

A run that was stopped anywhere and resumed ends with the same bytes as one that was not: order and noise are functions
of (seed, step), the logs are cut back to the checkpoint, and a checkpoint is whole or absent (`checkpoint.py`).
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from twofold.errors import CheckpointError
from twofold.models.packed_model import HeldModel
from twofold.models.packing import Packing
from twofold.progress import Progress
from twofold.settings import require, settings
from twofold.training import checkpoint
from twofold.training.diagnostics import Watch
from twofold.training.metrics import Log, ordered
from twofold.training.optim import AdamW, make_schedule
from twofold.training.stateful import Keeper
from twofold.training.step import Round, Step
from twofold.training.track import Tracker, Tracking, untracked

SHOWN = ("loss", "margin", "accuracy", "gap")
TOLD = ("accuracy", "margin", "strict", "flexible")


@settings
class TrainingSettings:
    """How long, how much at once, and how often to look and to save."""

    steps: int | None = None
    """Optimizer steps; by default what `epochs` asks for."""
    epochs: float = 1.0
    batch_size: int = 32
    """Rows (pairs, rankings, labelled completions, demonstrations) per optimizer step, however they are packed."""
    packing: Packing = field(default_factory=Packing)
    evaluate_every: int | None = None
    """Steps between evaluations; by default before the first step and after the last."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default ten in a run."""
    keep: int = 2
    """Checkpoints kept, the best one not counted."""
    best: str | None = None
    """Evaluation figure whose best step becomes the model, such as `exact_match/strict` (the higher, the better)."""
    patience: int | None = None
    """Evaluations without a better `best` before the run stops."""
    track: Tracking = "none"
    """Where the metrics go besides metrics.jsonl; keys from the environment only (docs/reports.md)."""

    def __post_init__(self) -> None:
        counts = (self.steps, self.evaluate_every, self.checkpoint_every, self.patience, self.keep, self.batch_size)
        require(all(c is None or c >= 1 for c in counts), "steps, sizes and intervals must be ≥ 1")
        require(self.epochs > 0, "epochs must be > 0")
        require(self.patience is None or self.best is not None, "patience needs `best`, the figure to be patient about")

    def total_steps(self, num: int, passes: int = 1) -> int:
        """Steps for `num` groups, of which each is used in `passes` steps before the next ones are met."""
        return self.steps or passes * max(1, math.ceil(self.epochs * num / self.batch_size))


class Algorithm(Protocol):
    """Who plays in which step. What it must remember between steps it keeps in `state`, as JSON."""

    def round(self, step: int, state: dict[str, Any]) -> Round: ...

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Evaluation:
    """Figures, and rows for samples.jsonl."""

    figures: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]] = ()


Evaluator = Callable[[], Evaluation]


@dataclass
class Memory:
    """What the loop remembers beside weights and optimizer; all of it JSON."""

    step: int = 0
    algorithm: dict[str, Any] = field(default_factory=dict[str, Any])
    watch: dict[str, Any] = field(default_factory=dict[str, Any])
    keepers: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: list[str] = field(default_factory=list[str])
    best_value: float | None = None
    best_step: int | None = None
    waited: int = 0
    logs: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `stopped` by a signal (resume it), or finished, perhaps early."""

    step: int
    stopped: bool
    best_step: int | None
    warnings: tuple[str, ...]
    said: tuple[str, ...] = ()
    """What the watch warned of, by its own names."""


@dataclass(kw_only=True)
class Loop:
    """One run in one folder. `identity` is what must not change between stop and resume (settings, data, tokenizer)."""

    run: Path
    policy: HeldModel
    algorithm: Algorithm
    step: Step
    evaluators: Sequence[Evaluator]
    optimizer: AdamW
    settings: TrainingSettings
    steps: int
    identity: Mapping[str, Any]
    progress: Progress
    keepers: Sequence[Keeper] = ()
    tracker: Tracker = field(default_factory=untracked)
    memory: Memory = field(default_factory=Memory, init=False)

    def __post_init__(self) -> None:
        self.parameters = self.policy.trainable()
        self.logs = {name: Log(self.run / f"{name}.jsonl") for name in ("metrics", "samples")}
        self.timings = Log(self.run / "timings.jsonl")
        self.checkpoints = self.run / "checkpoints"

    def train(self, *, resume: bool = True, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Run to the end or until `stop()`, which is asked once per step; the state is saved either way."""
        resumed = resume and self._resume()
        self.tracker.begin(self.memory.step, resumed=resumed)
        try:
            return self._train(resumed, stop)
        finally:
            self.tracker.end()

    def _train(self, resumed: bool, stop: Callable[[], bool]) -> Outcome:
        if not resumed:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            for log in (*self.logs.values(), self.timings):
                log.cut(0)
            self._evaluate(0)
        self.schedule = make_schedule(self.optimizer, self.step.optimizer, self.steps, self.memory.step)
        self.progress.begin("train", self.steps)
        self.progress.advance("train", self.memory.step)
        while self.memory.step < self.steps and not self._patience_spent():
            self._one_step(self.memory.step)
            stopped = stop()
            if stopped or self._due(self.settings.checkpoint_every or max(1, self.steps // 10)):
                self._save()
            if stopped:
                self.progress.end("train")
                return self._outcome(stopped=True)
        self.progress.end("train")
        self._save()
        if self.settings.best is not None:
            self._load_best()
        return self._outcome(stopped=False)

    def _one_step(self, step: int) -> None:
        began = time.perf_counter()
        round = self.algorithm.round(step, self.memory.algorithm)
        drawn = time.perf_counter()
        rate = self.schedule.get_last_lr()[0]
        metrics = self.step(round)
        self.schedule.step()
        self.algorithm.observe(metrics, self.memory.algorithm)
        for keeper in self.keepers:
            keeper.after(step + 1)
        self._log({"kind": "train", "step": step, **ordered(metrics), "learning_rate": rate})
        seconds = time.perf_counter() - began
        pace = {"drafts_per_second": metrics["drafts"] / max(drawn - began, 1e-9)} if "drafts" in metrics else {}
        self.timings.write({"step": step, "seconds": round_to(seconds), **{k: round_to(v) for k, v in pace.items()}})
        self.memory.step = step + 1
        for warning in Watch(self.memory.watch).look(step, metrics):
            self._warn(warning)
        self.progress.advance("train", 1, **{k: metrics[k] for k in SHOWN if k in metrics}, **pace)
        if self._due(self.settings.evaluate_every) or self.memory.step == self.steps:
            self._evaluate(self.memory.step)

    def _log(self, row: Mapping[str, Any]) -> None:
        self.logs["metrics"].write(row)
        self.tracker.write(row)

    def _due(self, every: int | None) -> bool:
        return every is not None and self.memory.step % every == 0

    def _warn(self, text: str) -> None:
        self.memory.warnings.append(text)
        self.progress.warn(text)

    def _evaluate(self, step: int) -> None:
        if not self.evaluators:
            return
        figures: dict[str, float] = {}
        for evaluate in self.evaluators:
            result = evaluate()
            figures.update(result.figures)
            for row in result.samples:
                self.logs["samples"].write({"step": step, **row})
        self._log({"kind": "evaluation", "step": step, **figures})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if name.rpartition("/")[2] in TOLD)
        self.progress.note(f"step {step}: {shown}")
        self._remember_best(step, figures)

    def _remember_best(self, step: int, figures: Mapping[str, float]) -> None:
        name = self.settings.best
        if name is None:
            return
        if name not in figures:
            raise CheckpointError(
                f"no evaluation gives {name!r}",
                where="training.best",
                remedy=f"known here: {', '.join(sorted(figures))}",
            )
        if self.memory.best_value is None or figures[name] > self.memory.best_value:
            self.memory.best_value, self.memory.best_step, self.memory.waited = figures[name], step, 0
            self._save()
        else:
            self.memory.waited += 1

    def _patience_spent(self) -> bool:
        return self.settings.patience is not None and self.memory.waited >= self.settings.patience

    def _save(self) -> None:
        self.memory.logs = {name: log.size() for name, log in self.logs.items()}
        self.memory.keepers = {keeper.name: keeper.numbers() for keeper in self.keepers}
        state = {"memory": vars(self.memory), "identity": self.identity}
        tensors = {
            "weights": {n: p.detach() for n, p in self.parameters.items()},
            "optimizer": self._moments(),
            **{keeper.name: kept for keeper in self.keepers if (kept := keeper.tensors())},
        }
        best = () if self.memory.best_step is None else (self.memory.best_step,)
        checkpoint.save(self.checkpoints, self.memory.step, tensors, state, keep=self.settings.keep, protect=best)

    def _moments(self) -> dict[str, Tensor]:
        """AdamW's state as named tensors: `<parameter>/<moment>`."""
        state = self.step.optimizer.state
        return {f"{n}/{k}": v for n, p in self.parameters.items() for k, v in state.get(p, {}).items()}

    def _resume(self) -> bool:
        """Take up the newest valid checkpoint, if there is one."""
        found = checkpoint.newest(self.checkpoints)
        if found is None:
            return False
        for name, reason in found.skipped.items():
            self._warn(f"{name} was passed over: {reason}")
        _refuse_drift(found.state["identity"], self.identity, found.path)
        warned = self.memory.warnings
        self.memory = Memory(**found.state["memory"])
        self.memory.warnings += warned
        self._take_weights(found)
        moments = found.tensors("optimizer")
        for name, parameter in self.parameters.items():
            mine = {k.rpartition("/")[2]: v for k, v in moments.items() if k.rpartition("/")[0] == name}
            if mine:
                self.step.optimizer.state[parameter] = {
                    k: v if k == "step" else v.to(parameter.device) for k, v in mine.items()
                }
        for keeper in self.keepers:
            kept = found.tensors(keeper.name) if keeper.tensors() else {}
            keeper.restore(kept, self.memory.keepers[keeper.name])
        for name, log in self.logs.items():
            log.cut(self.memory.logs[name])
        self.progress.note(f"resumed at step {self.memory.step}")
        return True

    def _take_weights(self, found: checkpoint.Checkpoint) -> None:
        weights = found.tensors("weights")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def _load_best(self) -> None:
        found = checkpoint.Checkpoint.open(self.checkpoints / f"step-{self.memory.best_step}")
        self._take_weights(found)
        self.progress.note(f"{self.settings.best} was best at step {self.memory.best_step}: its weights are the model")

    def _outcome(self, *, stopped: bool) -> Outcome:
        said = tuple(self.memory.watch.get("said", ()))
        return Outcome(self.memory.step, stopped, self.memory.best_step, tuple(self.memory.warnings), said)


def round_to(value: float, digits: int = 4) -> float:
    """`value` to `digits` decimal places."""
    return float(f"{value:.{digits}f}")


def _refuse_drift(then: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """A run resumes only as what it was."""
    changed = [k for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
    if changed:
        shown = "; ".join(f"{k}: {then.get(k)!r} → {now.get(k)!r}" for k in changed[:5])
        raise CheckpointError(
            f"the run has changed since its checkpoint: {shown}",
            where=str(where),
            remedy="put it back, choose another run folder, or start over with --no-resume",
        )
