"""References that a recipe asks for by name: fitted in a first stage, or moving with the policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.runs.train import RunOptions, TrainResult, train_recipe

ROWS = [
    {"prompt": f"{a}+{b}?", "chosen": f"{a}+{b}={a + b}\n#### {a + b}", "rejected": f"#### {a}"}
    for a in range(1, 7)
    for b in range(1, 4)
]


def run(folder: Path, base: Path, *, stop: Callable[[], bool] = lambda: False, **sections: Any) -> TrainResult:
    folder.mkdir(parents=True, exist_ok=True)
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {
        "model": {"path": str(base), "precision": "float32", **sections.pop("model", {})},
        "data": {"train": str(pairs)},
        "training": {"steps": 4, "batch_size": 6, "checkpoint_every": 1},
        "optimizer": {"learning_rate": 1e-2},
        "run": str(folder / "run"),
        **sections,
    }
    return train_recipe(validate(Recipe, Document("test", given, {})), RunOptions(stop=stop))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


FIT = {"fit": "chosen", "fit_epochs": 4, "fit_learning_rate": 1e-2}


@pytest.mark.parametrize("model", [{}, {"lora": {"rank": 2}}], ids=["full", "lora"])
def test_policy_and_reference_start_from_the_fitted_model(tmp_path: Path, base: Path, model: dict[str, Any]) -> None:
    fitted = run(tmp_path / "fitted", base, model=model, reference=FIT)
    plain = run(tmp_path / "plain", base, model=model)
    stage, begun, otherwise = lines(fitted.folder / "fit"), lines(fitted.folder)[0], lines(plain.folder)[0]
    assert len(stage) == 12  # four epochs of three steps
    assert stage[-1]["loss/sft"] < stage[0]["loss/sft"] - 0.1
    assert begun["margin"] == pytest.approx(0, abs=1e-5)
    assert begun["loss/dpo"] == pytest.approx(0.6931, abs=1e-4)
    assert begun["chosen_logp"] > otherwise["chosen_logp"] + 1
    assert not fitted.outcome.warnings


@pytest.mark.parametrize("at", [5, 14])
def test_a_fit_that_was_stopped_goes_on_where_it_was(tmp_path: Path, base: Path, at: int) -> None:
    """Stopped in the first stage (twelve steps), and in the second."""
    whole = run(tmp_path / "whole", base, reference=FIT)
    left = iter([False] * (at - 1) + [True] * 100)
    stopped = run(tmp_path / "broken", base, reference=FIT, stop=lambda: next(left))
    assert stopped.outcome.stopped
    resumed = run(tmp_path / "broken", base, reference=FIT)
    for name in ("metrics.jsonl", "fit/metrics.jsonl"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    mine, theirs = resumed.policy.trainable(), whole.policy.trainable()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_moving_reference_closes_the_gap(tmp_path: Path, base: Path) -> None:
    """Hard, after every second step: margins are 0 again at steps 0 and 2, and nowhere else."""
    moved = run(tmp_path, base, reference={"kind": "moving", "alpha": 1.0, "sync_every": 2})
    margins = [line["margin"] for line in lines(moved.folder)]
    assert [abs(margin) < 1e-5 for margin in margins] == [True, False, True, False]


def test_what_has_no_use_for_it_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="fits the model already"):
        run(tmp_path / "a", base, objective={"kind": "sft"}, reference={"fit": "chosen"})
    with pytest.raises(RecipeError, match="uses no reference"):
        run(tmp_path / "b", base, objective={"kind": "simpo"}, reference={"kind": "moving"})
