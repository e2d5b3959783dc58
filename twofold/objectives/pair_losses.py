"""Links: what a margin [P] costs. Every one is a function of one number per pair."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def logistic(margin_P: Tensor) -> Tensor:
    """−log σ(margin): the likelihood of a preference under Bradley and Terry."""
    return -logsigmoid(margin_P)


def smoothed(margin_P: Tensor, flipped: float) -> Tensor:
    """The logistic link in expectation, when a label is wrong with probability `flipped`."""
    return (1 - flipped) * logistic(margin_P) + flipped * logistic(-margin_P)


def unbiased(margin_P: Tensor, flipped: float) -> Tensor:
    """What averages, over labels flipped with probability `flipped`, to the logistic link of the true label."""
    return ((1 - flipped) * logistic(margin_P) - flipped * logistic(-margin_P)) / (1 - 2 * flipped)


def hinge(margin_P: Tensor, wanted: float = 1.0) -> Tensor:
    """max(0, wanted − margin)."""
    return relu(wanted - margin_P)


def square(margin_P: Tensor, wanted: Tensor | float) -> Tensor:
    """(margin − wanted)²."""
    return (margin_P - wanted).square()
