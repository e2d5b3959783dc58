"""Who plays, in what order: the registry of algorithms is the union below."""

from __future__ import annotations

from typing import TypeAlias

from twofold.algorithms.offline import Offline, OfflineAlgorithm
from twofold.algorithms.pdpo import PDPO, PDPOAlgorithm

AnyAlgorithm: TypeAlias = Offline | PDPO

__all__ = ["PDPO", "AnyAlgorithm", "Offline", "OfflineAlgorithm", "PDPOAlgorithm"]
