"""Who plays, in what order: the registry of algorithms is the union below."""

from __future__ import annotations

from typing import TypeAlias

from twofold.algorithms.gae import VALUE_MODEL, ValueModelSettings
from twofold.algorithms.offline import Offline, OfflineAlgorithm
from twofold.algorithms.online import Online, OnlineAlgorithm
from twofold.algorithms.pdpo import PDPO, PDPOAlgorithm
from twofold.algorithms.policy_gradient import PolicyGradient, PolicyGradientAlgorithm

AnyAlgorithm: TypeAlias = Offline | PDPO | PolicyGradient | Online

__all__ = [
    "PDPO",
    "VALUE_MODEL",
    "AnyAlgorithm",
    "Offline",
    "OfflineAlgorithm",
    "Online",
    "OnlineAlgorithm",
    "PDPOAlgorithm",
    "PolicyGradient",
    "PolicyGradientAlgorithm",
    "ValueModelSettings",
]
