"""What the settings of an algorithm declare, and the parts of a run that they build it from.

A run reads these traits and never asks for the kind of an algorithm: a new one is a file and a line in the union.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from twofold.sampling.base import DraftRequest, Sampler, Sampling
from twofold.settings import require
from twofold.training.stateful import Stateful
from twofold.training.step import Provider, Round
from twofold.training.trainer import TrainingSettings

FixedRows: TypeAlias = tuple[Sequence[Group], Order | Mixture]
"""Rows that are trained on as they are, and the order in which they are met."""


class Algorithm:
    """Makes the round of each step. What it remembers between steps it keeps in `state`, as JSON."""

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """The parts of optimizer step `step`, from 0."""
        raise TypeError(f"{type(self).__name__} has no rounds")

    def request(self, step: int) -> DraftRequest | None:
        """What the policy is to draw for `step`; by default nothing."""
        return None

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """Learn from the metrics of the step that was just made; by default nothing."""

    @property
    def fixed_rows(self) -> FixedRows | None:
        """The rows that the policy is trained on as they are, if there are any."""
        return None

    @property
    def stateful(self) -> Sequence[Stateful]:
        """What must survive a stop beside `state`."""
        return ()


class Sections(Protocol):
    """The sections of a recipe that must fit its algorithm."""

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
    """Tokenized rows: train, generator and heldout; with reference columns where these are cached."""
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
        """As the settings' `value_model` has it."""
        ...

    @property
    def rewards(self) -> Rewards:
        """What the settings' `rewards` name, where `is_rewarded`."""
        ...

    def mixture(self) -> Mixture | None:
        """The order of the training rows that weights of files ask for."""
        ...

    def sampler(self) -> Sampler:
        """Draws drafts of the policy."""
        ...

    def reference_sampler(self) -> Sampler:
        """Draws from the reference."""
        ...

    def server_judge(self, kind: JudgeKind, rubric: str | None) -> PairJudge:
        """A language model behind a server that judges drafts in rounds."""
        ...

    def gate(self, settings: GateSettings) -> Reward:
        """Judges drafts for the generator's problems, 1 for right and 0 for wrong."""
        ...


class AlgorithmSettings:
    """Traits of an algorithm, with the defaults of one that trains on its rows as they are."""

    draws_drafts: ClassVar[bool] = False
    """Whether the policy answers prompts during training."""
    answers_rows: ClassVar[bool] = False
    """Whether the rows to train on are prompts that the policy answers: nothing of its completions can be cached."""
    judge_place: ClassVar[Place] = REWARD
    """The setting that names rewards."""
    execution: Execution
    """What a judge that runs the model's programs may do, where `is_rewarded`."""

    @property
    def passes(self) -> int:
        """Optimizer steps that use each row before the next rows are met."""
        return 1

    @property
    def needs_reference(self) -> bool:
        """Whether the algorithm asks the reference itself, whatever its objective requires."""
        return False

    @property
    def is_rewarded(self) -> bool:
        """Whether each draft gets a reward of its own."""
        return False

    @property
    def rewards(self) -> tuple[RewardSource, ...]:
        """The judges that score drafts, with their weights."""
        return ()

    @property
    def implicit_judge(self) -> Implicit | None:
        """How the policy's implicit reward is computed, where it judges."""
        return None

    @property
    def value_model(self) -> ValueModelSettings | None:
        """The value model that learns beside the policy."""
        return None

    def data_kind(self, objective: Objective) -> DataKind:
        """The rows to train on."""
        return objective.data_kind

    def reference_interval(self, batch_size: int, num: int) -> int | None:
        """Steps after which the policy becomes the reference, with `num` rows; None leaves that to `reference`."""
        return None

    def refuse_misfit(self, recipe: Sections) -> None:
        """Raise ValueError for sections that do not fit the algorithm."""
        rolled_out = recipe.objective.data_kind == "prompts"
        require(not rolled_out, "objective learns from rollouts: it needs algorithm.kind=policy_gradient")

    def build(self, run: Run) -> Algorithm:
        """The algorithm of `run`. Raises TwofoldError for rows that it cannot use."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")


def refuse_fixed_rows(recipe: Sections, kind: str) -> None:
    """Raise ValueError for sections of which an algorithm that answers prompts makes nothing."""
    require(recipe.data.generator is None, f"data.generator is pdpo's: {kind} answers the rows of data.train")
    require(not recipe.data.is_mixture, "data.train must have no weights: drafts know no mixture yet")
    require(recipe.reference.fit is None, "reference.fit needs chosen completions: fit the model in a run of its own")
