"""A run tells where it came from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.made_up_runs import DIGEST, Make, lines, train_lines
from twofold.reports.columns import Columns
from twofold.reports.provenance import base_model, command, data_hashes, facts, kind, methods, methods_of, repeat
from twofold.reports.run import read_run


def test_facts_of_a_run(make_run: Make) -> None:
    run = read_run(make_run("a b", extra={"gap": 0.1}))
    assert facts(run) == ["pdpo with dpo", "from acme/base-1", "40 steps", "20 s"]
    assert facts(replace(run, environment={"prompts": "3 as bare text"}))[-1] == "prompts 3 as bare text"
    assert (kind(run, "algorithm"), kind(run, "objective"), base_model(run)) == ("pdpo", "dpo", "acme/base-1")
    assert data_hashes(run) == [("pairs.jsonl", DIGEST)]
    assert command(run) == "twofold train a b.yaml"
    assert repeat(run) == f"twofold train '{run.path}/resolved.yaml'"


@pytest.mark.parametrize(("steps", "words"), [(1, "1 step"), (2, "2 steps"), (1200, "1,200 steps")])
def test_steps_are_counted_from_one_without_an_evaluation(make_run: Make, steps: int, words: str) -> None:
    folder = make_run("a", steps=steps)
    lines(folder / "metrics.jsonl", train_lines(steps, {}))
    assert words in facts(read_run(folder))


def test_a_run_that_tells_nothing_has_no_facts(make_run: Make) -> None:
    run = replace(read_run(make_run("a")), settings={}, train=Columns(), evaluations=(), timings=Columns())
    assert facts(run) == []
    assert kind(replace(run, settings={"algorithm": "pdpo", "model": ["x"]}), "algorithm") == "pdpo"
    assert base_model(replace(run, settings={"model": ["x"]})) == ""


def test_runs_of_one_method_differ_in_seed_and_folder_only(make_run: Make) -> None:
    gap = {"gap": 0.1}
    runs = [
        read_run(path) for path in (make_run("a", extra=gap), make_run("b", seed=1), make_run("c", extra=gap, seed=2))
    ]
    assert methods(runs) == [0, 1, 0]
    names = [str(run.path) for run in runs]
    assert methods_of(names) == {names[0]: names[0], names[1]: names[1], names[2]: names[0]}
    assert methods([replace(run, settings={}) for run in runs]) == [0, 1, 2]
