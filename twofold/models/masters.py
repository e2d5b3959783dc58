"""Float32 masters of weights that compute in bfloat16: each weight has a rounding threshold of its own.

Rounded to the nearest, a weight must move by half a step of bfloat16 before the model computes anything else, and at
rates of preference training all weights stand still together. With thresholds spread evenly, a share of the weights
moves as large as the share of a step that all of them have gone: what the model computes follows its masters at once.
It is stochastic rounding (Gupta et al. 2015, arXiv:1502.02551) whose noise is drawn once, so that a policy stays the
same function between its drafts, its evaluation and its update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from twofold.world import part_here, place_of

_LOW = 0xFFFF
_PERIOD = 262_139
"""Thresholds are drawn once and repeat after so many weights: they fit into a processor's cache. A prime number."""


class Masters:
    """Of `parameters` in float32, without gaps: they hold what bfloat16 can say, and 16 bits beside each the rest of
    its master. A part of a weight is rounded as it would be within the whole."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        parts = {name: part_here(p.detach()) for name, p in self._parameters.items()}
        self._rest = {name: torch.empty_like(part, dtype=torch.int16) for name, part in parts.items()}
        self._noise: dict[torch.device, Tensor] = {}
        self._round()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within it the parameters are their masters, and may be changed."""
        self.end()
        try:
            yield
        finally:
            self._round()

    def end(self) -> None:
        """From now on the parameters are their masters."""
        for name, parameter in self._parameters.items():
            self._join(name, parameter.detach())

    def of(self, name: str) -> Tensor:
        """A copy of the master of a parameter."""
        copied = self._parameters[name].detach().clone()
        self._join(name, copied)
        return copied

    def _round(self) -> None:
        """Up in size where the rest exceeds the weight's threshold."""
        for name, parameter in self._parameters.items():
            for bits, rest, noise in self._pieces(name, parameter.detach()):
                rest.copy_(bits)  # the low half alone
                bits.add_(noise).bitwise_and_(~_LOW)

    def _join(self, name: str, weight: Tensor) -> None:
        """Make the masters of rounded weights: whether one was rounded up follows from its rest and its threshold."""
        for bits, rest, noise in self._pieces(name, weight):
            low = rest.to(torch.int32).bitwise_and_(_LOW)
            bits.add_(low).sub_(low.add_(noise).bitwise_and_(~_LOW))

    def _pieces(self, name: str, weight: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Bits, rests and thresholds, uniform over 0 … 65535; those of another parameter begin elsewhere."""
        part = part_here(weight)
        bits, rest = part.view(torch.int32).view(-1), self._rest[name].view(-1)
        if part.device not in self._noise:
            draw = torch.Generator().manual_seed(0)
            drawn = torch.randint(_LOW + 1, (_PERIOD,), dtype=torch.int32, generator=draw)
            self._noise[part.device] = drawn.to(part.device)
        begin = 7919 * list(self._parameters).index(name) - _numbers_before(weight)
        noise = self._noise[part.device].roll(begin % _PERIOD)
        for at in range(0, len(bits), _PERIOD):
            piece = slice(at, at + _PERIOD)
            yield bits[piece], rest[piece], noise[: len(bits[piece])]


def _numbers_before(value: Tensor) -> int:
    """How many numbers of a tensor come before what this process holds of it."""
    place = place_of(value)
    return 0 if place is None or not value.dim() else place.begin[0] * math.prod(value.shape[1:])
