"""Optimizers and their learning-rate schedule. The rate is a function of the step: resuming needs no state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from twofold.errors import RecipeError
from twofold.settings import require, settings
from twofold.training.dealt_matrices import DealtMatrices
from twofold.world import is_part

ParameterGroup = dict[str, Any]
RATES = {False: 1e-6, True: 1e-5}
"""Learning rates by default: of all weights, and of an adapter."""


@settings
class OptimizerSettings:
    """The settings that all optimizers share: the rate and its schedule, decay and clipping."""

    learning_rate: float | None = None
    """By default 1e-6 for full fine-tuning and 1e-5 for an adapter: low-rank updates need about ten times the rate
    (Schulman et al. 2025, LoRA Without Regret)."""
    weight_decay: float = 0.0
    """Weight decay, applied to matrices only."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = 0.1
    """Steps (≥ 1) or a fraction of all steps (< 1)."""
    min_lr_ratio: float = 0.0
    """Learning rate at the last step, as a fraction of `learning_rate`."""
    clip: float | None = 1.0
    """Maximum norm of the gradient; none disables clipping."""

    rates: ClassVar[Mapping[bool, float]] = RATES
    elementwise: ClassVar[bool] = True
    """Whether the update of a weight depends only on that weight, so that a part of a matrix is enough."""

    def __post_init__(self) -> None:
        require(self.learning_rate is None or self.learning_rate > 0, "learning_rate must be > 0")
        require(self.warmup >= 0 and self.weight_decay >= 0, "warmup and weight_decay must be ≥ 0")
        require(0 <= self.min_lr_ratio <= 1, "min_lr_ratio must be in [0, 1]")
        require(self.clip is None or self.clip > 0, "clip must be > 0, or null")
        numbers: dict[str, Any] = vars(self)
        for name, value in numbers.items():
            if name in ("betas", "momentum", "decay"):
                shares = value if name == "betas" else (value,)
                require(all(0 <= share < 1 for share in shares), f"{name} must be in [0, 1)")
            elif name == "epsilon":
                require(value >= 0, "epsilon must be ≥ 0")

    def for_tuning(self, *, adapter: bool) -> Self:
        """These settings with the default rate if none is set."""
        return self if self.learning_rate is not None else replace(self, learning_rate=self.rates[adapter])

    @property
    def rate(self) -> float:
        """The learning rate; if none is set, the default for all weights."""
        return self.rates[False] if self.learning_rate is None else self.learning_rate

    def factor(self, step: int, steps: int) -> float:
        """Share of the learning rate at `step` (from 0) of `steps`."""
        warm = self.warmup if self.warmup >= 1 else self.warmup * steps
        if step < warm:
            return (step + 1) / (math.ceil(warm) + 1)
        left = 1 - (step - warm) / max(1.0, steps - warm)
        shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[self.schedule]
        return shape if self.schedule == "constant" else self.min_lr_ratio + (1 - self.min_lr_ratio) * shape

    @abstractmethod
    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        """The optimizer of these groups, which have their weight decay already."""

    @abstractmethod
    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        """Bytes of state for a parameter of this shape whose numbers have `width` bytes."""

    def build(self, parameters: Mapping[str, nn.Parameter], embeddings: Collection[nn.Parameter] = ()) -> Optimizer:
        """The optimizer of `parameters`, of which `embeddings` are input or output embeddings."""
        return self.over(decayed(parameters.values(), self.weight_decay))


@settings
class AdamW(OptimizerSettings):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101): 8 bytes of state per weight."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        return torch.optim.AdamW(groups, lr=self.rate, betas=self.betas, eps=self.epsilon, fused=True)

    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        return 2 * shape.numel() * width + 4


@settings
class AdamW8bit(OptimizerSettings):
    """AdamW with 8-bit moments in blocks of 256 (Dettmers et al. 2022, arXiv:2110.02861): 2 bytes of state per weight,
    8 for tensors with fewer than 4096 weights. Requires bitsandbytes, the extra `quantized`."""

    kind: Literal["adamw_8bit"] = "adamw_8bit"
    elementwise: ClassVar[bool] = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        try:
            from bitsandbytes.optim import AdamW8bit as Quantized  # type: ignore[import-not-found]  # an extra
        except ImportError:
            remedy = "pip install 'twofold[quantized]', or use optimizer.kind=adafactor, which needs no package"
            raise RecipeError("bitsandbytes is not installed", where="optimizer.kind", remedy=remedy) from None
        return Quantized(groups, lr=self.rate, betas=self.betas, eps=self.epsilon)

    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        return 2 * shape.numel() * (4 if shape.numel() < 4096 else 1)


