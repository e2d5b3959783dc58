"""Fields of a run's results and samples, one at a time, and what each is of where its value is of another kind."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from support.made_up_runs import Make
from twofold.reports import run as room
from twofold.reports.run import MatchRow, ModelResult, Results, SampleRow, read_run
from twofold.statistics import Estimate

HALF = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
READ = Estimate(0.5, 0.25, 0.75, 8, None, "")


@pytest.mark.parametrize(
    ("field", "data", "value"),
    [
        ("name", "n", "n"),
        ("command", ["é"], '["é"]'),
        ("models", [{"name": None, "strict": HALF}], (ModelResult("", {"strict": READ}),)),
        ("heldout", {"accuracy": HALF, "margin": [1.0]}, {"accuracy": READ}),
        ("training", {"loss": HALF, "odd": [1]}, {"loss": READ}),
        ("warnings", ["", "w", 0, 3], ("w", "3")),
        ("displacement", {"verdict": "v"}, {"verdict": "v"}),
        ("experts", {"tokens": 4}, {"tokens": 4}),
        ("step", 0, 0),
    ],
)
def test_each_field_is_read_by_its_own_name(field: str, data: Any, value: Any) -> None:
    results = Results.of({field: data})
    assert getattr(results, field) == value
    others = [f.name for f in fields(Results) if f.name != field]
    assert [getattr(results, name) for name in others] == [getattr(Results(), name) for name in others]


@pytest.mark.parametrize("data", [3, "text", [3], None, {"name": 1}])
@pytest.mark.parametrize(
    "field", ["comparisons", "displacement", "experts", "heldout", "models", "reward_model", "training"]
)
def test_a_field_of_another_kind_is_empty(field: str, data: Any) -> None:
    if isinstance(data, dict) and field in ("displacement", "experts"):
        assert getattr(Results.of({field: data}), field) == data
    else:
        assert Results.of({field: data}) == Results()


def match(step: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "win_rate", "step": step, "name": name, **more}


def test_matches_are_those_of_the_last_step_in_the_order_of_the_file() -> None:
    lines = [
        match(1, "a"),
        match(1, "b"),
        {"step": 1, "name": "s"},
        match(2, "a", share=0.5),
        match(2, "b", share=None),
    ]
    samples, matches = room._samples(iter(lines), None)
    assert samples == (SampleRow(1, "s"),)
    assert matches == (MatchRow(2, "a", share=0.5), MatchRow(2, "b"))
    again = [*lines, match(1, "c", prompt="p", completion="q", other=None)]
    assert room._samples(iter(again), None)[1] == (MatchRow(1, "c", "p", "q", "", -1.0),)
    odd = [match("x", "a"), match(None, "b"), match(0, "c", share="much")]
    assert room._samples(iter(odd), None)[1] == (MatchRow(0, "a"), MatchRow(0, "b"), MatchRow(0))


@pytest.mark.parametrize(
    ("steps", "final", "left"),
    [
        ([], 3, []),
        ([5], 3, [5]),
        ([1, 2, 3, 4], None, [1, 4]),
        ([1, 2, 3, 4], 3, [1, 3, 4]),
        ([4, 3, 2, 1], 2, [4, 2, 1]),
        ([2, 1, 3, 2], None, [1, 3]),
        ([1, 2, 2, 3], 9, [1, 3]),
    ],
)
def test_samples_are_of_the_first_the_last_and_the_final_step(
    steps: list[int], final: int | None, left: list[int]
) -> None:
    """A step between that comes back late is left out again."""
    samples, matches = room._samples(iter([{"step": step, "name": f"{step}"} for step in steps]), final)
    assert [(s.step, s.name) for s in samples] == [(step, f"{step}") for step in left]
    assert matches == ()


def test_samples_are_whole_rows() -> None:
    line = {"step": 2, "name": "n", "prompt": "p", "completion": "c", "answer": "a", "odd": 1}
    flags = {"strict": True, "flexible": True, "truncated": True}
    assert room._sample({**line, **flags}) == SampleRow(
        2, "n", "p", "c", "a", strict=True, flexible=True, truncated=True
    )
    assert room._sample(line) == SampleRow(2, "n", "p", "c", "a", strict=False, flexible=False, truncated=False)
    assert room._sample({**line, "answer": 4, "completion": None}) == SampleRow(2, "n", "p", "", "4")
    assert room._sample({"step": True}) == SampleRow(1)


@pytest.mark.parametrize("name", room.EXTRAS)
def test_what_another_command_wrote_is_read_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({name: {"a": 1}, "other": {"a": 2}}), encoding="utf-8")
    assert read_run(tmp_path).extra == {name: {"a": 1}}
    (tmp_path / f"{name}.json").write_text(json.dumps({"a": 3}), encoding="utf-8")
    assert read_run(tmp_path).extra == {name: {"a": 3}}
    (tmp_path / f"{name}.json").write_text('"text"', encoding="utf-8")
    assert read_run(tmp_path).extra == {}


def test_a_run_has_its_environment_timings_and_name(make_run: Make) -> None:
    folder = make_run("pdpo")
    (folder / "environment.json").write_text('{"torch": "2"}', encoding="utf-8")
    (folder / "manifest.json").unlink(missing_ok=True)
    run = read_run(folder)
    assert (run.path, run.environment, run.results.name) == (folder, {"torch": "2"}, run.name)
    (folder / "results.json").unlink()
    (folder / "timings.jsonl").write_text('{"step": 3, "step_seconds": 2.5}\n', encoding="utf-8")
    run = read_run(folder)
    assert (run.name, run.results) == (folder.name, Results(name=folder.name))
    assert run.series("step_seconds", "timing") == ([3], [2.5])
