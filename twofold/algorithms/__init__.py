"""The registry of algorithms: the union below."""

from __future__ import annotations

from typing import TypeAlias

from twofold.algorithms.offline import Offline as Offline
from twofold.algorithms.online import Online as Online
from twofold.algorithms.pdpo import PDPO as PDPO
from twofold.algorithms.policy_gradient import PolicyGradient as PolicyGradient

AnyAlgorithm: TypeAlias = Offline | PDPO | PolicyGradient | Online