@settings
class Adafactor(OptimizerSettings):
    """torch's Adafactor (Shazeer & Stern 2018, arXiv:1804.04235): one row and one column of state per matrix. A step is
    `learning_rate` times the root mean square of the weights it changes, so rates are about 30 times AdamW's."""

    kind: Literal["adafactor"] = "adafactor"
    elementwise: ClassVar[bool] = False
    rates: ClassVar[Mapping[bool, float]] = {False: 3e-5, True: 3e-4}

    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        return torch.optim.Adafactor(groups, lr=self.rate)

    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        return (sum(shape[-2:]) * shape[:-2].numel() if len(shape) > 1 else shape.numel()) * width + 4


@settings
class RMSprop(OptimizerSettings):
    """RMSprop (Hinton 2012): 4 bytes of state per weight. The DPO paper trained with it."""

    kind: Literal["rmsprop"] = "rmsprop"
    decay: float = 0.99
    """Decay of the mean of squared gradients."""
    epsilon: float = 1e-8

    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        return torch.optim.RMSprop(groups, lr=self.rate, alpha=self.decay, eps=self.epsilon)

    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        return shape.numel() * width + 4


@settings
class SGD(OptimizerSettings):
    """Gradient descent with momentum: 4 bytes of state per weight, none with momentum 0. No learning rate suits all
    models."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = 0.9

    def __post_init__(self) -> None:
        require(self.learning_rate is not None, "learning_rate has no default under sgd: give one")
        super().__post_init__()

    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        return torch.optim.SGD(groups, lr=self.rate, momentum=self.momentum)

    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        return shape.numel() * width if self.momentum else 0


@settings
class Muon(OptimizerSettings):
    """torch's Muon (Jordan et al. 2024): orthogonalized momentum for the matrices of the layers, 4 bytes of state per
    weight. Embeddings, head and vectors use AdamW. Steps have AdamW's size (Liu et al. 2025, arXiv:2502.16982), so
    AdamW's learning rates apply."""

    kind: Literal["muon"] = "muon"
    elementwise: ClassVar[bool] = False
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.999)
    """For AdamW, as is `epsilon`."""
    epsilon: float = 1e-8

    def build(self, parameters: Mapping[str, nn.Parameter], embeddings: Collection[nn.Parameter] = ()) -> Optimizer:
        aside = {id(p) for p in embeddings}
        layers = [p for p in parameters.values() if p.dim() == 2 and id(p) not in aside]
        inside = {id(p) for p in layers}
        others = decayed([p for p in parameters.values() if id(p) not in inside], self.weight_decay)
        if not layers:
            return self.over(others)
        muon = torch.optim.Muon(
            layers, lr=self.rate, weight_decay=self.weight_decay, momentum=self.momentum, adjust_lr_fn="match_rms_adamw"
        )
        return Joint([muon, self.over(others)]) if others else muon

    def over(self, groups: list[ParameterGroup]) -> Optimizer:
        return torch.optim.AdamW(groups, lr=self.rate, betas=self.betas, eps=self.epsilon)

    def state_bytes(self, shape: torch.Size, width: int, *, embedding: bool = False) -> int:
        return (1 if len(shape) == 2 and not embedding else 2) * shape.numel() * width


AnyOptimizer = AdamW | AdamW8bit | Adafactor | RMSprop | SGD | Muon


class Joint(Optimizer):
    """Several optimizers, each of its own parameters, as one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__([dict(group) for group in groups], {})
        self.parts, self.param_groups = parts, groups
        for part in parts:
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures here
        for part in self.parts:
            part.step()


def decayed(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[ParameterGroup]:
    """Groups of parameters: decay on matrices, none on vectors."""
    ordered = list(parameters)
    matrices, vectors = [p for p in ordered if p.dim() >= 2], [p for p in ordered if p.dim() < 2]
    groups = ({"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def make_optimizer(
    settings: AnyOptimizer, parameters: Mapping[str, nn.Parameter], embeddings: Collection[nn.Parameter] = ()
) -> Optimizer:
    """The optimizer of `settings` for `parameters`; see `OptimizerSettings.build`. If they are sharded, it assembles
    the matrices that it must read whole."""
    if settings.elementwise or not any(is_part(p) for p in parameters.values()):
        return settings.build(parameters, embeddings)
    aside = {id(p) for p in embeddings}

    def build(models: Mapping[str, nn.Parameter]) -> Optimizer:
        return settings.build(models, [models[name] for name, p in parameters.items() if id(p) in aside])

    return DealtMatrices(parameters, build)


def make_schedule(settings: AnyOptimizer, optimizer: Optimizer, steps: int, start: int = 0) -> LambdaLR:
    """The schedule in its state before step `start`."""
    for group in optimizer.param_groups:
        group["initial_lr"] = settings.rate
    return LambdaLR(optimizer, lambda step: settings.factor(step, steps), last_epoch=start - 1)
