"""Runs with weighted rows, sums of losses, and demonstrations next to pairs; all of them resume exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError, RecipeError
from twofold.runs.dataset import read_dataset
from twofold.runs.train import RunOptions, train_recipe

ALSO = {"objective": {"kind": "sft"}, "share": 0.5, "weight": 0.3}
SUM = {"kind": "sum", "parts": [{"kind": "dpo"}, {"kind": "eaft", "weight": 0.5, "on": "chosen"}]}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def recipe(tmp_path: Path, base: Path, run: str = "run", also: dict[str, Any] | None = ALSO, **more: Any) -> Recipe:
    pairs = ({"prompt": f"{n}+1", "chosen": f"{n + 1}", "rejected": f"{n}", "weight": 1 + n % 3} for n in range(8))
    shown = ({"prompt": f"say {n}", "completion": f"it is {n}"} for n in range(5))
    data: dict[str, Any] = {"train": write(tmp_path / "pairs.jsonl", *pairs), **more.pop("data", {})}
    if also is not None:
        data["also"] = {"file": write(tmp_path / "shown.jsonl", *shown), **also}
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": data,
        "training": {"steps": 3, "batch_size": 4},
        "run": str(tmp_path / run),
        **more,
    }
    return validate(Recipe, Document("test", given, {}))


def logged(tmp_path: Path, run: str = "run") -> list[dict[str, Any]]:
    lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


@pytest.mark.parametrize(
    ("also", "objective"),
    [
        pytest.param(ALSO, {"kind": "beta_dpo", "beta": 0.5}, id="also, and a running mean"),
        pytest.param(None, SUM, id="sum", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    tmp_path: Path, base: Path, also: dict[str, Any] | None, objective: dict[str, Any]
) -> None:
    train_recipe(recipe(tmp_path, base, "whole", also, objective=objective))
    asked = iter([False, True])
    stopped = recipe(tmp_path, base, "parts", also, objective=objective)
    assert train_recipe(stopped, RunOptions(stop=lambda: next(asked, False))).outcome.stopped
    assert not train_recipe(stopped).outcome.stopped
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "parts" / "metrics.jsonl").read_bytes()
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_demonstrations_are_a_part_of_their_own(tmp_path: Path, base: Path) -> None:
    """Two of five a step, by their weight, under names of their own; the pairs meet what they would have met alone."""
    train_recipe(recipe(tmp_path, base))
    train_recipe(recipe(tmp_path, base, "alone", also=None))
    for mine, alone in zip(logged(tmp_path), logged(tmp_path, "alone"), strict=True):
        assert mine["loss"] == pytest.approx(mine["loss/dpo"] + 0.3 * mine["loss/also/sft"], rel=1e-6)
        assert "also/demonstration_logp" in mine
        assert not any(name.startswith("also/") for name in alone)
    first, alone = logged(tmp_path)[0], logged(tmp_path, "alone")[0]
    assert first["loss/dpo"] == alone["loss/dpo"]
    assert first["grad_norm"] > alone["grad_norm"]
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["data"]["also"]["rows"] == environment["tokens"]["also"]["used"] == 5
    assert environment["tokens"]["train"]["weights"]["total"] == 15.0


def test_held_out_rows_of_weights_have_an_effective_number(tmp_path: Path, base: Path) -> None:
    """Weights 1, 1 and 2: 16/6 rows of equal weight, so 2 in intervals, and 3 rows."""
    rows = [{"prompt": f"{n}-1", "chosen": "1", "rejected": "2", "weight": w} for n, w in enumerate((1, 1, 2))]
    held = {"file": write(tmp_path / "held.jsonl", *rows)}
    train_recipe(recipe(tmp_path, base, also=None, data={"heldout": held}, training={"steps": 1, "batch_size": 2}))
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "evaluation"][-1]
    assert (last["heldout/n"], last["heldout/rows"]) == (2.0, 3.0)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["heldout"]["accuracy"]["n"] == 2


def test_held_out_pairs_of_one_prompt_count_as_one(tmp_path: Path, base: Path) -> None:
    rows = [{"prompt": f"{n // 2}-1", "chosen": "1", "rejected": str(2 + n)} for n in range(4)]
    held = {"file": write(tmp_path / "held.jsonl", *rows)}
    train_recipe(recipe(tmp_path, base, also=None, data={"heldout": held}, training={"steps": 1, "batch_size": 2}))
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "evaluation"][-1]
    assert (last["heldout/n"], last["heldout/rows"]) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ({"objective": {"kind": "dpo"}}, "dpo does not fit: name one without a reference model"),
        ({"objective": {"kind": "sft", "avrage": "token"}}, "data.also.objective.avrage"),
        ({"objective": {"kind": "sftt"}}, "data.also.objective"),
        ({"share": 0.0}, "share"),
        ({"weight": -1.0}, "weight"),
        ({"shared": 1.0}, "did you mean `share`?"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, base: Path, also: Any, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(tmp_path, base, also=also)
    assert message in str(error.value)


def test_a_reward_model_has_no_demonstrations(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.also"):
        recipe(tmp_path, base, objective={"kind": "bradley_terry"})


def test_nothing_is_measured_on_what_is_shown(tmp_path: Path, base: Path) -> None:
    held = {"file": write(tmp_path / "held.jsonl", {"prompt": "say 1", "chosen": "a", "rejected": "b"})}
    made = recipe(tmp_path, base, data={"heldout": held})
    with pytest.raises(DataError):
        read_dataset(made, made.objective)


def test_the_rows_of_a_step_are_at_least_one(tmp_path: Path, base: Path) -> None:
    also = recipe(tmp_path, base).data.also
    assert also is not None
    assert [replace(also, share=s).rows_per_step(4) for s in (0.01, 0.25, 0.5, 1.0, 2.0)] == [1, 1, 2, 4, 8]
