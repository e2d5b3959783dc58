"""Settings that are handed through, and what the loop makes of figures: each by its value."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from support import tiny
from support.resumable_runs import loop
from twofold.batch import Batch, Group, Outputs
from twofold.models.packing import Packing
from twofold.objectives.base import Loss, Term, as_objective
from twofold.training import checkpoint
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable
from twofold.training.trainer import Evaluation, TrainOutcome


def test_betas_and_epsilon_reach_the_optimizer() -> None:
    """AdamW by hand for gradients 2, 1 with β = (0.5, 0.6), ε = 0.1, rate 1: first m = 1, v = 1.6, both corrected to 2
    and 4; then m = 1, v = 1.36, corrected by 1 − β² to 4/3 and 2.125."""
    w = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = make_optimizer(AdamW(learning_rate=1.0, betas=(0.5, 0.6), epsilon=0.1), {"w": w})
    seen: list[float] = []
    for gradient in (2.0, 1.0):
        w.grad = torch.full_like(w, gradient)
        optimizer.step()
        seen.append(w.item())
    first = 3.0 - 2 / (2 + 0.1)
    assert seen == pytest.approx([first, first - (4 / 3) / (math.sqrt(2.125) + 0.1)], rel=1e-12)


def test_the_rate_that_is_logged_is_the_one_of_the_step(tmp_path: Path) -> None:
    """Linear over 6 steps of 1e-3, warm-up 0.6 steps: half, then 1 − (k − 0.6)/5.4."""
    loop(tmp_path, "offline").train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if line["kind"] == "train"]
    assert rates == pytest.approx([5e-4, *(1e-3 * (1 - (k - 0.6) / 5.4) for k in range(1, 6))], rel=1e-12)


def scripted(run: Path, scores: Sequence[float], patience: int) -> TrainOutcome:
    """A run that is evaluated after every step and gets `scores`, from before the first step on."""
    made = loop(run, "offline", best_metric="score", patience=patience, evaluate_every=1)
    left = iter(scores)
    made.evaluators = [lambda: Evaluation({"score": next(left)})]
    return made.train()


@pytest.mark.parametrize(
    ("scores", "step", "best"),
    [
        ([1, 1, 1, 9, 9, 9, 9], 2, 0),  # as good is no better
        ([1, 0, 2, 1, 1, 9, 9], 4, 2),  # a better one begins the count again
        ([1, 2, 3, 4, 5, 6, 7], 6, 6),
        ([3, 1, 3.5, 2, 3.6, 0, 0], 6, 4),
        ([1, math.nextafter(1, 2), 1, 1, 9, 9, 9], 3, 1),
    ],
)
def test_patience_by_its_values(tmp_path: Path, scores: Sequence[float], step: int, best: int) -> None:
    outcome = scripted(tmp_path, scores, patience=2)
    assert (outcome.step, outcome.best_step) == (step, best)


@dataclass(frozen=True)
class Watched:
    """An objective that notes whether a gradient could flow, and which columns it gets."""

    requires: ClassVar[tuple[str, ...]] = ("mark",)
    gradients: list[bool] = field(default_factory=list[bool])
    marks: list[float] = field(default_factory=list[float])

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        self.gradients.append(outputs.logp_S is not None and outputs.logp_S.requires_grad)
        self.marks.extend(batch.branch_columns["mark"].tolist())
        assert outputs.logp_S is not None
        return Loss({"mine": Term(-batch.sum(outputs.logp_S), "branch")})


def watched_step(provided: list[int]) -> tuple[Step, Watched]:
    def provide(groups: Sequence[Group]) -> list[Group]:
        provided.append(len(groups))
        return [g.with_columns([{"mark": 7.0}] * len(g.branches)) for g in groups]

    policy = tiny.policy()
    trainable = Trainable(POLICY, policy, torch.optim.SGD(policy.trainable().values(), lr=0.1))
    return Step([trainable], providers={"mark": provide}, packing=Packing(), clip=None), Watched()


def test_what_is_only_measured_has_no_gradient() -> None:
    step, mine = watched_step([])
    part = Part(tiny.pairs(2, seed=0), as_objective(mine))
    step.measure([part])
    step(Round(0, [part]))
    assert mine.gradients == [False, True]


@pytest.mark.parametrize(("having", "provided"), [(0, [4]), (1, [4]), (3, [4]), (4, [])])
def test_a_column_is_provided_unless_every_group_has_it(having: int, provided: list[int]) -> None:
    asked: list[int] = []
    step, mine = watched_step(asked)
    groups = tiny.pairs(4, seed=0)
    some = [g.with_columns([{"mark": 7.0}] * len(g.branches)) for g in groups[:having]]
    step.measure([Part([*some, *groups[having:]], as_objective(mine))])
    assert asked == provided
    assert mine.marks == [7.0] * 8


def test_every_file_of_a_checkpoint_and_its_folders_are_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is renamed into place must be on disk, and then the renaming."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    contents: dict[str, Any] = {"policy": {"w": torch.ones(2)}, "policy-optimizer": {"m": torch.ones(2)}}
    checkpoint.save(tmp_path / "checkpoints", 4, contents, {"step": 4}, keep=2)
    files = {"policy.safetensors", "policy-optimizer.safetensors", "state.json", "manifest.json"}
    assert set(synced[:4]) == files
    assert synced[4:] == [".unfinished-step-4", "checkpoints"]
