"""What is read of a run's files: each field as what it is, nothing of what is broken, and every fault in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from support.frozen import refuse_changes
from support.made_up_runs import Make, run_data
from twofold import manifest
from twofold.errors import DataError
from twofold.reports import run as room
from twofold.reports.html import render
from twofold.reports.run import Comparison, Results, RewardResult, SampleRow, dicts, estimate, mapping, read_run, typed
from twofold.statistics import Estimate, wilson

HALF = wilson(5, 10)
REWARD: dict[str, Any] = {
    "accuracy": HALF.as_dict(), "longer_wins": wilson(4, 10).as_dict(), "calibration_error": 0.25,
    "test": {"p_value": 0.5}, "by_length": [{"better": "longer", **HALF.as_dict()}, {"better": "shorter"}, 3],
    "bins": [{"predicted": 0.75, "observed": 1, "n": 4.0}],
}  # fmt: skip


def test_values_of_any_kind() -> None:
    assert list(dicts([{"a": 1}, 2, "x", {}])) == [{"a": 1}, {}]
    assert list(dicts({"a": {"b": 1}})) == list(dicts(None)) == list(dicts("abc")) == []
    assert (mapping({"a": 1}), mapping([1]), mapping(None)) == ({"a": 1}, {}, {})
    assert estimate(HALF.as_dict()) == HALF
    for broken in (None, 3, [1], {}, {**HALF.as_dict(), "n": "many"}, {**HALF.as_dict(), "low": None}):
        assert estimate(broken) is None


def test_fields_are_what_they_say() -> None:
    told = {"a": 1, "b": None, "metric": ["x", "é"], "only_a": "3", "only_b": 2.0, "p_value": 1, "odd": 9}
    assert typed(Comparison, told) == Comparison("1", "", '["x", "é"]', 3, 2, 1.0, "")
    assert typed(Comparison, {**told, "only_a": "many"}) is None
    assert typed(Comparison, {**told, "only_a": None}) is None
    assert typed(Comparison, {"a": "x"}) is None
    assert typed(SampleRow, {"step": 1, "strict": 1, "truncated": ""}) == SampleRow(1, strict=True, truncated=False)
    refuse_changes(SampleRow(0), Comparison("a", "b", "m", 0, 0, 1.0), Results(), slots=True)


def test_results_hold_every_field() -> None:
    data = {
        "name": "n", "command": "c", "models": [{"name": "m", "strict": HALF.as_dict(), "x": 1}, {"strict": 1}],
        "comparisons": [{"a": "a", "b": "b", "metric": "m", "only_a": 1, "only_b": 2, "p_value": 0.5, "test": "t"}],
        "heldout": {"accuracy": HALF.as_dict()}, "training": {"loss": HALF.as_dict(), "x": 2}, "warnings": ["w", None],
        "displacement": {"verdict": "v"}, "step": 7, "reward_model": REWARD,
    }  # fmt: skip
    found = Results.of(data)
    assert found == Results(
        name="n", command="c", models=(room.ModelResult("m", {"strict": HALF}),),
        comparisons=(Comparison("a", "b", "m", 1, 2, 0.5, "t"),), heldout={"accuracy": HALF}, training={"loss": HALF},
        warnings=("w",), displacement={"verdict": "v"}, step=7,
        reward=RewardResult(HALF, wilson(4, 10), (("longer", HALF),), 0.25, 0.5, ((0.75, 1.0, 4),)),
    )  # fmt: skip
    assert Results.of({}) == Results.of({"step": "7", "warnings": None, "reward_model": 3}) == Results()
    assert found.model("m") == found.models[0]
    assert found.model("x") is None


@pytest.mark.parametrize("key", REWARD)
def test_a_reward_model_s_figures_are_whole_or_none(key: str) -> None:
    for broken in (None, "x"):
        found = Results.of({"reward_model": {**REWARD, key: broken}}).reward
        assert (found is None) == (key not in ("by_length", "bins"))
    assert Results.of({"reward_model": {k: v for k, v in REWARD.items() if k != key}}).reward is None


def test_weighted_comparisons_are_reported_as_such(make_run: Make) -> None:
    """Bins as wide as their effective number of comparisons, and a note with that of all."""
    weighted = {**REWARD, "effective": 2.5, "bins": [{**REWARD["bins"][0], "effective": 1.9}]}
    found = Results.of({"reward_model": weighted}).reward
    assert found is not None
    assert (found.effective, found.bins) == (2.5, ((0.75, 1.0, 1),))
    run = make_run("a")
    note = "They inform as much as 2.5 comparisons of equal weight."
    results = json.loads((run / "results.json").read_text())
    for reward, times in ((weighted, 1), (REWARD, 0)):
        (run / "results.json").write_text(json.dumps({**results, "reward_model": reward}))
        assert render([read_run(run)], "title").count(note) == times


def test_series_are_of_their_kind() -> None:
    run = run_data(train={"a": [1.0, math.nan, 3.0]}, timings={"a": [9.0]}, evaluations={"a": [5.0, 6.0], "b": [7.0]})
    assert run.series("a") == ([0, 2], [1.0, 3.0])
    assert run.series("a", "timing") == ([0], [9.0])
    assert run.series("a", "evaluation") == ([0, 1], [5.0, 6.0])
    assert run.series("b", "evaluation") == ([0], [7.0])
    with pytest.raises(KeyError):
        run.series("a", "other")


def test_steps_are_counted_by_whatever_tells_of_them() -> None:
    assert run_data().steps == 0
    assert run_data(train={"a": [1.0, 1.0]}).steps == 2
    assert run_data(train={"a": [1.0, 1.0]}, evaluations={"b": [1.0] * 6}).steps == 5
    odd = run_data(train={"a": [1.0]})
    assert room.replace(odd, evaluations=({"step": math.nan}, {"x": 9.0})).steps == 1


def test_the_final_samples_are_of_one_step() -> None:
    samples = tuple(SampleRow(step, name) for step in (0, 5, 9) for name in "ab")
    for step, expected in ((None, 9), (5, 5), (7, 9)):
        found = run_data(samples=samples, results=Results(step=step)).final_samples
        assert found == {name: SampleRow(expected, name) for name in "ab"}
    assert run_data().final_samples == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text(json.dumps({"name": "", "frontier": [1], "explain": 4}))
    return tmp_path


def test_what_other_verbs_left_comes_from_its_own_file_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_run(folder).extra == {"frontier": [1]}
    (folder / "frontier.json").write_text('{"frontier": [2], "x": 1}')
    (folder / "win_rates.json").write_text('{"rows": [3]}')
    (folder / "explain.json").write_text("")
    run = read_run(folder)
    assert (run.extra, run.faults, run.name) == ({"frontier": [2], "win_rates": {"rows": [3]}}, (), folder.name)
    (folder / "explain.json").write_text("[" * 100_000)
    (folder / "win_rates.json").write_text("{")
    run = read_run(folder)
    assert run.extra == {"frontier": [2]}
    assert run.faults == (
        "win_rates.json is not valid JSON and was left out", "explain.json is not valid JSON and was left out",
    )  # fmt: skip
    monkeypatch.setattr(room, "MOST_BYTES", 26)
    (folder / "explain.json").write_text('{"rows": [1, 2, 3, 4, 5, 6]}')
    (folder / "win_rates.json").write_text("[1, 2, 3, 4, 5, 6, 7, 8] ".ljust(26))
    run = read_run(folder)
    assert run.extra == {"frontier": [2], "win_rates": [1, 2, 3, 4, 5, 6, 7, 8]}
    assert run.faults == ("explain.json is larger than 26 bytes and was left out",)


def test_changed_files_are_left_out_and_named(folder: Path) -> None:
    for name in ("metrics.jsonl", "resolved.yaml", "timings.jsonl"):
        (folder / name).write_text('{"kind": "train", "step": 0, "loss": 1.0}\n')
    manifest.write(folder, ["metrics.jsonl", "resolved.yaml", "timings.jsonl"])
    assert (read_run(folder).faults, read_run(folder).steps) == ((), 1)
    for name in ("metrics.jsonl", "resolved.yaml"):
        (folder / name).write_text('{"kind": "train", "step": 0, "loss": 2.0}\n')
    (folder / "timings.jsonl").unlink()
    run = read_run(folder)
    fault = "does not match its sha256 since the run wrote it, and was left out"
    assert run.faults[0] == f"metrics.jsonl {fault}"
    assert f"resolved.yaml {fault}" in run.faults
    assert (run.steps, run.recipe) == (0, "")
    (folder / manifest.MANIFEST).write_text("{")
    damaged = f"{manifest.MANIFEST} is damaged: it is unknown whether the run's files are complete"
    assert read_run(folder).faults[0] == damaged


def test_unreadable_lines_are_counted_and_the_first_five_named(folder: Path) -> None:
    def faults(*lines: str) -> tuple[str, ...]:
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return read_run(folder).faults

    assert faults('{"step": 1}', "", "{}") == ()
    assert faults("x", '{"step": 1}') == ("metrics.jsonl: 1 unreadable line left out (line 1)",)
    assert faults('{"step": 1}', *"abcde") == ("metrics.jsonl: 5 unreadable lines left out (lines 2, 3, 4, 5, 6)",)
    assert faults(*"abcdef") == ("metrics.jsonl: 6 unreadable lines left out (lines 1, 2, 3, 4, 5 …)",)


def test_a_recipe_is_the_resolved_one_first(folder: Path) -> None:
    (folder / "recipe.yaml").write_text("seed: 1\n")
    assert (read_run(folder).recipe, read_run(folder).settings) == ("seed: 1\n", {"seed": 1})
    (folder / "resolved.yaml").write_text("seed: 2\n")
    assert read_run(folder).settings == {"seed": 2}
    (folder / "resolved.yaml").write_text("- 2\n")
    assert (read_run(folder).settings, read_run(folder).faults) == ({}, ())


def test_samples_of_no_step_are_of_step_0(folder: Path) -> None:
    lines = [{"step": "x", "name": "a"}, {"name": "b"}, {"step": 2.0, "name": "c"}, {"step": math.inf, "name": "d"}]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(s.step, s.name) for s in read_run(folder).samples] == [(0, "a"), (0, "b"), (0, "d"), (2, "c")]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_run(tmp_path / "none")
    assert str(refused.value) == (
        f"{tmp_path}/none: no such run directory\n  → name the folder that `twofold train` wrote"
    )
    (tmp_path / "results.json").mkdir()  # a folder in a file's place is no file
    assert isinstance(read_run(tmp_path).results, Results)
    assert Estimate.from_dict(HALF.as_dict()) == HALF
