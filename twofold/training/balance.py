"""How much a part of a round counts, by gradient norms, in the manner of VQGAN's adaptive weight.

Source: Esser, Rombach and Ommer 2021, "Taming Transformers for High-Resolution Image Synthesis", arXiv:2012.09841,
equation 7. There the norms are of the last layer and 1e-6 stands below the line; here they are of the whole gradients
of a step, and a part that has none is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Balance:
    """‖other parts' gradient‖ / ‖the part's own‖, of running means of both norms where `decay` is not 0: their keeper.

    A step in which either norm is 0 moves no mean; one that is not finite gives NaN, which the step refuses.
    """

    name = "balance"

    def __init__(self, *, decay: float = 0.0, most: float = 1e4) -> None:
        self.decay, self.most = decay, most
        self.norms: tuple[float, float] | None = None

    def factor(self, others: float, own: float) -> float:
        """What the part's loss is multiplied with, at most `most`; 0 where a part feels nothing."""
        if own == 0:
            return 0.0
        if not (math.isfinite(others) and math.isfinite(own)):
            return math.nan
        if self.decay == 0:
            return min(self.most, others / own)
        if others > 0:
            before = self.norms or (others, own)
            self.norms = _moved(before[0], others, self.decay), _moved(before[1], own, self.decay)
        return 0.0 if self.norms is None else min(self.most, self.norms[0] / self.norms[1])

    def tensors(self) -> Mapping[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"norms": self.norms}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        self.norms = None if numbers["norms"] is None else tuple(numbers["norms"])

    def on_step_end(self, steps: int) -> None:
        """Nothing: the step has moved the means itself."""


def _moved(before: float, now: float, decay: float) -> float:
    return now + decay * (before - now)
