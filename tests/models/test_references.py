"""References by their parts: settings, columns that lie on disk, what is told of the work, adapters put aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support import tiny
from twofold.batch import Group
from twofold.errors import ModelError, RecipeError
from twofold.models import reference
from twofold.models.packing import Packing
from twofold.models.reference import (
    COLUMN,
    MovingReference,
    ReferenceSettings,
    cached_reference,
    live_reference,
    move,
    with_reference,
    with_tokens,
)


class Told:
    """Notes what is reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[Any, ...]] = []

    def begin(self, task: str, total: int | None = None) -> None:
        self.reports.append(("begin", task, total))

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.reports.append(("advance", task, steps))

    def end(self, task: str) -> None:
        self.reports.append(("end", task))

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        self.reports.append(("warn", message))


def columns(groups: Any) -> list[list[torch.Tensor]]:
    return [[b.token_columns[COLUMN] for b in g.branches] for g in groups]


def test_settings_have_defaults_and_bounds() -> None:
    assert vars(ReferenceSettings()) == {
        "kind": "cached", "cache": None, "alpha": 0.6, "sync_every": 512, "fit": None, "fit_epochs": 1.0,
        "fit_learning_rate": 1e-5, "bema": None,
    }  # fmt: skip
    assert ReferenceSettings(kind="moving", alpha=1.0, sync_every=1).alpha == 1.0
    for wrong, words in (
        ({"alpha": 0.0}, "alpha must be in (0, 1]"), ({"alpha": 1.01}, "alpha must be in (0, 1]"),
        ({"sync_every": 0}, "sync_every must be ≥ 1"),
        ({"fit_epochs": 0.0}, "fit_epochs and fit_learning_rate must be > 0"),
        ({"fit_learning_rate": 0.0}, "fit_epochs and fit_learning_rate must be > 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as error:
            ReferenceSettings(kind="moving", **wrong)
        assert str(error.value) == words
    for moved in ({"alpha": 0.5}, {"sync_every": 500}):
        with pytest.raises(ValueError) as error:
            ReferenceSettings(kind="live", **moved)
        assert str(error.value) == "alpha and sync_every are settings of kind: moving"


def test_a_cache_tells_of_its_work_by_parts_of_sixteen_packs(tmp_path: Path) -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(20)
    told = Told()
    found = cached_reference(policy, groups, [[i] for i in range(20)], tmp_path / "deep" / "cache", told)
    assert told.reports == [
        ("begin", "reference", 20), ("advance", "reference", 16), ("advance", "reference", 4), ("end", "reference"),
    ]  # fmt: skip
    files = list((tmp_path / "deep" / "cache").iterdir())
    assert len(files) == 2
    assert sorted(len(load_file(file)[COLUMN]) for file in files) == sorted(
        sum(len(b.tokens) for g in part for b in g.branches) for part in (groups[:16], groups[16:])
    )
    for row, want in zip(columns(found), policy.logps(groups, Packing(groups=1)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(row, want, strict=True))


def test_a_long_data_set_keeps_its_column_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten groups, of which four may be in memory, in five packs."""
    monkeypatch.setattr(reference, "_WINDOW", 4)
    policy, groups, packing = tiny.policy(), tiny.pairs(10), Packing(groups=2)
    told = Told()
    packs = [[2 * i, 2 * i + 1] for i in range(5)]
    found = cached_reference(policy, groups, packs, tmp_path, told)
    assert [r for r in told.reports if r[0] == "advance"] == [("advance", "reference", 10)]
    assert len(list(tmp_path.iterdir())) == 1
    assert (len(found), isinstance(found, list)) == (10, False)
    want = policy.logps(groups, packing)
    for group, told_group, row in zip(groups, found, want, strict=True):
        assert (told_group.name, torch.equal(told_group.prompt, group.prompt)) == (group.name, True)
        for branch, logp in zip(told_group.branches, row, strict=True):
            torch.testing.assert_close(branch.token_columns[COLUMN], logp, rtol=1e-12, atol=1e-12)
    some = found[7:2:-2]
    assert [g.name for g in some] == ["row 7", "row 5", "row 3"]
    assert torch.equal(columns([some[0]])[0][1], columns([found[7]])[0][1])
    assert torch.equal(columns([found[-1]])[0][0], columns([found[9]])[0][0])
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    cached_reference(policy, groups, packs, tmp_path, Told())
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("window", "in_memory"), [(6, True), (5, False)])
def test_what_fits_into_one_window_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, in_memory: bool
) -> None:
    monkeypatch.setattr(reference, "_WINDOW", window)
    found = cached_reference(tiny.policy(), tiny.pairs(6), [[*range(6)]], tmp_path, Told())
    assert isinstance(found, list) == in_memory


def test_columns_belong_to_their_branches_and_all_are_there() -> None:
    groups = tiny.groups((2, 1, 2), (1, 1))
    values = [[torch.tensor([1.0]), torch.tensor([2.0, 3.0])], [torch.tensor([4.0])]]
    assert columns(with_reference(groups, values)) == values
    named = with_tokens(groups, "mine", values)
    assert [b.token_columns for g in named for b in g.branches] == [{"mine": v} for row in values for v in row]
    for wrong in (values[:1], [*values, values[0]]):
        with pytest.raises(ValueError, match="zip"):
            with_tokens(groups, "mine", wrong)


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_a_move_is_a_share_of_the_way(alpha: float) -> None:
    mine, theirs = torch.tensor([1.0, 0.1]), torch.tensor([3.0, 0.7])
    move(mine, theirs, alpha)
    assert mine.tolist() == ([1.5, pytest.approx(0.25)] if alpha == 0.25 else theirs.tolist())
    assert theirs.tolist() == torch.tensor([3.0, 0.7]).tolist()


def test_the_whole_way_is_taken_at_once() -> None:
    """As a sum, −3e38 − 3e38 would be no float32."""
    mine = torch.tensor([3e38])
    move(mine, torch.tensor([-3e38]), 1)
    assert mine.tolist() == torch.tensor([-3e38]).tolist()


def test_a_moving_adapter_is_refused_in_words() -> None:
    with pytest.raises(RecipeError) as error:
        MovingReference(tiny.lora_policy(), 0.99, 1)
    assert str(error.value) == (
        "reference.alpha: the reference of an adapter moves in one way: it becomes the policy\n"
        "  → set reference.alpha=1, or train without an adapter"
    )


def said(model: Any, groups: list[Group]) -> torch.Tensor:
    from twofold.models.attention import stock_attention

    with torch.no_grad(), stock_attention(model):
        return torch.cat([x for g in groups for x in tiny.alone(model, g)])


@pytest.mark.parametrize("kind", ["frozen", "adapter", "moving", "moving-adapter"])
def test_within_activated_the_model_is_the_reference(kind: str) -> None:
    policy = tiny.lora_policy(moved=True) if "adapter" in kind else tiny.policy()
    groups = tiny.pairs(2)
    made = MovingReference(policy, 1.0, 1) if "moving" in kind else live_reference(policy)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.2)
    want = torch.cat([x for row in made.logps(groups, Packing()) for x in row])
    own = torch.cat([x for row in policy.logps(groups) for x in row])
    assert (want - own).abs().max() > 0.01
    with made.activated() as model:
        torch.testing.assert_close(said(model, groups), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([x for row in policy.logps(groups) for x in row]), own, rtol=0, atol=0)


def test_a_policy_without_an_adapter_does_not_step_aside() -> None:
    with pytest.raises(ModelError) as error, tiny.policy().as_reference():
        pass
    assert str(error.value) == (
        "a policy without an adapter cannot be its own reference\n"
        "  → set model.lora, or compute the reference with a frozen copy of the model"
    )
