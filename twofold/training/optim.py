"""AdamW and its learning-rate schedule, both torch's. The rate is a function of the step: resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from twofold.settings import require, settings

RATES = {False: 1e-6, True: 1e-5}
"""Learning rates by default: of all weights, and of an adapter."""


@settings
class AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with linear warm-up, then a decay to `min_lr_ratio`."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float | None = None
    """By default 1e-6 where all weights are trained, and 1e-5 where an adapter is: low-rank updates take about ten
    times the rate (Schulman et al. 2025, LoRA Without Regret)."""
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    """On matrices only."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = 0.1
    """Steps (≥ 1) or a fraction of all steps (< 1)."""
    min_lr_ratio: float = 0.0
    """What is left of the rate at the last step."""
    clip: float | None = 1.0
    """Largest norm of the gradient; none leaves it alone."""

    def __post_init__(self) -> None:
        require(self.learning_rate is None or self.learning_rate > 0, "learning_rate must be > 0")
        require(self.warmup >= 0 and self.weight_decay >= 0, "warmup and weight_decay must be ≥ 0")
        require(0 <= self.min_lr_ratio <= 1, "min_lr_ratio must be in [0, 1]")
        require(self.clip is None or self.clip > 0, "clip must be > 0, or null")

    def for_tuning(self, *, adapter: bool) -> AdamW:
        """These settings with the rate that they leave open."""
        return self if self.learning_rate is not None else replace(self, learning_rate=RATES[adapter])

    @property
    def rate(self) -> float:
        """The learning rate; where it is open, that of all weights."""
        return RATES[False] if self.learning_rate is None else self.learning_rate

    def factor(self, step: int, steps: int) -> float:
        """Share of the learning rate at `step` (from 0) of `steps`."""
        warm = self.warmup if self.warmup >= 1 else self.warmup * steps
        if step < warm:
            return (step + 1) / (math.ceil(warm) + 1)
        left = 1 - (step - warm) / max(1.0, steps - warm)
        shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[self.schedule]
        return shape if self.schedule == "constant" else self.min_lr_ratio + (1 - self.min_lr_ratio) * shape


def make_optimizer(settings: AdamW, parameters: Mapping[str, nn.Parameter]) -> torch.optim.AdamW:
    """AdamW over `parameters`; decay on matrices, none on vectors."""
    ordered = list(parameters.values())
    groups = [
        {"params": [p for p in ordered if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in ordered if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=settings.rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=True,
    )


def make_schedule(settings: AdamW, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> LambdaLR:
    """The schedule as it stands before step `start`."""
    for group in optimizer.param_groups:
        group["initial_lr"] = settings.rate
    return LambdaLR(optimizer, lambda step: settings.factor(step, steps), last_epoch=start - 1)
