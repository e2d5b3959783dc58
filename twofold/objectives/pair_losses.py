"""Link functions from a margin [P] to a loss per pair [P]."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def logistic(margin_P: Tensor) -> Tensor:
    """−log σ(margin): the negative log-likelihood of a preference under Bradley and Terry."""
    return -logsigmoid(margin_P)


def smoothed(margin_P: Tensor, flipped: float) -> Tensor:
    """The expected logistic loss if a label is wrong with probability `flipped`."""
    return (1 - flipped) * logistic(margin_P) + flipped * logistic(-margin_P)


def unbiased(margin_P: Tensor, flipped: float) -> Tensor:
    """The unbiased loss: its mean over labels flipped with probability `flipped` is the logistic loss of the true
    label."""
    return ((1 - flipped) * logistic(margin_P) - flipped * logistic(-margin_P)) / (1 - 2 * flipped)


def hinge(margin_P: Tensor, wanted: Tensor | float = 1.0) -> Tensor:
    """max(0, wanted − margin)."""
    return relu(wanted - margin_P)


def square(margin_P: Tensor, wanted: Tensor | float) -> Tensor:
    """(margin − wanted)²."""
    return (margin_P - wanted).square()
