"""Builds the algorithm from its settings. Parts of the run are made only when the settings require them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel

from twofold.algorithms.ahead import AheadAlgorithm
from twofold.algorithms.also import ALSO, AlsoAlgorithm
from twofold.algorithms.base import Algorithm
from twofold.batch import Group
from twofold.config.also import also_objective
from twofold.data.order import Mixture
from twofold.judges.base import JudgeKind
from twofold.judges.drafts import PairJudge
from twofold.judges.gates import GateSettings
from twofold.models.heads import ValueModel
from twofold.models.load import save_policy
from twofold.models.policy import Policy
from twofold.rewards.base import Reward
from twofold.rewards.rollouts import Rewards
from twofold.runs.context import RunContext
from twofold.runs.judges import gate_of, server_judge
from twofold.sampling.ahead import SamplesAhead
from twofold.sampling.base import Sampler
from twofold.sampling.local import LocalSampler
from twofold.sampling.reference import ReferenceSampler
from twofold.sampling.servers import ServerSampler
from twofold.training.step import Provider


class RunParts:
    """The parts of `context` that an algorithm is built from (`twofold.algorithms.base.Run`)."""

    def __init__(
        self, context: RunContext, groups: Mapping[str, Sequence[Group]], providers: Mapping[str, Provider]
    ) -> None:
        recipe = context.recipe
        self.context, self.groups, self.providers = context, groups, providers
        self.objective, self.steps, self.seed = context.objective, context.steps, recipe.seed
        self.ahead: SamplesAhead | None = None
        """The sampler, if the recipe generates samples ahead of training. It is made with the sampler."""
        self.batch_size, self.packing = recipe.training.batch_size, recipe.training.packing

    @property
    def policy(self) -> Policy:
        return self.context.language_model

    @property
    def value_model(self) -> ValueModel | None:
        return None if self.context.value_model is None else self.context.value_model[0]

    @property
    def rewards(self) -> Rewards:
        return self.context.rewards

    def mixture(self) -> Mixture | None:
        return self.context.mixture

    def sampler(self) -> Sampler:
        """In this process, or the server that the recipe names."""
        recipe, policy, loaded = self.context.recipe, self.policy, self.context.loaded
        if recipe.sampling.server is None:
            return self.context.sampler(training=True)

        def save(folder: Path) -> None:
            save_policy(policy, loaded.tokenizer, folder, sealed=False)

        warn = self.context.progress.warn
        servers = ServerSampler(policy, loaded.stop_tokens, recipe.sampling, save, Path(recipe.run) / "served", warn)
        self.ahead = SamplesAhead(servers) if recipe.sampling.server.ahead else None
        drafts = self.ahead or servers
        self.context.resources.callback(drafts.close)
        return drafts

    def reference_sampler(self) -> Sampler:
        reference, loaded, recipe = self.context.reference, self.context.loaded, self.context.recipe
        assert reference is not None, "an algorithm that samples from it requires it"

        here = replace(recipe.sampling, server=None)

        def make(model: PreTrainedModel) -> LocalSampler:
            return LocalSampler(model, loaded.tokenizer, loaded.stop_tokens, here)

        return ReferenceSampler(reference, make)

    def server_judge(self, kind: JudgeKind, rubric: str | None) -> PairJudge:
        return server_judge(self.context, kind, rubric)

    def gate(self, settings: GateSettings) -> Reward:
        return gate_of(self.context, settings, self.groups["generator"])


def build_algorithm(
    context: RunContext, groups: Mapping[str, Sequence[Group]], providers: Mapping[str, Provider]
) -> Algorithm:
    """The algorithm on `groups` (train, generator, heldout, also). `providers` compute the columns of a reference."""
    parts, recipe = RunParts(context, groups, providers), context.recipe
    algorithm = recipe.algorithm.build(parts)
    if parts.ahead is not None:
        algorithm = AheadAlgorithm(algorithm, parts.ahead, context.steps)
    if (also := recipe.data.also) is None:
        return algorithm
    size = also.rows_per_step(recipe.training.batch_size)
    return AlsoAlgorithm(algorithm, groups[ALSO], also_objective(also), size, also.weight, recipe.seed)
