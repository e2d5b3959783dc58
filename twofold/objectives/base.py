"""What an objective is: a pure function of a model's outputs on completions that returns unreduced values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from twofold.batch import Batch, DataKind, Outputs


@dataclass(frozen=True)
class Term:
    """An unreduced `value` [n], one entry per `unit` (see `Batch.count`); the step sums it, divides by the count of
    that unit over the whole round and multiplies by `weight`. Of a metric with `spread` it also tells the standard
    deviation, as `<name>_std`: two means make it, so no packing can change it."""

    value: Tensor
    unit: str
    weight: float = 1.0
    spread: bool = False


@dataclass(frozen=True)
class Loss:
    """Terms to minimise, and metrics: values without gradient, averaged by the same counts."""

    terms: Mapping[str, Term]
    metrics: Mapping[str, Term] = field(default_factory=dict[str, Term])


Reads = Literal["logps", "scores"]
"""What an objective reads of a model: its `reads`; one that names nothing reads log-probabilities of a policy, one that
reads scores makes the model a reward model."""


@runtime_checkable
class Objective(Protocol):
    """Frozen settings with a call. `requires` names the columns that must be there before step 0."""

    @property
    def requires(self) -> tuple[str, ...]: ...

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss: ...


@dataclass(frozen=True)
class Domain:
    """Where an objective is finite in float32; an objective that names none is finite everywhere. Outside, its loss is
    infinite and the step stops before the update: nothing is clamped in silence."""

    logratio: float = math.inf
    """Largest |log π/π_ref| of a completion, nats."""
    certain: bool = True
    """Whether a completion may have probability 1."""
    token: float = math.inf
    """Largest −log π per token of a completion, nats."""


def data_kind(objective: Objective) -> DataKind:
    """What `objective` learns from."""
    return getattr(objective, "data_kind", "pairs")


def comparison(objective: Objective) -> tuple[str, str]:
    """How rewards become the advantages that `objective` requires: its `baseline` and its `scale` (`advantages.py`)."""
    return getattr(objective, "baseline", None) or "leave_one_out", getattr(objective, "scale", "none")


def per_token(objective: Objective) -> bool:
    """Whether `objective` reads an advantage of every token, as a value model gives it: its `per_token`; one that names
    nothing reads one of a whole completion."""
    return getattr(objective, "per_token", False)


def couples(objective: Objective) -> bool:
    """Whether a group's loss depends on the others of its step: its `couples`; one that names nothing does not."""
    return getattr(objective, "couples", False)


def statistics(objective: Objective) -> tuple[str, ...]:
    """What `objective` asks of the policy beside log-probabilities: its `statistics`, none where it names none."""
    return getattr(objective, "statistics", ())


def constant(objective: Objective) -> tuple[str, ...]:
    """Settings of `objective` that are read once, before step 0, and so cannot change during a run: its `constant`."""
    return getattr(objective, "constant", ())


def statistic(outputs: Outputs, name: str) -> Tensor:
    """A statistic [S] in float32 at least. Raises ValueError for a model that does not give it."""
    return _wide(outputs.statistics.get(name), name)


def reading(objective: Objective) -> Reads:
    """What `objective` reads of a model."""
    return getattr(objective, "reads", "logps")


def logps(outputs: Outputs) -> Tensor:
    """log π [S] per token in float32 at least: summed over a completion, bfloat16 would cost nats. Raises ValueError
    for a model that gives none."""
    return _wide(outputs.logp_S, "log-probabilities")


def scores(outputs: Outputs) -> Tensor:
    """The score [B] of each completion in float32 at least. Raises ValueError for a model that gives none."""
    return _wide(outputs.score_B, "scores")


def values(outputs: Outputs) -> Tensor:
    """The value [S] before each token in float32 at least. Raises ValueError for a model that gives none."""
    return _wide(outputs.value_S, "values")


def _wide(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ValueError(f"the model gives no {name}")
    return value.to(torch.promote_types(value.dtype, torch.float32))


def logratios(outputs: Outputs, batch: Batch) -> Tensor:
    """log π − log π_ref [S] per token, before any sum: sums of equal parts cancel exactly."""
    logp_S = logps(outputs)
    return logp_S - batch.token_columns["ref_logp"].to(logp_S.dtype)
