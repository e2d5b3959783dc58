"""Many small runs: each is trained once, by one of several workers, and stored by a digest of all that decides it."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from experiments.harness.files import cached
from twofold.errors import NonFiniteError
from twofold.training.trainer import Trainer

Result = dict[str, Any]
Score = Callable[[Result], float]
LETTERS = str.maketrans({"α": "alpha", "β": "beta", "γ": "gamma", "×": "x"})


class Cell(Protocol):
    """A run by all that decides it; its method has a name."""

    @property
    def method(self) -> Any: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def seed(self) -> int: ...


C = TypeVar("C", bound=Cell)
C_contra = TypeVar("C_contra", bound=Cell, contravariant=True)


def digest(decides: object) -> str:
    """Stands for all that decides a result: a text, or what JSON can say."""
    text = decides if isinstance(decides, str) else json.dumps(decides, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]


def digest_of_files(*paths: Path) -> str:
    """Identifies models and data by their bytes."""
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in paths)).hexdigest()[:16]


def folder_name(cell: Cell, key: str) -> str:
    """A name to read, and the digest to find it by."""
    slug = re.sub(r"[^\w.]+", "-", cell.method.name.translate(LETTERS)).strip("-").lower()
    return f"{slug}-{cell.learning_rate:g}-{cell.seed}-{key}"


@dataclass(frozen=True)
class Store:
    """A folder of results, each with the seconds that it took."""

    root: Path

    def path(self, name: str) -> Path:
        return self.root / name / "result.json"

    def result(self, name: str, make: Callable[[], Result]) -> Result:
        """The result called `name`, made where it is missing."""

        def timed() -> Result:
            began, spent = time.perf_counter(), time.process_time()
            return {**make(), "wall": time.perf_counter() - began, "cpu": time.process_time() - spent}

        return cached(self.path(name), timed)


class Bench(Protocol[C_contra]):
    """Trains cells, and has a store of what came of them."""

    @property
    def store(self) -> Store: ...
    def name(self, cell: C_contra) -> str: ...
    def train(self, cell: C_contra) -> Result: ...


@dataclass
class Field(Generic[C]):
    """Cells of a bench, each trained once, by workers that `make` a bench of their own; a line shows the `summary`."""

    bench: Bench[C]
    make: Callable[[], Bench[C]]
    summary: Callable[[Result], str]
    workers: int = 1

    def play(self, cells: Sequence[C]) -> list[Result]:
        """The results of `cells`, in their order; those that are missing are trained, with a line for each."""
        paths = {self.bench.store.path(self.bench.name(cell)): cell for cell in cells}
        missing = [cell for path, cell in paths.items() if not path.is_file()]
        for number, (cell, result) in enumerate(self._trained(missing), 1):
            which = f"[{number}/{len(missing)}] {cell.method.name}, rate {cell.learning_rate:g}, seed {cell.seed}"
            print(f"{which}: {self.summary(result)} ({result['cpu']:.0f} CPU s)", flush=True)
        return [_result(self.bench, cell) for cell in cells]

    def _trained(self, cells: Sequence[C]) -> Iterator[tuple[C, Result]]:
        if self.workers == 1:
            yield from ((cell, _result(self.bench, cell)) for cell in cells)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, initializer=_begin, initargs=(self.make,)) as pool:
            running = {pool.submit(_work, cell): cell for cell in cells}
            for done in as_completed(running):
                yield running[done], done.result()

    def scores(self, trials: Mapping[str, Sequence[C]], score: Score) -> dict[str, dict[str, float]]:
        """By name and learning rate the score of the trial that chooses the rate; of one rate nothing is tried."""
        self.play([cell for cells in trials.values() if len(cells) > 1 for cell in cells])
        return {
            name: {f"{c.learning_rate:g}": score(_result(self.bench, c)) if len(cells) > 1 else 0.0 for c in cells}
            for name, cells in trials.items()
        }


def best_rate(scores: Mapping[str, float]) -> float:
    """The learning rate of the best score, the lower one of equals."""
    return float(min(scores, key=lambda rate: (-scores[rate], float(rate))))


def _result(bench: Bench[C], cell: C) -> Result:
    return bench.store.result(bench.name(cell), lambda: bench.train(cell))


_bench: list[Bench[Any]] = []  # a worker's own


def _begin(make: Callable[[], Bench[Any]]) -> None:
    torch.set_num_threads(1)
    _bench.append(make())


def _work(cell: Any) -> Result:
    return _result(_bench[0], cell)


@dataclass
class Run:
    """What a run left: its looks, its steps with their processor seconds, why it stopped early."""

    looks: list[Result] = field(default_factory=list[Result])
    metrics: list[Mapping[str, float]] = field(default_factory=list[Mapping[str, float]])
    """Of each step."""
    steps: int = 0
    spent: float = 0.0
    failed: str = ""


def run(
    loop: Trainer, looks: int, look: Callable[[float], Result],
    counting: Callable[[], AbstractContextManager[Any]] = nullcontext,
    enough: Callable[[], bool] = lambda: False,
) -> Run:  # fmt: skip
    """Play `loop` to its end, with `looks` evenly spread, the last one at the end; `look` takes the seconds spent. It
    ends earlier after a step that is `enough`. No checkpoint is written. A run that stops being finite keeps the looks
    it has, and says so in `failed`."""
    done, state = Run(), dict[str, Any]()
    due = {round(loop.steps * (i + 1) / looks) for i in range(looks)}
    for at in range(loop.steps):
        began = time.process_time()
        try:
            with counting():
                metrics = loop.step(loop.algorithm.round(at, state))
        except NonFiniteError as error:
            done.failed = str(error)
            break
        for trainable in loop.step.trainables:
            trainable.on_step_end()
        loop.algorithm.observe(metrics, state)
        done.metrics.append(dict(metrics))
        for each in loop.stateful:
            each.on_step_end(at + 1)
        done.spent += time.process_time() - began
        done.steps += 1
        if at + 1 in due:
            done.looks.append({"step": at + 1, **look(done.spent)})
        if enough():
            break
    return done
