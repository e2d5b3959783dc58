"""Masters come back to the last bit; their rounding is unbiased, stands still, and follows small moves at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twofold.models.masters import Masters


def weights(count: int = 100_000, seed: int = 0) -> nn.Parameter:
    noise = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(count, generator=noise) * torch.logspace(-6, 6, count))


def grid(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def test_parameters_are_what_bfloat16_can_say_and_masters_come_back_whole() -> None:
    weight = weights()
    before = weight.detach().clone()
    masters = Masters({"w": weight})
    assert torch.equal(weight, grid(weight))
    assert not torch.equal(weight, before)
    assert torch.equal(masters.of("w"), before)
    rounded = weight.detach().clone()
    with masters.whole():
        assert torch.equal(weight, before)
    assert torch.equal(weight, rounded)


def test_a_weight_on_the_grid_stays_there() -> None:
    weight = nn.Parameter(grid(weights().detach()))
    before = weight.detach().clone()
    Masters({"w": weight})
    assert torch.equal(weight, before)


def test_rounding_is_to_a_neighbor_and_unbiased() -> None:
    """Of 2^20 masters a quarter of a step above the grid a quarter is rounded up: within 4 standard deviations."""
    weight = nn.Parameter(torch.full((2**20,), 1 + 2.0**-9))
    Masters({"w": weight})
    values, counts = weight.detach().unique(return_counts=True)
    assert values.tolist() == [1.0, 1 + 2.0**-7]
    share, deviation = counts[1].item() / 2**20, (0.25 * 0.75 / 2**20) ** 0.5
    assert abs(share - 0.25) < 4 * deviation
    signed = nn.Parameter(-weights().detach())
    masters = Masters({"w": signed})
    error = (signed.detach() - masters.of("w")) / masters.of("w").abs()
    assert abs(error.mean().item()) < 4 * error.std().item() / len(error) ** 0.5


def test_what_is_computed_follows_moves_far_below_a_step() -> None:
    """A thousandth of a step moves the mean by as much; rounded to the nearest it moves nothing."""
    weight = nn.Parameter(torch.full((2**22,), 1.0))
    masters = Masters({"w": weight})
    with masters.whole(), torch.no_grad():
        weight.add_(2.0**-17)
    moved = (weight.detach().double().mean() - 1).item()
    assert abs(moved / 2.0**-17 - 1) < 0.2
    assert (grid(masters.of("w")) == 1).all()


def test_noise_differs_between_weights_of_one_shape() -> None:
    a, b = (nn.Parameter(torch.full((4096,), 1 + 2.0**-8)) for _ in range(2))
    Masters({"a": a, "b": b})
    assert 1000 < (a != b).sum() < 3000
