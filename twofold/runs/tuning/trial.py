"""One trial at one rung: an ordinary run that is trained up to a step, and measured there.

The run has the steps and the schedule of the whole recipe. It stops after the rung's step as by a signal, and the next
rung resumes it. So the run of a trial that reaches the last rung has the same bytes as `twofold train` of its recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold import disk
from twofold.errors import NonFiniteError
from twofold.locks import exclusive
from twofold.models.load import save_policy
from twofold.progress import Progress
from twofold.runs.train import RunOptions, train_recipe
from twofold.runs.tuning.measure import Meter
from twofold.runs.tuning.plan import Plan, Trial
from twofold.stopping import StopAsked, Stopped, droppable

RUNG_MODEL = "rung-model"
"""The weights at a rung, in the folder of a run, until they are measured."""


@dataclass(frozen=True)
class Job:
    """A trial with a seed, to be trained up to a step and measured there."""

    method: str
    trial: Trial
    seed: int
    step: int

    def file(self, out: Path) -> Path:
        """The file of its result."""
        return out / "trials" / self.trial.key / f"seed-{self.seed}.step-{self.step}.json"


@dataclass(frozen=True)
class Result:
    """A job that is done. `values` are the figures of the rows, None for a trial that is out: `failure` has the reason.
    `tokens` and `seconds` are those of training from its first step. `kl` is measured if it has a limit, nats."""

    values: list[float] | None
    step: int
    tokens: int
    seconds: float
    failure: str = ""
    kl: float | None = None

    @classmethod
    def read(cls, path: Path) -> Result | None:
        """The result in a file; None if the job is not done."""
        row = disk.read_signed(path, about=path.name)
        return None if row is None else cls(**row)

    def write(self, path: Path) -> None:
        disk.write_signed(path, vars(self), about=path.name)


@dataclass
class Quiet:
    """Shows the bars of a trial, and each warning once. Notes of runs are not shown."""

    progress: Progress
    seen: set[str] = field(default_factory=set[str])

    def begin(self, task: str, total: int | None = None) -> None:
        self.progress.begin(task, total)

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.progress.advance(task, steps, **figures)

    def end(self, task: str) -> None:
        self.progress.end(task)

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        if message not in self.seen:
            self.seen.add(message)
            self.progress.warn(message)


def play(job: Job, plan: Plan, meter: Meter, stop: StopAsked) -> Result:
    """Do a job. Raises BusyError if another process does it, and Stopped if a stop was requested; what was trained
    until then is resumed by the next call."""
    path = job.file(plan.out)
    disk.make_folder(path.parent)
    with exclusive(path.with_suffix(".lock"), "another process runs this trial"):
        if (known := Result.read(path)) is not None:
            return known
        result = _played(job, plan, meter, stop)
        result.write(path)
    return result


def _played(job: Job, plan: Plan, meter: Meter, stop: StopAsked) -> Result:
    recipe = job.trial.seeded(job.seed, plan.out)
    folder = Path(recipe.run)
    until = None if job.step >= job.trial.steps[-1] else job.step
    options = RunOptions(progress=meter.progress, stop=stop, command="twofold tune", until=until)
    try:
        trained = train_recipe(recipe, options)
    except NonFiniteError as error:
        return Result(None, job.step, *_spent(folder), error.what)
    if trained.outcome.stopped and trained.outcome.step < job.step:
        raise Stopped
    model, step = folder, trained.outcome.step
    with droppable(stop):
        if trained.outcome.stopped:
            model = folder / RUNG_MODEL
            save_policy(trained.policy, trained.tokenizer, model, sealed=False)
        del trained
        result = _measured(str(model), step, _spent(folder), plan, meter)
    disk.remove(folder / RUNG_MODEL)
    return result


def _measured(model: str, step: int, cost: tuple[int, float], plan: Plan, meter: Meter) -> Result:
    """The figure of a model, unless it is too far from the reference."""
    most, kl = plan.settings.evaluate.max_kl, None
    if most is not None:
        kl = meter.kl(model, plan.development)
        if not kl <= most:  # also where it is not a number
            return Result(None, step, *cost, f"KL {kl:.1f} nats > max_kl {most:g}", kl)
    return Result(meter.values(model, plan.development), step, *cost, kl=kl)


def step_costs(run: Path) -> dict[int, Mapping[str, Any]]:
    """The lines of a run's timings by step. A step that was repeated after a stop counts once."""
    rows: dict[int, Mapping[str, Any]] = {}
    path = run / "timings.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last line of a process that was killed
        rows[int(row["step"])] = row
    return rows


def _spent(run: Path) -> tuple[int, float]:
    """Tokens and seconds of a run's steps."""
    rows = step_costs(run).values()
    return int(sum(row["tokens"] for row in rows)), float(sum(row["seconds"] for row in rows))
