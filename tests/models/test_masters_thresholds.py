"""Masters by hand: the threshold of each weight, which repeats, and differs between parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from twofold.models import masters
from twofold.models.masters import Masters

PERIOD = 262_139


def test_a_weight_is_rounded_by_its_own_threshold() -> None:
    """The bits of a master and a threshold from 0 to 65535 are added, and the low half is dropped. The thresholds of
    the second parameter begin 7919 later."""
    shapes = {"a": (3, 5), "b": (PERIOD + 9,)}
    noise = torch.Generator().manual_seed(3)
    before = {name: torch.randn(*shape, generator=noise) for name, shape in shapes.items()}
    weights = {name: nn.Parameter(value.clone()) for name, value in before.items()}
    made = Masters(weights)
    drawn = torch.randint(65536, (PERIOD,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    for name, shift in (("a", 0), ("b", 7919)):
        bits = before[name].view(torch.int32).flatten()
        threshold = torch.cat([drawn.roll(shift)] * 2)[: len(bits)]
        rounded = (bits + threshold) & ~0xFFFF
        assert torch.equal(weights[name].detach().view(torch.int32).flatten(), rounded)
        assert torch.equal(made.of(name), before[name])
    made.end()
    assert all(torch.equal(weights[name], before[name]) for name in weights)


def test_they_are_masters_inside_the_context_even_where_it_fails() -> None:
    weight = nn.Parameter(torch.full((64,), 1 + 2.0**-9))
    made = Masters({"w": weight})
    rounded = weight.detach().clone()
    with made.whole():
        assert weight.unique().tolist() == [1 + 2.0**-9]
    assert torch.equal(weight, rounded)
    with pytest.raises(KeyError), made.whole():
        raise KeyError
    assert torch.equal(weight, rounded)
    assert not torch.equal(weight, torch.full((64,), 1 + 2.0**-9))


@pytest.mark.parametrize(("begin", "want"), [(None, 0), ((0, 0), 0), ((2, 0), 12)])
def test_the_numbers_before_a_shard_are_whole_rows(
    begin: tuple[int, ...] | None, want: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = None if begin is None else type("Place", (), {"begin": begin})()
    monkeypatch.setattr(masters, "place_of", lambda value: place)
    assert masters._numbers_before(torch.zeros(4, 2, 3)) == want
    assert masters._numbers_before(torch.zeros(())) == 0
