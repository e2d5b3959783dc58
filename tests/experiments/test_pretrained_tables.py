"""Tables of finished cells: means, comparisons, costs, and which point a table is of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.pretrained import ledger
from experiments.pretrained.__main__ import main, shown
from experiments.pretrained.cells import Bench
from experiments.pretrained.instructions import Instructions
from experiments.pretrained.ledger import Finished
from experiments.pretrained.methods import METHODS, RATE
from experiments.pretrained.plan import plan_table
from experiments.pretrained.protocol import Protocol
from experiments.pretrained.table import (
    ORDERED,
    by_method,
    clustered,
    comparison_table,
    comparisons,
    cost_table,
    mean,
    paired,
    policy_table,
    values_table,
)
from support.word_chain import letter_chain
from twofold.progress import Silent

PROTOCOL = Protocol(tokens=1500)


def made(
    method: str, seed: int, values: list[float], point: Mapping[str, float] | None = None, **extra: Any
) -> Finished:
    """A cell of two questions with two rows each."""
    request = {"task": "t", "split": "test", "method": method, "seed": seed, "point": point or {}}
    reply = {"values": values, "clusters": ["a", "a", "b", "b"], "parts": ["test"] * 4, "words": [4.0] * 4,
             "truncated": 0.25, "kl": [1.0] * 4, "accuracy": {"n": 4, "right": 3}, "steps": 8, "measure_cpu": 1800.0,
             "tokens": {"trained": 1000, "sampled": 0, "judged": 500}, "train_cpu": 1800.0, **extra}  # fmt: skip
    return Finished(request, reply)


def test_figures_are_means_of_questions_and_comparisons_are_paired() -> None:
    noise = [0.0, 0.25, 0.5, 0.25, 0.0]
    found = [made("DPO", s, [0.0, 0.0, 0.0, 1.0], {"old": 1}) for s in (1, 2)]
    found += [made("DPO", s, [n, 0.0, 0.5, 0.0]) for s, n in zip((1, 2, 3, 4, 5), noise, strict=True)]
    found += [made("PDPO", s, [n, 1.0, 0.5, 1.0]) for s, n in zip((1, 2, 3, 4, 5), noise, strict=True)]
    cells = by_method(found, "t")
    assert clustered(cells["DPO"][2], "test").tolist() == [0.125, 0.25]
    assert mean(cells["PDPO"], "test").value == pytest.approx((0.6 + 0.75) / 2)
    (one,) = comparisons(cells, "test")
    assert (one.method, one.baseline, one.seeds) == ("PDPO", "DPO", 5)
    assert (one.gain.value, one.gain.low, one.gain.high) == pytest.approx((0.5, 0.5, 0.5))
    assert one.over_seeds is not None
    assert one.over_seeds.value == pytest.approx(0.5)
    assert one.p_holm == one.p_value < 0.01
    assert comparison_table([one])[1][3] == "+50.0 [+50.0, +50.0]"
    assert values_table(cells)[2][0:2] == ("PDPO", "5")
    assert cost_table(cells)[1] == ("DPO", "1.0", "0.0", "0.5", "8", "1800", "1800")
    assert comparisons(by_method(found[:2], "t"), "test") == []


def test_held_out_pairs_are_compared_where_all_runs_have_them_by_prompt() -> None:
    """Old cells have their number only."""
    found = [made("DPO", s, [0.0] * 4, ordered=[1.0, 0.5, 0.0]) for s in (1, 2)]
    found += [made("IPO", s, [0.0] * 4, **({"ordered": [1.0] * 3} if s == 1 else {})) for s in (1, 2)]
    found += [made("PDPO", s, [0.0] * 4, ordered=[1.0, 0.5, 0.75]) for s in (1, 2)]
    cells = by_method(found, "t")
    assert list(paired(cells)) == ["DPO", "PDPO"]
    (one,) = comparisons(paired(cells), ORDERED)
    assert (one.method, one.baseline, one.gain.value) == ("PDPO", "DPO", 0.25)
    assert [line[-1] for line in values_table(cells)] == [ORDERED, "75.0%", "75.0%", "75.0%"]
    lines = values_table(paired(cells))
    assert lines[1][-1] == "50.0% [0.0%, 100.0%]"
    assert lines[2][-1].startswith("75.0% [")


def test_why_compares_interventions_with_pdpo_and_shows_what_the_generator_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the seeds of the screening, of the finalists and of development; PDPO's forms are compared, too."""
    found = [made("PDPO", s, [0.0, 1.0, 0.0, 1.0], metrics={"active": 0.5, "gap": -0.01}) for s in (0, 2, 100)]
    found += [made("PDPO, verified", 100, [0.0, 0.0, 0.0, 0.0]), made("PDPO + NLL", 0, [0.0, 0.0, 0.0, 0.0])]
    found += [made("PDPO, anchor", s, [1.0, 1.0, 1.0, 1.0], metrics={"active": 0.25}) for s in (0, 2)]
    found += [made("DPO", 1, [0.0, 0.0, 0.0, 0.0], metrics={"chosen_reward": 0.5, "rejected_reward": -0.125})]
    for cell in found:
        request = {**cell.request, "task": "instructions", "protocol": Protocol().as_dict(), "data": "d"}
        ledger.add(tmp_path / "ledger.jsonl", request, cell.reply)
    (tmp_path / "instructions").mkdir()
    (tmp_path / "instructions" / "facts.json").write_text("{}")
    main(["why", "--out", str(tmp_path), "--model", str(letter_chain(tmp_path / "base"))])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("| PDPO, anchor | PDPO | 2 | +50.0 [+50.0, +50.0] |") for line in lines)
    assert any(line.startswith("| PDPO, verified | PDPO | 1 | −50.0 [−50.0, −50.0] |") for line in lines)
    assert "| PDPO | 3 | 50% | – | – | −0.010 | – | – | – | – | – |" in lines
    assert "| DPO | 1 | – | – | – | – | – | – | – | 0.500 | −0.125 |" in lines
    assert not any(line.startswith(("| DPO | PDPO", "| PDPO + NLL | PDPO")) for line in lines)


