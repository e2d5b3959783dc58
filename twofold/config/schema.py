"""A recipe: the settings of every room under one roof. It assembles; each room owns its own."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import BeforeValidator, InstanceOf

from twofold.algorithms import PDPO, AnyAlgorithm, Offline, Online, PolicyGradient
from twofold.config.custom import own_objective
from twofold.data.settings import DataSettings, DataSplit
from twofold.models.load import ModelSettings
from twofold.models.reference import ReferenceSettings
from twofold.objectives import DPO, SFT, AnyObjective, PDPOGenerator
from twofold.objectives.base import Objective, data_kind, reading
from twofold.sampling.base import Sampling
from twofold.settings import require, settings
from twofold.training.optim import AdamW
from twofold.training.trainer import TrainingSettings


@settings
class EvaluationSettings:
    """Problems with checkable answers, solved before, during and after training."""

    tasks: DataSplit | None = None
    """GSM8K-style prompts and answers (a file: a share of the training rows is refused)."""
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))

    def __post_init__(self) -> None:
        require(self.tasks is None or self.tasks.file is not None, "tasks must come from a file of their own")


@settings
class Recipe:
    """Everything one run needs; `twofold train` reads it from YAML."""

    model: ModelSettings
    data: DataSettings
    run: str = "runs/latest"
    """Folder of the run; an interrupted run there is resumed."""
    seed: int = 0
    allow_code: bool = False
    """Whether `objective.kind` may name a class of yours, as `package.module:Class`, whose module is then imported."""
    objective: Annotated[AnyObjective | InstanceOf[Objective], BeforeValidator(own_objective)] = field(
        default_factory=DPO
    )
    algorithm: AnyAlgorithm = field(default_factory=Offline)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    sampling: Sampling = field(default_factory=Sampling)
    """How drafts for training are drawn."""
    optimizer: AdamW = field(default_factory=AdamW)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        if isinstance(self.algorithm, PDPO):
            compared = isinstance(self.objective, DPO) and not self.objective.reference_free
            require(compared, "algorithm pdpo needs objective dpo, with its reference, as its discriminator")
            require(self.data.generator is not None, "algorithm pdpo needs data.generator: its problems")
        self._refuse_rollouts()
        drafts = not isinstance(self.algorithm, Offline)
        require(self.sampling.server is None or drafts, "sampling.server draws drafts: this algorithm asks for none")
        require(self.evaluation.sampling.server is None, "evaluation.sampling is drawn here: give server to sampling")
        self._refuse_online()
        if isinstance(self.objective, SFT):
            require(self.data.heldout is None or self.data.heldout.file is not None, "sft takes heldout from a file")

    def _refuse_rollouts(self) -> None:
        """What rollouts cannot do, and what cannot do without them."""
        rolled, plays = data_kind(self.objective) == "prompts", isinstance(self.algorithm, PolicyGradient)
        require(rolled or not plays, "algorithm policy_gradient needs objective ppo, grpo, rloo or reinforce")
        require(plays or not rolled, "objective learns from rollouts: it needs algorithm.kind=policy_gradient")
        if not isinstance(self.algorithm, PolicyGradient):
            return
        self.algorithm.refuse_misfit(self.objective, self.training.batch_size)
        drawn, how = (1.0, 1.0, 0, False), self.sampling
        own = (how.temperature, how.top_p, how.top_k, how.use_generation_config) == drawn
        require(own, "sampling must draw from the policy itself: temperature 1, top_p 1, top_k 0")
        self._refuse_rows("policy_gradient")

    def _refuse_online(self) -> None:
        """What preferences among the policy's own drafts cannot be made of."""
        if not isinstance(self.algorithm, Online):
            return
        objective = self.objective
        paired = data_kind(objective) == "pairs" and reading(objective) == "logps"
        require(paired and not isinstance(objective, PDPOGenerator), "algorithm online needs an objective on pairs")
        if self.algorithm.prompts != "all":
            self.algorithm.size(self.training.batch_size, self.training.batch_size)
        several = self.algorithm.samples + self.algorithm.reference_samples > 1
        require(self.sampling.temperature > 0 or not several, "sampling.temperature 0 draws the same draft every time")
        moved = self.reference.kind == "moving" and self.algorithm.reference == "fresh"
        require(not moved, "algorithm.reference fresh moves the reference already: leave reference.kind out")
        judged = self.data.heldout is None or self.algorithm.rates
        require(judged, "data.heldout needs a judge that gives rewards: measure with evaluation.tasks instead")
        self._refuse_rows("online")

    def _refuse_rows(self, kind: str) -> None:
        """What an algorithm that answers prompts makes nothing of."""
        require(self.data.generator is None, f"data.generator is pdpo's: {kind} answers the rows of data.train")
        require(isinstance(self.data.train, str), "data.train must be one file: drafts know no mixture yet")
        require(self.reference.fit is None, "reference.fit needs chosen completions: fit the model in a run of its own")
