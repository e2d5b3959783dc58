"""Dealing work to processes, and what one process alone makes of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support import tiny
from support.tiny import PROPERTY
from twofold.errors import NonFiniteError
from twofold.models.packing import Packing, bins
from twofold.world import Turn, World, world

COSTS = st.lists(st.integers(1, 1000), max_size=40)


@PROPERTY
@given(COSTS, st.integers(1, 7), st.booleans())
def test_everything_is_dealt_once(costs: list[int], size: int, even: bool) -> None:
    turns = [World(rank, size).deal(costs, even=even) for rank in range(size)]
    assert sorted(t.place for mine in turns for t in mine if t.real) == list(range(len(costs)))
    if even:
        assert len({len(mine) for mine in turns}) == 1


def test_turns_are_of_like_cost_and_the_load_is_even() -> None:
    costs = [100, 90, 80, 70, 60, 50, 40, 30]
    loads = [sum(costs[t.place] for t in World(rank, 2).deal(costs)) for rank in range(2)]
    assert loads == [260, 260]


def test_too_little_work_is_filled_up_with_the_least() -> None:
    assert World(2, 3).deal([5, 9], even=True) == [Turn(0, real=False)]
    assert World(2, 3).deal([5, 9]) == []


def test_packs_are_as_many_as_processes_and_of_like_size(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = tiny.pairs(12)
    whole = bins(groups, Packing())
    monkeypatch.setattr("twofold.world._here", World(0, 4))
    packs = bins(groups, Packing())
    sizes = [sum(groups[i].num_tokens for i in pack) for pack in packs]
    assert len(whole) == 1
    assert len(packs) == 4
    assert sorted(i for pack in packs for i in pack) == list(range(12))
    assert max(sizes) - min(sizes) <= max(g.num_tokens for g in groups)
    assert len(bins(groups[:3], Packing())) == 3
    assert all(len(pack) <= 2 for pack in bins(groups, Packing(groups=2)))


def test_alone_nothing_changes() -> None:
    here = world()
    value = torch.ones(2)
    assert here == World()
    assert here.gather({"a": 1}) == [{"a": 1}]
    assert here.once(lambda: 7) == 7
    assert here.summed({"x": -0.0}) == {"x": -0.0}
    assert here.total(value) is value
    with pytest.raises(NonFiniteError), here.agreed():
        raise NonFiniteError("odd", where="", remedy="")
