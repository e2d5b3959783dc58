"""A recipe: all settings of a run. Each package defines its own settings; this module combines them."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import Discriminator, WrapValidator

from twofold.algorithms import AnyAlgorithm, Offline
from twofold.config.also import also_objective
from twofold.config.custom import own_objective
from twofold.data.settings import DataSettings, DataSplit
from twofold.evaluation.exact_match import Rule
from twofold.evaluation.rate_in_training import WinRateInTraining
from twofold.models.load import ModelSettings
from twofold.models.reference import ReferenceSettings
from twofold.objectives import DPO, AnyObjective
from twofold.sampling.base import Sampling
from twofold.settings import require, settings
from twofold.training.optim import AdamW, AnyOptimizer
from twofold.training.trainer import MOST_ROWS, TrainingSettings
from twofold.world import WorldSettings

BY_KIND = Discriminator("kind")


@settings
class EvaluationSettings:
    """Evaluation on problems with verifiable answers before, during and after training."""

    tasks: DataSplit | None = None
    """GSM8K-style prompts and answers. They must come from a file, not from a share of the training rows."""
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    win_rate: WinRateInTraining | None = None
    """A win rate on a few prompts at each evaluation."""
    rule: Rule = "answer"
    """What the answers of tasks are. answer: a final answer that the completion must match. instructions: rules that
    the completion must follow, such as `at most 15 words` (docs/judges.md)."""

    def __post_init__(self) -> None:
        require(self.tasks is None or self.tasks.file is not None, "tasks must come from a file of their own")


@settings
class Recipe:
    """All settings of one training run. `twofold train` reads them from a YAML file."""

    model: ModelSettings
    data: DataSettings
    run: str = "runs/latest"
    """Folder of the run. An interrupted run in this folder is resumed."""
    seed: int = 0
    allow_code: bool = False
    """Whether `objective.kind` may name your own class as `package.module:Class`. Its module is then imported."""
    objective: Annotated[AnyObjective, BY_KIND, WrapValidator(own_objective)] = field(default_factory=DPO)
    algorithm: Annotated[AnyAlgorithm, BY_KIND] = field(default_factory=Offline)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    sampling: Sampling = field(default_factory=Sampling)
    """How completions for training are sampled."""
    optimizer: Annotated[AnyOptimizer, BY_KIND] = field(default_factory=AdamW)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    world: WorldSettings = field(default_factory=WorldSettings)

    def __post_init__(self) -> None:
        require(-(2**63) <= self.seed < 2**63, "seed must be a number of 64 bits")
        adapter = self.model.lora is not None or self.model.adapter is not None
        needs = "model.quantize holds a frozen base in few bits: set model.lora={rank: 16}, or model.adapter"
        require(adapter or self.model.quantize is None, needs)
        object.__setattr__(self, "optimizer", self.optimizer.for_tuning(adapter=adapter))
        if self.data.also is not None:
            also_objective(self.data.also)
            beside = self.data.also.share * self.training.batch_size
            require(beside <= MOST_ROWS, f"data.also.share times training.batch_size must be ≤ {MOST_ROWS}")
            scored = self.objective.reads != "logps"
            require(not scored, "data.also trains a policy, and this objective a reward model: leave it out")
        self.algorithm.refuse_misfit(self)
        measured = (self.data.heldout, self.evaluation.tasks, self.evaluation.win_rate) != (None, None, None)
        needs = "training.best_metric needs an evaluation: data.heldout, evaluation.tasks or evaluation.win_rate"
        require(measured or self.training.best_metric is None, needs)
        drafts = self.algorithm.draws_drafts
        require(self.sampling.server is None or drafts, "sampling.server samples completions: this algorithm uses none")
        require(self.evaluation.sampling.server is None, "evaluation.sampling is always local: set sampling.server")
        if self.objective.data_kind == "demonstrations":
            require(self.data.heldout is None or self.data.heldout.file is not None, "sft takes heldout from a file")
