"""The registry of objectives is the union below: explicit, greppable, and what recipes, tests and docs run over."""

from __future__ import annotations

from typing import TypeAlias

from twofold.objectives.dpo import DPO
from twofold.objectives.pdpo import PDPOGenerator
from twofold.objectives.sft import SFT

AnyObjective: TypeAlias = SFT | DPO | PDPOGenerator

__all__ = ["DPO", "SFT", "AnyObjective", "PDPOGenerator"]
