"""What a run resumes from, and what it does not: the best step, patience, changed settings, earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support.resumable_runs import STEPS, assembly, loop, stop_after
from twofold.errors import CheckpointError, NonFiniteError
from twofold.training.checkpoint import Checkpoint, save
from twofold.training.identity import Identity


def test_best_step_is_protected_and_becomes_the_model(tmp_path: Path) -> None:
    made = loop(tmp_path, "offline", best_metric="heldout/loss", keep_checkpoints=1)
    outcome = made.train()  # the loss falls, so the first, highest value stays the best
    assert outcome.best_step == 0
    assert (tmp_path / "checkpoints" / "step-0").is_dir()
    fresh = assembly(tmp_path / "fresh", "offline").policy.trainable()
    assert all(torch.equal(p, fresh[n]) for n, p in made.step.policy.parameters.items())


def test_patience_stops_early_and_stays_stopped(tmp_path: Path) -> None:
    early = loop(tmp_path, "offline", best_metric="heldout/loss", patience=2).train()
    assert (early.step, early.best_step) == (4, 0)
    again = loop(tmp_path, "offline", best_metric="heldout/loss", patience=2).train()
    assert (again.step, again.best_step) == (4, 0)


def test_an_unknown_best_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="heldout/acuracy"):
        loop(tmp_path, "offline", best_metric="heldout/acuracy").train()


def test_changed_settings_or_data_are_refused_with_a_diff(tmp_path: Path) -> None:
    loop(tmp_path, "offline").train(stop=stop_after(2))
    with pytest.raises(CheckpointError, match=r"training.batch_size: 3 → 4"):
        loop(tmp_path, "offline", batch_size=4).train()
    changed = loop(tmp_path, "offline")
    changed.identity = Identity({**changed.identity.values, "data (train)": "other"})
    with pytest.raises(CheckpointError, match=r"data \(train\)"):
        changed.train()


def test_starting_over_forgets_the_old_run(tmp_path: Path) -> None:
    loop(tmp_path, "offline").train(stop=stop_after(4))
    loop(tmp_path, "offline", resume=False, batch_size=4).train(resume=False, stop=stop_after(1))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-1"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 0]


def test_not_finite_stops_before_the_update_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    made = loop(tmp_path, "offline")
    made.train(stop=stop_after(2))
    again = loop(tmp_path, "offline")
    parameter = next(iter(again.step.policy.parameters.values()))
    resume = again._resume

    def poison() -> bool:
        resumed = resume()
        with torch.no_grad():
            parameter.fill_(float("nan"))
        return resumed

    again._resume = poison  # type: ignore[method-assign]  # the only way in
    with pytest.raises(NonFiniteError, match="made:"):
        again.train()
    assert loop(tmp_path, "offline").train().step == STEPS


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_message(tmp_path: Path) -> None:
    loop(tmp_path, "offline").train(stop=stop_after(2))
    (folder,) = (tmp_path / "checkpoints").glob("step-2")
    tensors, state = Checkpoint.open(folder).tensors("policy"), Checkpoint.open(folder).state
    old = {"memory": state["trainer"], "identity": state["identity"]}
    save(tmp_path / "checkpoints", 2, {"weights": tensors}, old, keep=1)
    with pytest.raises(CheckpointError, match="begun by an earlier version of twofold"):
        loop(tmp_path, "offline").train()
