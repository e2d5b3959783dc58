"""A run directory is read whole, in part, and broken."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from support.made_up_runs import Make
from twofold.errors import DataError
from twofold.reports.run import Results, read_run


def test_a_whole_run_is_read(make_run: Make) -> None:
    run = read_run(make_run("pdpo"))
    assert (run.name, run.steps, run.faults) == ("pdpo", 40, ())
    assert (len(run.train), len(run.evaluations), len(run.timings), len(run.samples)) == (40, 3, 40, 80)
    assert run.settings["objective"] == {"kind": "dpo", "beta": 0.1}
    base = run.results.model("base")
    assert base is not None
    assert (base.estimates["strict"].count, base.estimates["strict"].n) == (10, 40)
    assert run.results.comparisons[0].only_b == 30


def test_a_series_is_by_step_without_what_is_not_finite(make_run: Make) -> None:
    folder = make_run("pdpo", steps=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind":"train","step":5,"loss":NaN}\n{"kind":"train","step":4,"loss":1}\n')
    steps, values = read_run(folder).series("loss")
    assert steps == [0, 1, 2, 4]
    assert values[-1] == 1.0
    assert read_run(folder).series("no such") == ([], [])
    assert read_run(folder).series("exact_match/strict", "evaluation")[0] == [0, 1, 3]


def test_a_step_repeated_after_a_resume_counts_once(make_run: Make) -> None:
    folder = make_run("pdpo", steps=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind":"train","step":2,"loss":9}\n')
    assert read_run(folder).series("loss")[1][-1] == 9.0


def test_final_samples_are_those_that_the_results_tell_of(make_run: Make) -> None:
    run = read_run(make_run("pdpo"))
    assert {s.step for s in run.final_samples.values()} == {40}
    best = replace(run, results=replace(run.results, step=0))
    assert {s.step for s in best.final_samples.values()} == {0}


def test_an_accuracy_of_tied_pairs_is_none(make_run: Make) -> None:
    folder = make_run("pdpo", steps=2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind":"evaluation","step":0,"heldout/margin":0.0,"heldout/accuracy":0.0}\n')
        file.write('{"kind":"evaluation","step":3,"heldout/margin":0.1,"heldout/accuracy":0.0}\n')
    lines = read_run(folder).evaluations[-2:]
    assert [line.get("heldout/accuracy") for line in lines] == [None, 0.0]


def test_an_empty_folder_is_an_empty_run(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.name, run.steps, run.faults) == (tmp_path.name, 0, ())
    assert run.results.models == ()


def test_half_a_line_and_broken_files_are_said(make_run: Make) -> None:
    folder = make_run("pdpo")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    (folder / "results.json").write_text("[1]")
    (folder / "resolved.yaml").write_text("a: [")
    (folder / "environment.json").write_bytes(b"\xff\xfe{")
    run = read_run(folder)
    assert len(run.train) == 40
    assert run.faults == (
        "metrics.jsonl: 1 unreadable line left out (line 44)",
        "results.json is not a JSON object and was left out",
        "the recipe is not valid YAML and is shown unchanged",
        "environment.json is not a JSON object and was left out",
    )


def test_a_run_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run directory"):
        read_run(tmp_path / "nowhere")


def test_results_leave_out_what_breaks_the_schema() -> None:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    whole = {"name": "a", "strict": estimate, "flexible": {"value": "x"}, "other": 1}
    results = Results.of(
        {
            "name": 3,
            "models": [whole, 5, {"strict": estimate}],
            "comparisons": [{"a": "base"}, None],
            "heldout": {"accuracy": {**estimate, "value": math.nan}},
            "warnings": ["w", {"k": 1}],
        }
    )
    assert results.name == "3"
    assert [(m.name, list(m.estimates)) for m in results.models] == [("a", ["strict"])]
    assert results.comparisons == ()
    assert results.warnings == ("w", '{"k": 1}')


def test_samples_of_the_first_the_last_and_the_final_step_are_held(make_run: Make) -> None:
    folder = make_run("pdpo")
    whole = [json.loads(line) for line in (folder / "samples.jsonl").read_text("utf-8").splitlines()]
    for steps, shown in (([0, 40], [0, 40]), ([0, 20, 40], [0, 40]), ([0, 10, 20, 30, 40], [0, 40]), ([7], [7])):
        lines = [json.dumps({**whole[0], "step": step, "name": str(i)}) for step in steps for i in (1, 2)]
        (folder / "samples.jsonl").write_text("\n".join(lines), "utf-8")
        (folder / "manifest.json").unlink(missing_ok=True)
        assert [(s.step, s.name) for s in read_run(folder).samples] == [(s, n) for s in shown for n in ("1", "2")]
        results = json.loads((folder / "results.json").read_text("utf-8"))
        (folder / "results.json").write_text(json.dumps({**results, "step": 20}), "utf-8")
        held = sorted({*shown, *({20} & set(steps))})
        assert [s.step for s in read_run(folder).samples] == [step for step in held for _ in (1, 2)]
        (folder / "results.json").write_text(json.dumps({**results, "step": 40}), "utf-8")
