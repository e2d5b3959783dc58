"""The interface of objectives. An objective is a pure function of a model's outputs that returns unreduced losses."""

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
"""What is subtracted from a reward: nothing, the mean of its prompt's completions, the mean of its prompt's other
completions, or the mean of the rollout."""

Scale = Literal["none", "group", "rollout"]
"""What divides the result: nothing, the standard deviation of its prompt's rewards, or that of the whole rollout's
results."""


@dataclass(frozen=True)
class Term:
    """An unreduced `value` [n], one entry per `unit` (see `Batch.count`); the step sums it, divides by the count of
    that unit over the whole round and multiplies by `weight`. For a metric with `spread` the step also reports the
    standard deviation as `<name>_std`. It is computed from two means, so packing does not change it."""

    value: Tensor
    unit: str
    weight: float = 1.0
    spread: bool = False


@dataclass(frozen=True)
class Loss:
    """Terms to minimize, and metrics: values without gradient, averaged by the same counts."""

    terms: Mapping[str, Term]
    metrics: Mapping[str, Term] = field(default_factory=dict[str, Term])


@dataclass(frozen=True)
class Domain:
    """The domain in which an objective is finite in float32. Without one it is finite everywhere. Outside the domain
    the loss is infinite and the step stops before the update; nothing is clamped silently."""

    logratio: float = math.inf
    """Largest |log π/π_ref| of a completion, nats."""
    certain: bool = True
    """Whether a completion may have probability 1."""
    token: float = math.inf
    """Largest −log π per token of a completion, nats."""


@runtime_checkable
class PlainObjective(Protocol):
    """The minimal interface of a custom objective. `as_objective` adds the defaults of all other traits."""

    @property
    def requires(self) -> tuple[str, ...]: ...

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss: ...


class Objective:
    """Frozen settings with a call. The traits below describe it to a run; these are their defaults."""

    __slots__ = ()

    requires: tuple[str, ...] = ()
    """Columns that must exist before step 0."""
    data_kind: DataKind = "pairs"
    """The kind of rows that it learns from."""
    reads: Literal["logps", "scores", "values"] = "logps"
    """The model output that it reads: log-probabilities of a policy, scores of a reward model, or values before each
    token of a process reward model."""
    statistics: tuple[str, ...] = ()
    """Statistics that it requires from the policy in addition to log-probabilities (`models/logprob.py` defines
    them)."""
    couples: bool = False
    """Whether a group's loss depends on the others of its step."""
    comparison: tuple[Baseline | None, Scale] = (None, "none")
    """How rewards become the advantages that it requires (`advantages.py`). The default baseline is the mean of the
    prompt's other completions, or a value model's estimate."""
    token_advantages: bool = False
    """Whether it can read an advantage per token, as from a value model, and not only one per completion."""
    constant: tuple[str, ...] = ()
    """Settings that are read once, before step 0, and so cannot change during a run."""
    domain: Domain = Domain()
    remedy: str = "objective.kind=dpo with objective.nll=1"
    """Advice for falling log-probabilities of chosen. If their likelihood is in the loss, it is a larger weight of that
    term."""
    margin_setting: str | None = None
    """The setting that is the margin of its loss, if it has one: with the value `data` it is each row's `margin`."""
    margin_weighted: bool = False
    """Whether its gradient is exactly the metric `gradient_weight`, σ(−margin), times the gradient of the margin."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """The unreduced loss of `batch`. This is the only method that an objective must define."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class and its state, equal in every process. A resumed run compares it."""
        return f"{type(self).__qualname__}({self.__getstate__() or ''})"


@settings
class WithReference(Objective):
    """Base of DPO-like objectives: β of the implicit reward β·log π/π_ref, and the reference model's column."""

    kind: str
    beta: float = 0.1
    """Strength of the regularization toward the reference model."""

    requires = ("ref_logp",)

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta must be > 0")


def trait(function: Callable[[Any], T]) -> T:
    """A trait that depends on the settings: a property that type checkers treat as the value itself."""
    return cast("T", property(function))


def as_objective(given: PlainObjective) -> Objective:
    """`given` itself if it is an `Objective`. Otherwise a copy with the default of each trait that its class does not
    define. Class name, settings and methods do not change."""
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
    """A statistic [S] in at least float32. Raises ValueError if the model does not return it."""
    return _wide(outputs.statistics.get(name), name)


def logps(outputs: Outputs) -> Tensor:
    """log π [S] per token in at least float32: a sum over a completion in bfloat16 would be wrong by nats. Raises
    ValueError if the model does not return it."""
    return _wide(outputs.logp_S, "log-probabilities")


def scores(outputs: Outputs) -> Tensor:
    """The score [B] of each completion in at least float32. Raises ValueError if the model does not return it."""
    return _wide(outputs.score_B, "scores")


def values(outputs: Outputs) -> Tensor:
    """The value [S] before each token in at least float32. Raises ValueError if the model does not return it."""
    return _wide(outputs.value_S, "values")


def _wide(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ValueError(f"the model gives no {name}")
    return value.to(torch.promote_types(value.dtype, torch.float32))


def logratios(outputs: Outputs, batch: Batch) -> Tensor:
    """log π − log π_ref [S] per token, before any sum, so that equal tokens cancel exactly."""
    logp_S = logps(outputs)
    return logp_S - batch.token_columns["ref_logp"].to(logp_S.dtype)