def test_what_became_of_the_policy() -> None:
    """A figure that a cell lacks is a dash. The KL of `made` is 1."""
    metrics = {"draft_kl": 2.5, "chosen_logratio": -1.0, "rejected_logratio": -3.125}
    measured = {"entropy": 1.5, "logratio": {"right": 4.0, "wrong": -0.5}}
    found = [made("PDPO", s, [0.0] * 4, metrics=metrics, **measured) for s in (1, 2)]
    found += [made("DPO", 1, [0.0] * 4, metrics={}, entropy=3.0, logratio={"wrong": 1.0}), made("base", 0, [0.0] * 4)]
    assert policy_table(by_method(found, "t"))[1:] == [
        ("PDPO", "2", "1.00", "2.50", "1.50", "4.00", "−0.50", "−1.00", "−3.12"),
        ("DPO", "1", "1.00", "–", "3.00", "–", "1.00", "–", "–"),
    ]


def test_the_plan_adds_up_what_cells_cost() -> None:
    """An hour a training: 17 for the steps, 34 to tune, 17 to screen, 20 for four finalists with five seeds."""
    cells = by_method([made("DPO", 1, [0.0, 0.0, 0.0, 1.0])], "t")
    assert plan_table(cells)[-1] == ("all", str(17 + 68 + 17 + 20), "88.0")
    assert plan_table({})[1][0] == "no method has been run yet"


def test_a_table_is_of_own_points_of_the_last_ones_or_of_those_that_are_named() -> None:
    low, high = {"optimizer.learning_rate": 3e-4}, {"optimizer.learning_rate": 1e-3}
    cells = [made("base", 0, [0.0] * 4), made("DPO", 1, [0.25] * 4, high), made("DPO", 1, [0.5] * 4, low)]
    cells += [made("DPO", 2, [0.75] * 4, low), made("IPO", 1, [1.0] * 4, low)]

    def values(**points: Mapping[str, Mapping[str, float]]) -> dict[str, dict[int, float]]:
        found = by_method(cells, "t", **points)
        return {name: {seed: reply["values"][0] for seed, reply in runs.items()} for name, runs in found.items()}

    last = {"base": {0: 0.0}, "DPO": {1: 0.5, 2: 0.75}, "IPO": {1: 1.0}}
    assert values() == values(points={"DPO": low, "IPO": low}) == values(own={"IPO": high}) == last
    assert values(own={"DPO": high}) == values(points={"DPO": high}) == {**last, "DPO": {1: 0.25}}
    assert values(points={"DPO": low}, own={"DPO": high}) == last
    assert values(points={"DPO": high, "IPO": high}) == {"base": {0: 0.0}, "DPO": {1: 0.25}}


def record(bench: Bench, method: str, point: Mapping[str, float], value: float) -> None:
    """A finished cell of `instructions` with seed 1."""
    what = {"task": "instructions", "data": "d", "protocol": PROTOCOL.as_dict()}
    request = {**what, "method": method, "point": point, "seed": 1, "split": "test"}
    ledger.add(bench.ledger, request, made(method, 1, [value] * 4).reply)


def test_a_point_is_that_of_the_methods_that_are_named_or_of_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Instructions(limit=2), "", PROTOCOL, Silent())
    low, high = {RATE: 3e-4, "objective.beta": 0.5}, {RATE: 1e-3, "objective.beta": 0.5}
    for method, point, value in (("DPO", high, 0.25), ("DPO", low, 0.5), ("IPO", high, 0.75), ("IPO", low, 1.0)):
        record(bench, method, point, value)

    def values(*methods: str) -> list[float]:
        options = argparse.Namespace(method=methods, split="test", point=[*high.items()])
        return [reply["values"][0] for runs in shown(bench, options).values() for reply in runs.values()]

    assert values() == [0.25, 0.75]
    assert values("DPO") == [0.25, 1.0]


def test_a_method_that_was_not_tuned_is_at_the_first_point_of_its_grid(tmp_path: Path) -> None:
    """A later point of an intervention or of a method that no sweep tuned replaces nothing."""
    bench = Bench(tmp_path, Instructions(limit=2), "", PROTOCOL, Silent())
    for name, tuned_as in (("IPO", "IPO"), ("PDPO, gate", "PDPO")):
        for point, value in ((METHODS[tuned_as].grid[0], 0.25), (METHODS[tuned_as].grid[3], 0.5)):
            record(bench, name, point, value)
    options = argparse.Namespace(method=(), split="test", point=[])
    cells = shown(bench, options)
    assert {name: runs[1]["values"][0] for name, runs in cells.items()} == {"IPO": 0.25, "PDPO, gate": 0.25}
