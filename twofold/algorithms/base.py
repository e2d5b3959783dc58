"""The traits that an algorithm's settings declare, and the parts of a run that they build it from.

A run reads only these traits and never checks the kind of an algorithm. A new algorithm is a file and a line in the
union.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

from twofold.algorithms.gae import ValueModelSettings
from twofold.batch import DataKind, Group
from twofold.data.order import Mixture, Order
from twofold.data.settings import DataSettings
from twofold.judges.base import JudgeKind, Place
from twofold.judges.drafts import PairJudge
from twofold.judges.gates import GateSettings
from twofold.judges.registry import REWARD, RewardSource
from twofold.models.heads import ValueModel
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import ReferenceSettings
from twofold.objectives.base import Objective
from twofold.rewards.base import Reward
from twofold.rewards.execution import Execution
from twofold.rewards.implicit import Implicit
from twofold.rewards.rollouts import Rewards
from twofold.sampling.base import Sampler, SampleRequest, Sampling
from twofold.settings import require
from twofold.training.stateful import Stateful
from twofold.training.step import Provider, Round
from twofold.training.trainer import TrainingSettings

FixedRows: TypeAlias = tuple[Sequence[Group], Order | Mixture]
"""Rows for training without sampling, and their order."""


class Algorithm:
    """Makes the round of each step. Its state between steps is in `state`, as JSON."""

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """The parts of optimizer step `step`, counted from 0."""
        raise TypeError(f"{type(self).__name__} has no rounds")

    def request(self, step: int) -> SampleRequest | None:
        """What the policy samples for `step`; by default nothing."""
        return None

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """Adapts to the metrics of the last step; by default does nothing."""

    @property
    def fixed_rows(self) -> FixedRows | None:
        """The rows that the policy is trained on without sampling, if any."""
        return None

    @property
    def stateful(self) -> Sequence[Stateful]:
        """State to save in a checkpoint in addition to `state`."""
        return ()


@dataclass
class WrappedAlgorithm(Algorithm):
    """Another algorithm with something added to its rounds."""

    algorithm: Algorithm

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        self.algorithm.observe(metrics, state)

    @property
    def fixed_rows(self) -> FixedRows | None:
        return self.algorithm.fixed_rows

    @property
    def stateful(self) -> Sequence[Stateful]:
        return self.algorithm.stateful


class Sections(Protocol):
    """The sections of a recipe that an algorithm checks."""

    @property
    def objective(self) -> Objective: ...

    @property
    def data(self) -> DataSettings: ...

    @property
    def reference(self) -> ReferenceSettings: ...

    @property
    def sampling(self) -> Sampling: ...

    @property
    def training(self) -> TrainingSettings: ...


class Run(Protocol):
    """The parts of a run from which an algorithm is built."""

    objective: Objective
    groups: Mapping[str, Sequence[Group]]
    """Tokenized rows: train, generator and heldout. They have reference columns if these are cached."""
    providers: Mapping[str, Provider]
    """Columns that a live reference provides."""
    batch_size: int
    seed: int
    steps: int
    packing: Packing

    @property
    def policy(self) -> Policy: ...

    @property
    def value_model(self) -> ValueModel | None:
        """The value model of the settings' `value_model`."""
        ...

    @property
    def rewards(self) -> Rewards:
        """The judges of the settings' `rewards`, if `is_rewarded`."""
        ...

    def mixture(self) -> Mixture | None:
        """The order of the training rows from the files' weights."""
        ...

    def sampler(self) -> Sampler:
        """Samples completions of the policy."""
        ...

    def reference_sampler(self) -> Sampler:
        """Samples completions of the reference model."""
        ...

    def server_judge(self, kind: JudgeKind, rubric: str | None) -> PairJudge:
        """A language model on a server that judges samples in rounds."""
        ...

    def gate(self, settings: GateSettings) -> Reward:
        """Judges samples of the generator's problems: 1 for correct, 0 for wrong."""
        ...


class AlgorithmSettings:
    """Traits of an algorithm. The defaults are those of training on fixed rows."""

    draws_drafts: ClassVar[bool] = False
    """Whether the policy samples completions during training."""
    answers_rows: ClassVar[bool] = False
    """Whether the training rows are prompts for the policy's samples, whose log-probabilities cannot be cached."""
    judge_place: ClassVar[Place] = REWARD
    """Name of the setting that selects rewards."""
    execution: Execution
    """Limits for a judge that runs the model's programs, if `is_rewarded`."""

    @property
    def passes(self) -> int:
        """Optimizer steps that use each row before the next rows."""
        return 1

    @property
    def needs_reference(self) -> bool:
        """Whether the algorithm itself uses the reference model, in addition to its objective."""
        return False

    @property
    def imitates_answers(self) -> bool:
        """Whether reference answers of training rows are trained on, and not only checked against."""
        return False

    @property
    def is_rewarded(self) -> bool:
        """Whether each sample gets its own reward."""
        return False

    @property
    def rewards(self) -> tuple[RewardSource, ...]:
        """The judges that score samples, with their weights."""
        return ()

    @property
    def implicit_judge(self) -> Implicit | None:
        """How to compute the policy's implicit reward, if it is a judge."""
        return None

    @property
    def value_model(self) -> ValueModelSettings | None:
        """The value model that is trained along with the policy."""
        return None

    def data_kind(self, objective: Objective) -> DataKind:
        """The training rows."""
        return objective.data_kind

    def reference_interval(self, batch_size: int, num: int) -> int | None:
        """Number of steps after which the policy becomes the reference model, with `num` rows; None if `reference`
        decides."""
        return None

    def refuse_misfit(self, recipe: Sections) -> None:
        """Raise ValueError for sections that the algorithm cannot use."""
        rolled_out = recipe.objective.data_kind == "prompts"
        require(not rolled_out, "objective learns from rollouts: it needs algorithm.kind=policy_gradient")

    def build(self, run: Run) -> Algorithm:
        """Builds the algorithm of `run`. Raises TwofoldError for rows that it cannot use."""
        raise TypeError(f"{type(self).__name__} does not define how to build it")


def refuse_fixed_rows(recipe: Sections, kind: str) -> None:
    """Raise ValueError for sections that an algorithm with sampling does not use."""
    require(recipe.data.generator is None, f"data.generator is pdpo's: {kind} answers the rows of data.train")
    require(not recipe.data.is_mixture, "data.train must have no weights: sampling does not support mixtures yet")
    require(recipe.reference.fit is None, "reference.fit needs chosen completions: fit the model in a run of its own")
