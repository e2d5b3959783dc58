"""Float32 master weights of a model that computes in bfloat16: each weight has its own rounding threshold.

With rounding to nearest, a weight must change by half a bfloat16 step before the model's output changes. At the
learning rates of preference training, no weight gets that far. With evenly spread thresholds, the fraction of weights
that round up equals the fraction of a step by which the masters moved. So the output follows the masters at once. This
is stochastic rounding (Gupta et al. 2015, arXiv:1502.02551) with noise that is drawn only once. So a policy is the same
function when it samples, when it is evaluated and when it is updated.
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
"""Thresholds are drawn once and repeat after this many weights, so that they fit a CPU's cache. A prime number."""


class Masters:
    """The masters of contiguous float32 `parameters`. A parameter holds its value rounded to bfloat16; 16 more bits per
    weight hold the rest of its master. A shard of a weight is rounded exactly as in the whole weight."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        parts = {name: part_here(p.detach()) for name, p in self._parameters.items()}
        self._rest = {name: torch.empty_like(part, dtype=torch.int16) for name, part in parts.items()}
        self._noise: dict[torch.device, Tensor] = {}
        self._round()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside the context the parameters are their masters, and may be changed."""
        self.end()
        try:
            yield
        finally:
            self._round()

    def end(self) -> None:
        """Set the parameters to their masters."""
        for name, parameter in self._parameters.items():
            self._join(name, parameter.detach())

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def of(self, name: str) -> Tensor:
        """A copy of the master of a parameter."""
        copied = self._parameters[name].detach().clone()
        self._join(name, copied)
        return copied

    def _round(self) -> None:
        """Round the masters: away from zero if the rest exceeds the weight's threshold, else toward zero."""
        for name, parameter in self._parameters.items():
            for bits, rest, noise in self._pieces(name, parameter.detach()):
                rest.copy_(bits)  # only the low half
                bits.add_(noise).bitwise_and_(~_LOW)

    def _join(self, name: str, weight: Tensor) -> None:
        """Restore the masters of rounded weights. The rest and the threshold determine which weights were rounded
        up."""
        for bits, rest, noise in self._pieces(name, weight):
            low = rest.to(torch.int32).bitwise_and_(_LOW)
            bits.add_(low).sub_(low.add_(noise).bitwise_and_(~_LOW))

    def _pieces(self, name: str, weight: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Bits, rests and thresholds, uniform over 0 … 65535. Each parameter begins at another threshold."""
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
    """The number of elements of a tensor before this process's shard of it."""
    place = place_of(value)
    return 0 if place is None or not value.dim() else place.begin[0] * math.prod(value.shape[1:])
