"""What experiments of many small runs share: cells played by several workers, a run with looks on its way."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from twofold.batch import Group
from twofold.errors import NonFiniteError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.training.trainer import Trainer

Result = dict[str, Any]


class Method(Protocol):
    @property
    def name(self) -> str: ...


class Cell(Protocol):
    """A run by all that decides it."""

    @property
    def method(self) -> Method: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def seed(self) -> int: ...


C = TypeVar("C", bound=Cell)
C_contra = TypeVar("C_contra", bound=Cell, contravariant=True)


class Bench(Protocol[C_contra]):
    """Plays cells, and keeps what came of them."""

    def known(self, cell: C_contra) -> bool: ...
    def cell(self, cell: C_contra) -> Result: ...


def play(
    bench: Bench[C], cells: Sequence[C], told: Callable[[Result], str],
    *, workers: int = 1, make: Callable[[], Bench[C]],
) -> list[Result]:  # fmt: skip
    """The results of `cells`, in their order; those that are missing are played, each once, by `workers` processes with
    a bench of their own (`make`, which can be pickled). A line for each, in the words of `told`."""
    missing = [cell for i, cell in enumerate(cells) if not bench.known(cell) and cell not in cells[:i]]
    for number, (cell, found) in enumerate(_played(bench, missing, workers, make), 1):
        which = f"{cell.method.name}, rate {cell.learning_rate:g}, seed {cell.seed}"
        print(f"[{number}/{len(missing)}] {which}: {told(found)} ({found['cpu']:.0f} CPU s)", flush=True)
    return [bench.cell(cell) for cell in cells]


def _played(
    bench: Bench[C], cells: Sequence[C], workers: int, make: Callable[[], Bench[C]]
) -> Iterator[tuple[C, Result]]:
    if workers == 1:
        yield from ((cell, bench.cell(cell)) for cell in cells)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(make,)) as pool:
        running = {pool.submit(_work, cell): cell for cell in cells}
        for done in as_completed(running):
            yield running[done], done.result()


_bench: list[Bench[Any]] = []
"""A worker's own."""


def _begin(make: Callable[[], Bench[Any]]) -> None:
    torch.set_num_threads(1)
    _bench.append(make())


def _work(cell: Any) -> Result:
    return _bench[0].cell(cell)


@dataclass
class Run:
    """What a run left: its looks, the processor seconds of its steps, the mean of each metric, why it stopped early."""

    looks: list[Result] = field(default_factory=list[Result])
    spent: float = 0.0
    watched: dict[str, float] = field(default_factory=dict[str, float])
    failed: str = ""


def run(
    loop: Trainer, looks: int, look: Callable[[float], Result],
    counting: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Run:  # fmt: skip
    """Play `loop` to its end, with `looks` evenly spread, the last one at the end; `look` is told the seconds spent.

    No checkpoint is written. A run that stops being finite keeps the looks it has, and says so in `failed`.
    """
    done, state, watched = Run(), dict[str, Any](), dict[str, list[float]]()
    due = {round(loop.steps * (i + 1) / looks) for i in range(looks)}
    for at in range(loop.steps):
        began = time.process_time()
        try:
            with counting():
                metrics = loop.step(loop.algorithm.round(at, state))
        except NonFiniteError as error:
            done.failed = str(error)
            return done
        for trainable in loop.step.trainables:
            trainable.on_step_end()
        loop.algorithm.observe(metrics, state)
        for keeper in loop.stateful:
            keeper.on_step_end(at + 1)
        done.spent += time.process_time() - began
        for name, value in metrics.items():
            watched.setdefault(name, []).append(value)
        if at + 1 in due:
            done.looks.append({"step": at + 1, **look(done.spent)})
    done.watched = {name: sum(values) / len(values) for name, values in watched.items()}
    return done


def timed(make: Callable[[], Result]) -> Result:
    """What `make` makes, and the seconds that took."""
    began, spent = time.perf_counter(), time.process_time()
    return {**make(), "wall": time.perf_counter() - began, "cpu": time.process_time() - spent}


def drift(policy: Policy, pairs: Sequence[Group], packing: Packing) -> tuple[Tensor, Tensor]:
    """log π/π_ref of the chosen and of the rejected answers of `pairs`, which have a reference's column [n]; nats."""
    sums = [
        [(x - b.token_columns["ref_logp"]).double().sum() for x, b in zip(row, g.branches, strict=True)]
        for row, g in zip(policy.logps(pairs, packing), pairs, strict=True)
    ]
    chosen, rejected = torch.tensor(sums, dtype=torch.float64).unbind(1)
    return chosen, rejected


def naming(sections: Any, sign: str, path: str) -> Any:
    """The sections of a recipe with `path` wherever `sign` stands."""
    if isinstance(sections, Mapping):
        return {name: naming(value, sign, path) for name, value in cast("Mapping[str, Any]", sections).items()}
    return sections.replace(sign, path) if isinstance(sections, str) else sections
