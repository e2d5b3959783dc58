"""A recipe with its model and its rows in memory: what every part of a run is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

from twofold.algorithms import PDPO, Online, PolicyGradient
from twofold.batch import Group
from twofold.config.load import plain
from twofold.config.schema import Recipe
from twofold.data.dataset import Dataset, encode_rows
from twofold.data.encode import Encoded
from twofold.data.stored_groups import fingerprint
from twofold.data.tokenize import Encoder
from twofold.evaluation.reward import RewardReport, judge, scored
from twofold.models.heads import RewardModel, ValueModel
from twofold.models.load import LoadedModel
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, LiveReference
from twofold.objectives.base import Objective
from twofold.progress import Progress
from twofold.records import Record
from twofold.rewards.rollouts import RewardFunction, Rewards
from twofold.runs.dataset import data_cache
from twofold.runs.rewards import asks_reference
from twofold.sampling.local import LocalSampler
from twofold.training.column_providers import OF_REFERENCE


@dataclass
class RunContext:
    """A recipe with its model and its rows, ready to become a loop."""

    recipe: Recipe
    objective: Objective
    policy: Policy | RewardModel
    loaded: LoadedModel
    records: Dataset
    progress: Progress
    functions: Mapping[str, RewardFunction] = field(default_factory=dict[str, RewardFunction])
    """Rewards that Python handed over, by their name in the recipe."""
    resources: ExitStack = field(default_factory=ExitStack)
    """What the run holds open (a judge's connection and ledger), for whoever made the assembly to close."""
    reference: LiveReference | None = field(default=None, init=False)
    rewards: Rewards = field(init=False)
    value_model: tuple[ValueModel, LoadedModel] | None = field(default=None, init=False)
    """What the policy is compared with, what rates drafts, the value model: made with the loop, where it has them."""

    def __post_init__(self) -> None:
        self.encoder = Encoder(self.loaded.tokenizer, self.loaded.stop_tokens, self.recipe.data.tokenize)
        self.encoded: dict[str, Encoded] = {}
        self.groups = {name: self._encode(name) for name in ("train", "generator", "heldout")}
        self.steps = total_steps(self.recipe, len(self.groups["train"]))

    def _encode(self, name: str) -> Sequence[Group]:
        rows: Sequence[Record] = getattr(self.records, name)
        if not rows:
            return []
        self.encoded[name] = encode_rows(rows, self.encoder, data_cache(self.recipe), self.progress)
        return self.encoded[name].groups

    def identity(self) -> dict[str, Any]:
        """What must be the same when the run is resumed."""
        settings = _flat(plain(self.recipe))
        for free in (
            "run",
            "training.keep_checkpoints",
            "training.checkpoint_every",
            "training.track",
            "reference.cache",
            "data.cache",
        ):
            settings.pop(free, None)
        for way in ("url", "timeout", "attempts", "pause", "parallel"):
            settings.pop(f"sampling.server.{way}", None)
        rows = {f"data ({name})": fingerprint(groups) for name, groups in self.groups.items() if groups}
        tasks = {"data (tasks)": hashlib.sha256(repr(self.records.tasks).encode()).hexdigest()[:16]}
        return {**settings, "objective (code)": repr(self.objective), "steps": self.steps, **rows, **tasks}

    def sampler(self, *, training: bool) -> LocalSampler:
        """The sampler of drafts (`training`) or of evaluation completions."""
        how = self.recipe.sampling if training else self.recipe.evaluation.sampling
        model, loaded = self.policy.model, self.loaded
        return LocalSampler(model, loaded.tokenizer, loaded.stop_tokens, how, self.progress.note)

    def judged(self) -> RewardReport | None:
        """What the model, as it is now, makes of the held-out comparisons, if it is a reward model."""
        groups = self.groups["heldout"]
        if not isinstance(self.policy, RewardModel) or not groups:
            return None
        return judge(scored(groups, self.policy.scores(groups, self.recipe.training.packing)))


def asks_live(recipe: Recipe, objective: Objective) -> bool:
    """Whether a run asks the reference as it goes: for drafts, for uncached data, or for a column made of the step."""
    asked = set(objective.requires) & {*OF_REFERENCE}
    asked -= {COLUMN} if recipe.reference.kind == "cached" else set[str]()
    rolled = isinstance(recipe.algorithm, PolicyGradient | Online) and COLUMN in objective.requires
    return bool(asked) or rolled or asks_reference(recipe.algorithm) or isinstance(recipe.algorithm, PDPO)


def total_steps(recipe: Recipe, num: int) -> int:
    """Optimizer steps of a run on `num` rows."""
    passes = recipe.algorithm.epochs if isinstance(recipe.algorithm, PolicyGradient | Online) else 1
    return recipe.training.total_steps(num, passes)


def _flat(tree: object, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    branches = cast("Mapping[str, object]", tree).items()
    return {k: v for name, sub in branches for k, v in _flat(sub, f"{prefix}.{name}" if prefix else name).items()}
