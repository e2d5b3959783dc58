"""Matrices that several processes deal among themselves: who updates which, what is sent, and what each has then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from twofold.training import dealt_matrices
from twofold.training.dealt_matrices import DealtMatrices

SIZES = {"small": (1, 2), "large": (2, 3), "frozen": (9, 9), "middle": (1, 3)}


class Among:
    """One of two processes. What the other one sends is full of sevens."""

    def __init__(self, rank: int) -> None:
        self.rank, self.size = rank, 2
        self.sent: list[tuple[int, tuple[int, ...], torch.dtype]] = []
        self.sheet: dict[str, Any] = {}

    def gather(self, value: Any) -> list[Any]:
        theirs = None if value is not None else self.sheet
        return [value, theirs] if self.rank == 0 else [theirs, value]

    def broadcast(self, value: Tensor, owner: int) -> None:
        self.sent.append((owner, tuple(value.shape), value.dtype))
        if owner != self.rank:
            value.fill_(7)


def dealt(among: Among, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype = torch.float64) -> Any:
    monkeypatch.setattr(dealt_matrices, "world", lambda: among)
    monkeypatch.setattr(dealt_matrices, "dist", SimpleNamespace(broadcast=among.broadcast))
    own = {name: nn.Parameter(torch.ones(size, dtype=dtype)) for name, size in SIZES.items()}
    made = DealtMatrices(own, lambda them: torch.optim.SGD([*them.values()], lr=0.5, momentum=0.5))
    return own, made


def stepped(own: dict[str, nn.Parameter], made: DealtMatrices, among: Among, gradient: float = 1.0) -> None:
    among.sent.clear()
    for name, parameter in own.items():
        parameter.grad = None if name == "frozen" else torch.full_like(parameter, gradient)
    made.step()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_largest_matrices_go_in_turns_and_their_process_rotates(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large and middle are one turn, of process 0 and 1; small is the next one, which begins at process 1. The other
    process tells of a step count, and of no momentum."""
    among = Among(rank)
    among.sheet = {"step": 3}
    own, made = dealt(among, monkeypatch)
    stepped(own, made, among)
    mine = ["large"] if rank == 0 else ["middle", "small"]
    place = {"large": 0, "middle": 1, "small": 1}
    weights = [(place[name], SIZES[name], torch.float64) for name in ("large", "middle", "small")]
    moments = [each for each in weights if each[0] == rank]
    assert sorted(among.sent) == sorted([*weights, *moments])
    assert among.sent[0][0] == 0
    assert {type(owner) for owner, *_ in among.sent} == {int}
    for name in place:
        assert own[name].unique().item() == (0.5 if name in mine else 7.0), name
        state = made.state[own[name]]
        assert (state == {"step": 3}) if name not in mine else (state["momentum_buffer"].unique().item() == 1.0)
    assert own["frozen"].unique().item() == 1.0
    assert not made.state[own["frozen"]]
    stepped(own, made, among)
    for name in mine:  # momentum 0.5: a step of 0.5 · 1.5 behind one of 0.5
        assert own[name].unique().item() == pytest.approx(-0.25)


def test_state_of_the_other_process_comes_in_its_own_shape_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    among = Among(0)
    among.sheet = {"row": [[3], "bfloat16", "cpu"], "step": 2.5}
    own, made = dealt(among, monkeypatch)
    stepped(own, made, among)
    state = made.state[own["middle"]]
    assert (state["step"], state["row"].tolist(), state["row"].dtype) == (2.5, [7.0] * 3, torch.bfloat16)
    assert (1, (3,), torch.bfloat16) in among.sent


def test_weights_gradients_and_tensors_of_state_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a whole is its part times ten; a number of state is no part of anything."""

    def whole(value: Tensor) -> Tensor:
        assert isinstance(value, Tensor)
        return value * 10

    among = Among(0)
    own, made = dealt(among, monkeypatch)
    monkeypatch.setattr(dealt_matrices, "whole_tensor", whole)
    own["large"].grad = torch.ones(2, 3, dtype=torch.float64)
    made.state[own["large"]] = {"momentum_buffer": torch.full((2, 3), 0.5, dtype=torch.float64), "step": 3}
    made.step()  # a weight of 10 minus 0.5 times a momentum of 0.5 · 5 + 10
    assert own["large"].unique().tolist() == [10 - 0.5 * 12.5]
    state = made.state[own["large"]]
    assert (state["momentum_buffer"].unique().tolist(), state["step"]) == ([12.5], 3)


def test_parts_have_the_shape_of_their_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only state of the parameter's shape is split like it; the sheet tells of one of each kind."""
    request: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def part_of(value: Tensor, like: Tensor) -> Tensor:
        request.append((tuple(value.shape), tuple(like.shape)))
        return value

    monkeypatch.setattr(dealt_matrices, "part_of", part_of)
    among = Among(0)
    among.sheet = {"whole": [[1, 3], "float32", "cpu"], "row": [[3], "float32", "cpu"]}
    own, made = dealt(among, monkeypatch)
    own["small"].requires_grad_(False)
    for name, parameter in own.items():
        parameter.grad = torch.ones_like(parameter) if name == "middle" else None
    among.rank = 1
    made.step()  # of a turn of one, process 0 is the owner, and this is process 1
    assert request == [((1, 3), (1, 3)), ((1, 3), (1, 3))]
    assert made.state[own["middle"]].keys() == {"whole", "row"}


def test_a_stand_in_has_all_of_a_parameter_but_its_values() -> None:
    parameter = nn.Parameter(torch.ones(2, 3, dtype=torch.bfloat16), requires_grad=False)
    one = dealt_matrices._without_values(parameter)
    assert (one.shape, one.dtype, one.requires_grad, one.device) == ((2, 3), torch.bfloat16, False, parameter.device)
    assert one.untyped_storage().nbytes() == 2
    assert dealt_matrices._without_values(nn.Parameter(torch.ones(2))).requires_grad
    assert dealt_matrices._described(parameter) == ([2, 3], "bfloat16", "cpu")
    assert (dealt_matrices._described(3), dealt_matrices._described(0.5)) == (3, 0.5)
