"""A recipe with its model and its rows in memory: the input of every part of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TypeAlias

from twofold.algorithms.base import Algorithm
from twofold.batch import Group
from twofold.config.schema import Recipe
from twofold.data.balance import balanced
from twofold.data.dataset import Dataset, encode_rows
from twofold.data.encode import Encoded, described_in_all
from twofold.data.mixture import mixture
from twofold.data.order import Mixture, Order
from twofold.data.steps import keep_separator
from twofold.data.tokenize import Encoder
from twofold.data.turns import keep_choice
from twofold.evaluation.reward import RewardFigures, judge, scored
from twofold.evaluation.steps import judge_steps
from twofold.models.heads import RewardModel, ValueModel
from twofold.models.load import LoadedModel
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, LiveReference
from twofold.objectives.base import Objective
from twofold.progress import Progress, counted
from twofold.records import Prompt, Record, Task, final_text
from twofold.rewards.base import RewardFunction
from twofold.rewards.rollouts import Rewards
from twofold.runs.dataset import data_cache
from twofold.sampling.local import LocalSampler
from twofold.training.column_providers import OF_REFERENCE

Model: TypeAlias = tuple[Policy | RewardModel | ValueModel, LoadedModel]
"""What is trained, and what it was made from."""


@dataclass
class RunContext:
    """A recipe with its model and its rows, ready to become a trainer."""

    recipe: Recipe
    objective: Objective
    policy: Policy | RewardModel | ValueModel
    loaded: LoadedModel
    dataset: Dataset
    progress: Progress
    functions: Mapping[str, RewardFunction] = field(default_factory=dict[str, RewardFunction])
    """Rewards that were passed as Python functions, by their name in the recipe."""
    resources: ExitStack = field(default_factory=ExitStack)
    """What the run has opened (a judge's connection and ledger). The code that made the context closes it."""
    reference: LiveReference | None = field(default=None, init=False)
    rewards: Rewards = field(init=False)
    value_model: tuple[ValueModel, LoadedModel] | None = field(default=None, init=False)
    algorithm: Algorithm = field(init=False)
    """The reference, the rewards of samples, the value model and the algorithm are made with the trainer."""

    def __post_init__(self) -> None:
        data, tokenizer = self.recipe.data, self.loaded.tokenizer
        self.encoder = Encoder(tokenizer, self.loaded.stop_tokens, data.tokenize, data.chat)
        keep_choice(tokenizer, data.chat)
        keep_separator(tokenizer, data.tokenize.step_separator if self.objective.reads == "values" else None)
        self.encoded: dict[str, Encoded] = {}
        self.groups = {name: self._encode(name) for name in ("train", "generator", "heldout", "also")}
        self._look_at_lengths()
        self.steps = total_steps(self.recipe, len(self.groups["train"]))

    def _look_at_lengths(self) -> None:
        """Refuse rows that are longer than the model's positions. Warn if they are longer than it was trained on."""
        known = self.policy.positions
        if known is None or self.recipe.data.tokenize.max_length <= known:
            return
        longer = 0
        for groups in self.groups.values():
            self.policy.refuse_long(groups)
            longer += sum(
                len(g.prompt) + len(s.tokens) > known for g in groups for b in g.branches for s in b.strands()
            )
        if longer:
            self.progress.warn(
                f"{counted(longer, 'completion')} with the prompt longer than the {known} tokens that the model was "
                f"made for: set data.tokenize.max_length={known} to leave them out"
            )

    def _encode(self, name: str) -> Sequence[Group]:
        rows: Sequence[Record] = getattr(self.dataset, name)
        if not rows:
            return []
        self.encoded[name] = encode_rows(
            rows, self.encoder, data_cache(self.recipe), self.progress, self.recipe.data.workers
        )
        groups, data = self.encoded[name].groups, self.recipe.data
        return balanced(groups, data.sources) if name == "train" and data.balance == "sources" else groups

    @cached_property
    def mixture(self) -> Mixture | None:
        """The order of the training rows if the files have weights."""
        recipe = self.recipe
        return mixture(recipe.data.sources, self.groups["train"], recipe.seed, self.progress)

    @property
    def order(self) -> Order | Mixture:
        """The order in which steps meet the training rows."""
        return self.mixture or Order(len(self.groups["train"]), self.recipe.seed)

    def prompt_of(self, name: str) -> Prompt | None:
        """The original prompt of the row that a group was made from; None if several rows have its name."""
        return self._prompts.get(name)

    def answer_of(self, name: str) -> str | None:
        """What a verifier checks for the group of this name, of a row that has this in addition to its completion."""
        return self._answers.get(name)

    @cached_property
    def _answers(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for record in chain(self.dataset.train, self.dataset.generator, self.dataset.heldout, self.dataset.also):
            if isinstance(record, Task) and record.completion and record.answer != final_text(record.completion):
                name, answer = str(record.source), record.answer
                found[name] = answer if found.get(name, answer) == answer else None
        return found

    @cached_property
    def _prompts(self) -> dict[str, Prompt | None]:
        found: dict[str, Prompt | None] = {}
        for record in chain(self.dataset.train, self.dataset.generator, self.dataset.heldout, self.dataset.also):
            name, prompt = str(record.source), record.prompt
            found[name] = prompt if found.get(name, prompt) == prompt else None
        return found

    def prompts(self) -> str:
        """How the prompts of all rows are rendered."""
        return described_in_all(self.encoded.values(), self.encoder)

    def sampler(self, *, training: bool) -> LocalSampler:
        """The sampler for `training` or for evaluation."""
        how = self.recipe.sampling if training else self.recipe.evaluation.sampling
        model, loaded = self.policy.model, self.loaded
        return LocalSampler(
            model, loaded.tokenizer, loaded.stop_tokens, how, self.progress.note,
            autocast=self.policy.autocast, casts=self.policy.casts,
        )  # fmt: skip

    @property
    def language_model(self) -> Policy:
        """The policy, of a run whose objective reads log-probabilities."""
        assert isinstance(self.policy, Policy), "the recipe has checked it"  # for the type checker
        return self.policy

    @property
    def generates(self) -> bool:
        """Whether the run trains a policy, and no reward model."""
        return isinstance(self.policy, Policy)

    def judged(self) -> RewardFigures | None:
        """The current model's figures on the held-out comparisons or steps, if it is a reward model."""
        groups, packing = self.groups["heldout"], self.recipe.training.packing
        match self.policy:
            case RewardModel() if groups:
                return judge(scored(groups, self.policy.scores(groups, packing)))
            case ValueModel() if groups:
                return judge_steps(groups, self.policy.values(groups, packing))
            case _:
                return None


def asks_live(recipe: Recipe, objective: Objective) -> bool:
    """Whether a run evaluates the reference during training: for samples, for uncached data, or for a column that is
    computed over the step."""
    asked = set(objective.requires) & {*OF_REFERENCE}
    asked -= {COLUMN} if recipe.reference.kind == "cached" else set[str]()
    rolled_out = recipe.algorithm.answers_rows and COLUMN in objective.requires
    return bool(asked) or rolled_out or recipe.algorithm.needs_reference


def reference_pace(recipe: Recipe, num: int) -> tuple[float, int] | None:
    """The share and the interval in steps at which the reference follows the policy, if it does; `num` rows."""
    settings = recipe.reference
    if interval := recipe.algorithm.reference_interval(recipe.training.batch_size, num):
        return 1.0, interval
    return (settings.alpha, settings.sync_every) if settings.kind == "moving" else None


def total_steps(recipe: Recipe, num: int) -> int:
    """Optimizer steps of a run on `num` rows."""
    return recipe.training.total_steps(num, recipe.algorithm.passes)
