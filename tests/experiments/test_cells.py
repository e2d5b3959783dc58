"""Many small runs: each cell is played once, looks are evenly spread, a run that is not finite keeps what it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from experiments.harness.cells import Field, Store, best_rate, digest, folder_name, run
from experiments.harness.recipes import replaced
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

    def __init__(self, root: Path) -> None:
        self.store, self.trained = Store(root), 0

    def name(self, cell: Square) -> str:
        return folder_name(cell, "key")

    def train(self, cell: Square) -> dict[str, Any]:
        self.trained += 1
        return {"value": cell.method.sections["x"] ** 2}


def field(root: Path, workers: int = 1) -> Field[Square]:
    return Field(Squares(root), partial(Squares, root), lambda r: f"value {r['value']}", workers)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_cell_is_trained_once_and_results_keep_their_order(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [Square(Named(str(x), {"x": x})) for x in (3, 1, 3, 2)]
    assert field(tmp_path).play(cells[1:2])[0]["value"] == 1
    capsys.readouterr()
    played = field(tmp_path, workers)
    assert [r["value"] for r in played.play(cells)] == [9, 1, 9, 4]
    assert cast("Squares", played.bench).trained == (2 if workers == 1 else 0)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split("] ")[1] for line in lines) == [
        "2, rate 0.5, seed 0: value 4 (0 CPU s)", "3, rate 0.5, seed 0: value 9 (0 CPU s)",
    ]  # fmt: skip


def test_rates_are_those_of_the_best_trials_the_lower_one_of_equals(tmp_path: Path) -> None:
    trials = {str(x): [Square(Named(str(x), {"x": x}), rate) for rate in (0.1, 0.01)] for x in (1, 2)}
    one = {"3": [Square(Named("3", {"x": 3}))]}
    played = field(tmp_path)
    scores = played.scores({**trials, **one}, lambda r: r["value"])
    assert scores == {"1": {"0.1": 1, "0.01": 1}, "2": {"0.1": 4, "0.01": 4}, "3": {"0.5": 0.0}}
    assert not played.bench.store.path(played.bench.name(one["3"][0])).is_file()
    assert [best_rate(each) for each in scores.values()] == [0.01, 0.01, 0.5]
    assert best_rate({"1e-05": 3.0, "0.0001": 4.0}) == 1e-4


def test_a_name_is_for_readers_and_a_digest_for_what_decides() -> None:
    cell = Square(Named("PDPO, γ 0.1", {}), 1e-4, 2)
    assert folder_name(cell, "key") == "pdpo-gamma-0.1-0.0001-2-key"
    assert digest({"b": 1, "a": [2]}) == digest({"a": [2], "b": 1}) != digest({"a": [2], "b": 2})


class Slope:
    """A run whose loss is its step, down to `finite` steps; it has what it trains as a step does."""

    def __init__(self, finite: int) -> None:
        self.trainables = [SimpleNamespace(on_step_end=lambda: self.seen.append(10))]
        self.finite, self.seen = finite, list[int]()

    def __call__(self, at: int) -> dict[str, float]:
        if at >= self.finite:
            raise NonFiniteError("loss is nan", where="", remedy="")
        return {"loss": float(at)}


def a_loop(finite: int) -> Any:
    step = Slope(finite)
    algorithm = SimpleNamespace(round=lambda at, state: at, observe=lambda metrics, state: step.seen.append(1))
    keeper = SimpleNamespace(on_step_end=lambda done: step.seen.append(100 * done))
    return SimpleNamespace(step=step, algorithm=algorithm, stateful=[keeper], steps=10)


def test_looks_are_evenly_spread_and_the_last_is_at_the_end() -> None:
    loop = a_loop(99)
    done = run(loop, 4, lambda spent: {"spent": spent >= 0})
    assert [look["step"] for look in done.looks] == [2, 5, 8, 10]
    assert loop.step.seen[:6] == [10, 1, 100, 10, 1, 200]
    assert (done.failed, len(loop.step.seen)) == ("", 30)


def test_a_run_that_stops_being_finite_keeps_its_looks() -> None:
    done = run(a_loop(6), 4, lambda spent: {})
    assert [look["step"] for look in done.looks] == [2, 5]
    assert "loss is nan" in done.failed


def test_a_sign_is_replaced_wherever_it_stands() -> None:
    assert replaced({"a": {"b": "SIGN", "c": 1}, "d": "x"}, "SIGN", "here") == {"a": {"b": "here", "c": 1}, "d": "x"}
