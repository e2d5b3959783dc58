"""Many small runs: each cell is played once, looks are evenly spread, a run that is not finite keeps what it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.cells import naming, play, run
from twofold.errors import NonFiniteError


@dataclass(frozen=True)
class Named:
    name: str
    sections: dict[str, int]


@dataclass(frozen=True)
class Square:
    method: Named
    learning_rate: float = 0.5
    seed: int = 0


class Squares:
    """A bench that squares, and counts how often."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.played = 0

    def known(self, cell: Square) -> bool:
        return cell.method.name in self.found

    def cell(self, cell: Square) -> dict[str, Any]:
        if not self.known(cell):
            self.played += 1
            self.found[cell.method.name] = {"value": cell.method.sections["x"] ** 2, "cpu": 1.0}
        return self.found[cell.method.name]


def squares() -> Squares:
    return Squares()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cell_is_played_once_and_results_keep_their_order(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    bench, cells = Squares(), [Square(Named(str(x), {"x": x})) for x in (3, 1, 3, 2)]
    bench.cell(cells[1])
    found = play(bench, cells, lambda r: f"value {r['value']}", workers=workers, make=partial(squares))
    assert [r["value"] for r in found] == [9, 1, 9, 4]
    assert bench.played == 3
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split("] ")[1] for line in lines) == [
        "2, rate 0.5, seed 0: value 4 (1 CPU s)", "3, rate 0.5, seed 0: value 9 (1 CPU s)",
    ]  # fmt: skip


class Slope:
    """A run whose loss is its step, down to `finite` steps; it has what it trains as a step does."""

    def __init__(self, finite: int) -> None:
        self.trainables = [SimpleNamespace(on_step_end=lambda: self.seen.append(10))]
        self.finite, self.seen = finite, list[int]()

    def __call__(self, at: int) -> dict[str, float]:
        if at >= self.finite:
            raise NonFiniteError("loss is nan")
        return {"loss": float(at)}


def a_loop(finite: int) -> Any:
    step = Slope(finite)
    algorithm = SimpleNamespace(round=lambda at, state: at, observe=lambda metrics, state: step.seen.append(1))
    keeper = SimpleNamespace(on_step_end=lambda done: step.seen.append(100 * done))
    return SimpleNamespace(step=step, algorithm=algorithm, stateful=[keeper], steps=10)


def test_looks_are_evenly_spread_and_the_last_is_at_the_end() -> None:
    loop = a_loop(99)
    done = run(loop, 4, lambda spent: {"told": spent >= 0})
    assert [look["step"] for look in done.looks] == [2, 5, 8, 10]
    assert done.watched == {"loss": 4.5}
    assert loop.step.seen[:6] == [10, 1, 100, 10, 1, 200]
    assert (done.failed, len(loop.step.seen)) == ("", 30)


def test_a_run_that_stops_being_finite_keeps_its_looks() -> None:
    done = run(a_loop(6), 4, lambda spent: {})
    assert [look["step"] for look in done.looks] == [2, 5]
    assert "loss is nan" in done.failed


def test_a_sign_is_replaced_wherever_it_stands() -> None:
    assert naming({"a": {"b": "SIGN", "c": 1}, "d": "x"}, "SIGN", "here") == {"a": {"b": "here", "c": 1}, "d": "x"}
