"""One player and fixed data: SFT, DPO and every objective that needs no drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from twofold.batch import Group
from twofold.data.order import Order
from twofold.objectives.base import Objective
from twofold.settings import settings
from twofold.training.step import Part, Round


@settings
class Offline:
    """Train on the data as it is."""

    kind: Literal["offline"] = "offline"


class OfflineAlgorithm:
    """Each round is the next `batch_size` groups in the order that (seed, step) gives."""

    def __init__(self, groups: Sequence[Group], objective: Objective, *, batch_size: int, seed: int) -> None:
        self.groups, self.objective, self.batch_size = groups, objective, batch_size
        self.order = Order(len(groups), seed)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        groups = [self.groups[i] for i in self.order.at(step, self.batch_size)]
        return Round(step, [Part(groups, self.objective)])

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """Fixed data learns nothing from what happened."""
