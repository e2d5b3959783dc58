"""What `check_objective` runs: on which scenes, and with which orders, packs and extremes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from twofold.objectives import AOT, DPO, ProcessReward, checks
from twofold.objectives.base import Objective
from twofold.objectives.checks import Scene

APART = ("splits_into_micro_batches", "keeps_groups_apart")
OTHERS = ("has_one_entry_per_unit", "follows_permutations", "widens_bfloat16", "uses_what_it_requires")
SLOPE = "has_the_gradient_of_its_loss"


def run_of(objective: Any, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Each check that is called, with what is beyond objective and scene; and the scenes that are painted."""
    calls: list[tuple[Any, ...]] = []
    painted: list[tuple[int, int, Scene]] = []
    for name in (*APART, *OTHERS, SLOPE, "is_finite_at_extremes"):
        monkeypatch.setattr(checks, name, lambda mine, scene, *more, name=name: calls.append((name, scene, *more)))

    def paint(count: int, noise: torch.Generator) -> Scene:
        seed = noise.initial_seed()
        made = checks.random_scene("pairs", count, noise)
        painted.append((count, seed, made))
        return made

    checks.check_objective(objective, paint, **how)
    return calls, painted


def test_three_scenes_of_five_groups_and_three_of_six_at_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, painted = run_of(DPO(), monkeypatch)
    assert [(count, seed) for count, seed, _ in painted] == [(5, 0), (5, 1), (5, 2), (6, 2), (6, 2), (6, 2)]
    names = [name for name, *_ in calls]
    first = [
        "has_one_entry_per_unit", "splits_into_micro_batches", "keeps_groups_apart", "follows_permutations",
        "widens_bfloat16", "uses_what_it_requires", SLOPE,
    ]  # fmt: skip
    assert names == first * 3 + ["is_finite_at_extremes"] * 3
    for place, (_, scene, *_) in enumerate(calls[:21]):
        assert scene is painted[place // 7][2]


def test_packs_of_two_two_and_one_and_an_order_without_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order moves all groups but the last, which changes its place too."""
    calls, _ = run_of(DPO(), monkeypatch)
    more = {name: rest for name, _, *rest in calls}
    assert more["splits_into_micro_batches"] == [[0, 1, 0, 2, 1]]
    assert more["follows_permutations"] == [[3, 0, 4, 1, 2]]
    extremes = [rest for name, _, *rest in calls if name == "is_finite_at_extremes"]
    assert extremes == [[0.0, torch.float32], [1e-30, torch.float32], [1e4, torch.float32]]


@pytest.mark.parametrize(
    ("objective", "how", "missing"),
    [(AOT(), {}, set(APART)), (DPO(), {"constant": True}, {SLOPE}), (AOT(), {"constant": True}, {*APART, SLOPE})],
    ids=["coupled", "constant", "both"],
)
def test_what_is_not_asked_of_each(
    objective: Objective, how: dict[str, Any], missing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, _ = run_of(objective, monkeypatch, **how)
    assert {*APART, *OTHERS, SLOPE} - {name for name, *_ in calls} == missing


def test_without_a_painter_scenes_are_of_the_kind_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[tuple[str, int]] = []
    real = checks.random_scene

    def random_scene(kind: Any, count: int, noise: torch.Generator) -> Scene:
        kinds.append((kind, count))
        return real(kind, count, noise)

    monkeypatch.setattr(checks, "random_scene", random_scene)
    checks.check_objective(ProcessReward())
    assert kinds == [("steps", 5)] * 3 + [("steps", 6)] * 3


@dataclass(frozen=True)
class Noted(Objective):
    """DPO that notes the first log-probability and the reference of both sides of each row, as bounds allow."""

    seen: list[tuple[list[float], list[float]]]
    requires = ("ref_logp",)

    def __call__(self, outputs: Any, batch: Any) -> Any:
        reference = batch.token_columns["ref_logp"]
        first = [int((batch.group_B[batch.branch_S] == i).nonzero()[0, 0]) for i in range(len(batch.names))]
        self.seen.append((outputs.logp_S.detach()[first].tolist(), reference[first].tolist()))
        return DPO()(outputs, batch)


def test_extremes_go_by_turns_between_the_policy_and_its_reference() -> None:
    """Of two rows the policy is at the far end in the first and its reference in the second, and then otherwise."""
    mine = Noted([])
    scene = checks.random_scene("pairs", 2, torch.Generator().manual_seed(0))
    checks.is_finite_at_extremes(mine, scene, 100.0, torch.float64)
    assert mine.seen == [([-100.0, 0.0], [0.0, -100.0]), ([0.0, -100.0], [-100.0, 0.0])]


def test_the_defaults_of_checks_are_no_painter_and_no_constant() -> None:
    parameters = inspect.signature(checks.check_objective).parameters
    assert (parameters["paint"].default, parameters["constant"].default) == (None, False)
    assert inspect.signature(checks.gradient).parameters["dtype"].default == torch.float64
    assert checks.leaf([[torch.zeros(1)]]).dtype == torch.float64
    assert checks.leaf([[torch.zeros(1)]]).requires_grad
