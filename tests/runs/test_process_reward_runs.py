"""Rows with rated steps train a process reward model, whose folder scores steps by every way that names a judge."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import twofold
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError, ModelError
from twofold.progress import Silent
from twofold.records import Demonstration, Ranking, Source, Steps
from twofold.rewards.model import open_reward
from twofold.rewards.steps import StepScorer
from twofold.runs.train import RunOptions, train_recipe


def rows() -> list[dict[str, Any]]:
    """Two lines, of which those that end in + are wrong."""
    return [
        {
            "prompt": f"{a}+1? {a}+2?",
            "completions": [f"{a + 1}{'?+'[not x]}", f"{a + 2}{'?+'[not y]}"],
            "labels": [x, y],
        }
        for a in range(1, 7)
        for x in (True, False)
        for y in (True, False)
    ]


def recipe(tmp_path: Path, base: Path, **sections: Any) -> Recipe:
    file = tmp_path / "steps.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(file), "heldout": {"count": 8}, **sections.pop("data", {})},
        "objective": {"kind": "process_reward"},
        "training": {"steps": 4, "batch_size": 8},
        "optimizer": {"learning_rate": 0.01},
        "run": str(tmp_path / "run"),
        **sections,
    }
    return validate(Recipe, Document("test", given, {}))


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_model_that_other_libraries_read(tmp_path: Path, base: Path) -> None:
    trained = train_recipe(recipe(tmp_path, base))
    first, *_, last = metrics(tmp_path / "run")
    assert first["heldout/loss"] == pytest.approx(math.log(2), abs=1e-6)  # a head of zeros
    assert last["heldout/loss"] < first["heldout/loss"]
    assert {"heldout/step_accuracy", "heldout/first_error", "heldout/no_error", "heldout/f1"} <= last.keys()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["process_reward_model"].keys() == results["heldout"].keys() >= {"step accuracy", "first-error F1"}
    assert "step accuracy" in (tmp_path / "run" / "README.md").read_text()

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    scorer = StepScorer.load(str(tmp_path / "run"))
    ((found,),) = scorer.steps([Demonstration("3+1? 3+2?", "4\n6", Source("x", 1))], Silent())
    ids = trained.tokenizer("3+1? 3+2?4\n6", return_tensors="pt").input_ids
    hidden = model.model(ids).last_hidden_state[0]
    expected = torch.sigmoid(model.score(hidden)[[-3, -1], 0].double())
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base, run=str(tmp_path / "whole")))
    asked = iter([False, True])
    assert train_recipe(recipe(tmp_path, base), RunOptions(stop=lambda: next(asked))).outcome.stopped
    train_recipe(recipe(tmp_path, base))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "run")


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_rows_on_disk_and_by_processes_train_alike(tmp_path: Path, base: Path, workers: int) -> None:
    short = {"training": {"steps": 2, "batch_size": 8}}
    train_recipe(recipe(tmp_path, base, run=str(tmp_path / "whole"), **short))
    train_recipe(recipe(tmp_path, base, data={"stream": True, "workers": workers}, **short))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "run")


def test_packs_do_not_change_the_loss(tmp_path: Path, base: Path) -> None:
    rows_alone = {"path": str(base), "precision": "float32", "sharing": "rows"}
    train_recipe(recipe(tmp_path, base, run=str(tmp_path / "rows"), model=rows_alone))
    train_recipe(recipe(tmp_path, base))
    one, other = (metrics(tmp_path / name)[-1]["heldout/loss"] for name in ("rows", "run"))
    assert one == pytest.approx(other, abs=1e-5)


def test_an_adapter_of_a_model_in_memory_keeps_what_separates_steps(tmp_path: Path, base: Path) -> None:
    given = [Steps(r["prompt"], tuple(r["completions"]), tuple(map(float, r["labels"])), Source("mine", i))
             for i, r in enumerate(rows(), 1)]  # fmt: skip
    twofold.train(
        str(base), given, objective=twofold.ProcessReward(), run=str(tmp_path / "run"),
        model={"precision": "float32", "lora": {"rank": 2}}, data={"tokenize": {"step_separator": " ; "}},
        training={"steps": 2, "batch_size": 4}, optimizer={"learning_rate": 0.01},
    )  # fmt: skip
    scorer = StepScorer.load(str(tmp_path / "run"))
    text, listed = (
        Ranking("1+1?", ("2 ; 3 ; 4", "2"), Source("x", 1)),
        Steps("1+1?", ("2 ; 3", "4"), (None, None), Source("x", 2)),
    )
    found = scorer.steps([text, listed], Silent())
    assert [[len(steps) for steps in row] for row in found] == [[3, 1], [2]]
    assert found[1][0] == pytest.approx(found[0][0][1:], abs=1e-6)  # the same tokens are read at the same steps
    assert scorer.score([text], Silent()) == [[min(found[0][0]), found[0][1][0]]]


def test_models_of_another_kind_are_refused_with_what_to_write(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base, training={"steps": 1, "batch_size": 8}))
    with pytest.raises(ModelError, match=r"process reward model, which scores steps\n.*process:"):
        open_reward(str(tmp_path / "run"))
    with pytest.raises(ModelError, match="this is no process reward model"):
        open_reward(str(base), steps="min")
    with pytest.raises(
        DataError, match=r"steps\.jsonl:9.*BradleyTerry learns from rankings, .*a solution with rated steps"
    ):
        train_recipe(recipe(tmp_path, base, objective={"kind": "bradley_terry"}, run=str(tmp_path / "other")))
