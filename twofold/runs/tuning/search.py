"""The search: jobs of all methods, rung by rung, by any number of processes that share a folder.

Which jobs are due follows only from the results on disk. So a search that was killed continues where it was, and
processes need no other connection than the folder: each takes the first job that no other one runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from twofold.errors import BusyError
from twofold.progress import Progress
from twofold.runs.tuning.halving import ranking, survivors
from twofold.runs.tuning.measure import Meter
from twofold.runs.tuning.plan import Method, Plan, Trial
from twofold.runs.tuning.trial import Job, Quiet, Result, play
from twofold.shards import Shard
from twofold.stopping import StopAsked, Stopped, droppable

GLANCE = 1.0
"""Seconds between looks at a folder in which other processes work."""
BAR = "trials"


@dataclass(frozen=True)
class Rung:
    """Trials that were measured after as many steps, and those that continue."""

    place: int
    trials: Sequence[Trial]
    results: Mapping[int, Sequence[Result]]
    """By the number of a trial, over its seeds."""
    on: Sequence[int]

    def score(self, number: int) -> float | None:
        """The mean of a trial over seeds and rows; None if a seed failed."""
        return score(self.results[number])


@dataclass(frozen=True)
class Standing:
    """A method as far as it is: its complete rungs, and the jobs that are due. If all trials of a rung are out, the
    best one that was dropped before is continued; without one the method ends there."""

    method: Method
    size: int | None
    rungs: Sequence[Rung]
    due: Sequence[Job]

    @property
    def winner(self) -> Trial:
        """The trial that is left at the last rung, or the first one if all are out."""
        (number,) = self.rungs[-1].on
        return next(trial for trial in self.rungs[-1].trials if trial.number == number)


def score(results: Sequence[Result]) -> float | None:
    """The mean over seeds and rows; None if a seed failed."""
    if any(result.values is None for result in results):
        return None
    return fmean(value for result in results for value in result.values or ())


@dataclass
class Search:
    """The search of one process; `shard` is its place among others."""

    plan: Plan
    progress: Progress
    quiet: Quiet
    """Receives the progress of trials."""
    stop: StopAsked = lambda: False
    shard: Shard = field(default_factory=lambda: Shard(0, 1))
    _known: dict[Path, Result] = field(default_factory=dict[Path, Result], init=False)

    @property
    def meter(self) -> Meter:
        """Measures by the figure of the tune file; each process records its measurements by itself."""
        plan = self.plan
        ledger = plan.out / "measurements" / f"{self.shard.index:05}.jsonl"
        return Meter(plan.settings.evaluate, ledger, plan.reference, self.quiet)

    def run(self) -> list[Standing]:
        """All methods to the last rung. Raises Stopped if a stop was requested."""
        self.progress.begin(BAR, None)
        meter = self.meter
        try:
            while due := [job for standing in self.standings() for job in standing.due]:
                turn = self.shard.index * len(due) // self.shard.count
                if not any(self._done(job, meter) for job in (*due[turn:], *due[:turn])):
                    with droppable(self.stop):
                        time.sleep(GLANCE)
                if self.stop():
                    raise Stopped
        finally:
            self.progress.end(BAR)
        return self.standings()

    def standings(self) -> list[Standing]:
        """Every method as far as it is, by the results on disk."""
        return [self._standing(method) for method in self.plan.methods]

    def result(self, job: Job) -> Result | None:
        """The result of a job; None if it is not done."""
        path = job.file(self.plan.out)
        if path not in self._known and (result := Result.read(path)) is not None:
            self._known[path] = result
        return self._known.get(path)

    def _done(self, job: Job, meter: Meter) -> bool:
        """Whether the job was done here."""
        words = f"{job.method}: {job.trial.point.words}, seed {job.seed}, to step {job.step} of {job.trial.steps[-1]}"
        try:
            result = play(job, self.plan, meter, self.stop)
        except BusyError:
            return False
        self._known[job.file(self.plan.out)] = result
        value = f"out: {result.failure}"
        if result.values is not None:
            far = "" if result.kl is None else f", KL {result.kl:.1f} nats"
            value = f"{self.plan.settings.evaluate.name} {fmean(result.values):.3f}{far}"
        self.progress.note(f"{words}: {value}")
        self.progress.advance(BAR)
        return True

    def _standing(self, method: Method) -> Standing:
        seeds, halving = self.plan.settings.seeds, self.plan.halving
        size = self.plan.size(method, self._tokens_per_step(method))
        if size is None:
            first = Job(method.name, method.trials[0], seeds[0], method.trials[0].steps[0])
            return Standing(method, None, (), [first])
        rungs: list[Rung] = []
        trials = list(method.trials[:size])
        dropped: list[Trial] = []
        sizes = [*halving.sizes(size), 1]
        for place in halving.measured(size):
            results, due = self._results(method, trials, place)
            while not due and dropped and all(score(each) is None for each in results.values()):
                trials.append(dropped.pop(0))
                results, due = self._results(method, trials, place)
            if due:
                return Standing(method, size, rungs, due)
            values = {number: score(each) for number, each in results.items()}
            sound = any(value is not None for value in values.values())
            on = survivors(values, sizes[place + 1] if sound else 1)
            rungs.append(Rung(place, trials, results, on))
            if not sound:
                break
            by_number = {trial.number: trial for trial in trials}
            rest = [by_number[n] for n in ranking(values) if n not in on and values[n] is not None]
            trials, dropped = [trial for trial in trials if trial.number in on], [*rest, *dropped]
        return Standing(method, size, rungs, ())

    def _results(
        self, method: Method, trials: Sequence[Trial], place: int
    ) -> tuple[dict[int, list[Result]], list[Job]]:
        """The results of trials at a rung by their numbers, over all seeds; and the jobs that are not done."""
        results: dict[int, list[Result]] = {}
        due: list[Job] = []
        for trial in trials:
            jobs = [Job(method.name, trial, seed, trial.steps[place]) for seed in self.plan.settings.seeds]
            results[trial.number] = [result for job in jobs if (result := self.result(job)) is not None]
            due += [job for job in jobs if self.result(job) is None]
        return results, due

    def _tokens_per_step(self, method: Method) -> float | None:
        """Tokens of a step in the first trial of a method, which is run first if the budget is in tokens."""
        if self.plan.settings.budget.tokens is None:
            return None
        trial = method.trials[0]
        result = self.result(Job(method.name, trial, self.plan.settings.seeds[0], trial.steps[0]))
        return None if result is None else max(1.0, result.tokens / max(1, result.step))


def spent(standing: Standing) -> dict[str, Any]:
    """Steps, tokens and seconds of all trials of a method, each of which counts up to its last rung."""
    last: dict[tuple[int, int], Result] = {}
    for rung in standing.rungs:
        for number, results in rung.results.items():
            last |= {(number, seed): result for seed, result in enumerate(results)}
    every = last.values()
    return {
        "steps": sum(result.step for result in every),
        "tokens": sum(result.tokens for result in every),
        "seconds": round(sum(result.seconds for result in every), 1),
    }
