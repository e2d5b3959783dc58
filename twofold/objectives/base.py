"""What an objective is: a pure function of a model's outputs on completions that returns unreduced values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from types import new_class
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from twofold.batch import Batch, DataKind, Outputs
from twofold.settings import require, settings

T = TypeVar("T")

Baseline = Literal["none", "group", "leave_one_out", "rollout"]
"""What a reward is compared with: nothing, the mean of its prompt's completions, that of the others of its prompt, the
mean of the rollout."""

Scale = Literal["none", "group", "rollout"]
"""What divides the result: nothing, the standard deviation of its prompt's rewards, or of all the rollout's results."""


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


@runtime_checkable
class PlainObjective(Protocol):
    """The least that an objective of your own must have; `as_objective` adds the defaults of all other traits."""

    @property
    def requires(self) -> tuple[str, ...]: ...

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss: ...


class Objective:
    """Frozen settings with a call. What a run must know of them beside are its traits: these are the defaults."""

    __slots__ = ()

    requires: tuple[str, ...] = ()
    """Columns that must be there before step 0."""
    data_kind: DataKind = "pairs"
    """The rows that it learns from."""
    reads: Literal["logps", "scores"] = "logps"
    """What it reads of a model: log-probabilities of a policy, or scores, which make the model a reward model."""
    statistics: tuple[str, ...] = ()
    """What it asks of the policy beside log-probabilities (`models/logprob.py` says which there are)."""
    couples: bool = False
    """Whether a group's loss depends on the others of its step."""
    comparison: tuple[Baseline | None, Scale] = (None, "none")
    """How rewards become the advantages that it requires (`advantages.py`); without a baseline of its own they are
    compared with the prompt's others, or with what a value model expects."""
    token_advantages: bool = False
    """Whether it can read an advantage of every token, as a value model gives it, not only of a whole completion."""
    constant: tuple[str, ...] = ()
    """Settings that are read once, before step 0, and so cannot change during a run."""
    domain: Domain = Domain()
    remedy: str = "objective.kind=dpo with objective.nll=1"
    """What helps where chosen completions fall; where their likelihood is in the loss, a larger weight of it does."""
    margin_weighted: bool = False
    """Whether its gradient is the metric `gradient_weight`, σ(−margin), times that of the margin, and no more."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """The loss of `batch`, unreduced. Objectives have nothing else to define."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class and its state, the same in every process: a run that goes on compares it."""
        return f"{type(self).__qualname__}({self.__getstate__() or ''})"


@settings
class WithReference(Objective):
    """What methods of DPO's kind share: β of the implicit reward β·log π/π_ref, and the reference's column."""

    kind: str
    beta: float = 0.1
    """Strength of the regularization toward the reference model."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")


def trait(function: Callable[[Any], T]) -> T:
    """A trait that depends on the settings: a property, which type checkers take for the value itself."""
    return cast("T", property(function))


def as_objective(given: PlainObjective) -> Objective:
    """`given` itself, or, where its class knows nothing of `Objective`, a copy with the defaults of all traits that the
    class leaves out. Class name, settings and methods stay."""
    if isinstance(given, Objective):
        return given
    made = copy(given)
    object.__setattr__(made, "__class__", _with_defaults(type(given)))
    return cast("Objective", made)


@cache
def _with_defaults(cls: type) -> type:
    names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    return new_class(cls.__name__, (cls, Objective), exec_body=lambda body: body.update(names, __slots__=()))


def statistic(outputs: Outputs, name: str) -> Tensor:
    """A statistic [S] in float32 at least. Raises ValueError for a model that does not give it."""
    return _wide(outputs.statistics.get(name), name)


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
