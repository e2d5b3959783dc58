"""What may change between a stop and a resume, what may not, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from twofold.errors import CheckpointError
from twofold.training.checkpoint import save
from twofold.training.identity import Identity

HERE = Path("run/checkpoints/step-3")
THEN = {"a": 1, "b": "x", "c": [1, 2], "rate": 0.1}


def state(identity: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"identity": identity, "trainer": {"logs": {"metrics": {"size": 3, "sha256": "…"}}}, **more}


def refusal(now: dict[str, Any], adjustable: tuple[str, ...] = (), **more: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        Identity(now, adjustable).changes(state(THEN, **more), HERE)
    return str(error.value)


@pytest.mark.parametrize("finished", [False, True])
def test_the_same_run_is_resumed_without_a_word(finished: bool) -> None:
    assert Identity(dict(reversed(THEN.items())), ["rate"]).changes(state(THEN, finished=finished), HERE) == []


def test_what_may_be_adjusted_is_told_by_name() -> None:
    now = {**THEN, "rate": 0.05, "b": None}
    assert Identity(now, ["rate", "b", "z"]).changes(state(THEN), HERE) == ["b: 'x' → None", "rate: 0.1 → 0.05"]
    without = {k: v for k, v in THEN.items() if k != "rate"}
    assert Identity({**without, "z": 0}, ["rate", "z"]).changes(state(THEN), HERE) == [
        "rate: 0.1 → nothing", "z: nothing → 0",
    ]  # fmt: skip


WAYS = "put it back, choose another run folder, or start over with --no-resume"


def test_anything_else_is_refused_with_what_changed_and_the_ways_out() -> None:
    assert refusal({**THEN, "a": 2, "rate": 0.05}, ("rate", "b")) == (
        f"{HERE}: the run has changed since its checkpoint: a: 1 → 2\n  → {WAYS}; only these may change: rate, b"
    )
    assert refusal({**THEN, "a": 2, "c": [2]}) == (
        f"{HERE}: the run has changed since its checkpoint: a: 1 → 2; c: [1, 2] → [2]\n  → {WAYS}"
    )


def test_five_changes_are_shown() -> None:
    many = {f"k{i}": i for i in range(9)}
    shown = "; ".join(f"k{i}: nothing → {i}" for i in range(5))
    assert refusal({**THEN, **many}).startswith(f"{HERE}: the run has changed since its checkpoint: {shown}\n")


def test_of_a_finished_run_nothing_may_change() -> None:
    assert refusal({**THEN, "rate": 0.05}, ("rate",), finished=True) == (
        f"{HERE}: the run has changed since its checkpoint: rate: 0.1 → 0.05\n"
        f"  → {WAYS}; all steps are done, so nothing may change any more"
    )


@pytest.mark.parametrize("trainer", [None, {}, {"logs": {"metrics": 31}}, {"logs": {"samples": {}, "metrics": 31}}])
def test_the_layout_of_an_earlier_version_is_refused_whatever_it_says(trainer: dict[str, Any] | None) -> None:
    old = {"identity": THEN} if trainer is None else {"identity": THEN, "trainer": trainer}
    with pytest.raises(CheckpointError) as error:
        Identity(THEN).changes(old, HERE)
    assert str(error.value) == (
        f"{HERE}: this run was begun by an earlier version of twofold, which named settings and state differently\n"
        "  → finish it with that version, or start again in another run folder (or with --no-resume)"
    )


def test_a_change_is_refused_by_the_newest_state_that_can_be_read(tmp_path: Path) -> None:
    mine = Identity({**THEN, "a": 2})
    mine.refuse_changed(tmp_path / "absent")
    mine.refuse_changed(tmp_path)
    tensors = {"policy": {"w": torch.ones(1)}}
    save(tmp_path, 1, tensors, state(THEN), keep=None)
    save(tmp_path, 2, tensors, state({**THEN, "a": 2}), keep=None)
    mine.refuse_changed(tmp_path)
    (tmp_path / "step-2" / "policy.safetensors").write_bytes(b"damaged")  # the tensors are not read
    mine.refuse_changed(tmp_path)
    (tmp_path / "step-2" / "state.json").write_bytes(b"damaged")
    with pytest.raises(CheckpointError) as error:
        mine.refuse_changed(tmp_path)
    assert error.value.where == str(tmp_path / "step-1")
