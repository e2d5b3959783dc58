"""Who plays in a run: from the settings of an algorithm to the algorithm, a function for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from twofold.algorithms import (
    PDPO,
    AnyAlgorithm,
    OfflineAlgorithm,
    Online,
    OnlineAlgorithm,
    PDPOAlgorithm,
    PolicyGradient,
    PolicyGradientAlgorithm,
)
from twofold.batch import Group
from twofold.data.mixture import mixture
from twofold.models.load import save_policy
from twofold.models.policy import Policy
from twofold.rewards.base import Reward
from twofold.rewards.rollouts import Rewards
from twofold.runs.context import RunContext
from twofold.runs.draft_filter import gate_of
from twofold.runs.online import judge_of, reference_sampler
from twofold.runs.rewards import Sources, make_rewards
from twofold.sampling.base import Sampler
from twofold.sampling.servers import ServerSampler
from twofold.training.balance import Balance
from twofold.training.column_providers import OLD, VALUE, old_logps, old_values
from twofold.training.step import Provider
from twofold.training.trainer import Algorithm


def build_algorithm(run: RunContext, groups: Mapping[str, Sequence[Group]], known: Mapping[str, Provider]) -> Algorithm:
    """The algorithm of `run` on `groups` (train, generator, heldout); `known` provides what is asked of a reference."""
    match run.recipe.algorithm:
        case PolicyGradient() as settings:
            return _rolled_out(run, settings, groups, known)
        case Online() as settings:
            return _online(run, settings, groups)
        case PDPO() as settings:
            return _drafting(run, settings, groups)
        case _:
            return _offline(run, groups)


def rewards_of(run: RunContext, settings: PolicyGradient | Online, known: Mapping[str, Reward]) -> Rewards:
    """What rates drafts, after looking at every problem that it is to rate."""
    where = "algorithm.judge" if isinstance(settings, Online) else "algorithm.reward"
    sources = Sources(run.recipe, run.encoder, run.loaded, run.functions, where, settings.execution, known)
    return make_rewards(settings.rewards, sources, (run.groups["train"], run.groups["heldout"]))


def balance_of(settings: AnyAlgorithm) -> Balance | None:
    """What weighs a balanced part of a round, where the algorithm plays one."""
    if not isinstance(settings, PDPO) or settings.balance == "none":
        return None
    return Balance(decay=settings.balance_decay, most=settings.balance_most)


def drafter(run: RunContext) -> Sampler:
    """What draws the drafts of training: this process, or the server that the recipe names."""
    if run.recipe.sampling.server is None:
        return run.sampler(training=True)
    policy, tokenizer = run.policy, run.loaded.tokenizer
    assert isinstance(policy, Policy)

    def save(folder: Path) -> None:
        save_policy(policy, tokenizer, folder)

    return ServerSampler(policy, run.loaded.stop_tokens, run.recipe.sampling, save, Path(run.recipe.run) / "served")


def _offline(run: RunContext, groups: Mapping[str, Sequence[Group]]) -> OfflineAlgorithm:
    return OfflineAlgorithm(
        groups["train"],
        run.objective,
        batch_size=run.recipe.training.batch_size,
        seed=run.recipe.seed,
        steps=run.steps,
        ramps=run.recipe.algorithm.ramp,
        mixture=mixture(run.recipe.data.sources, run.groups["train"], run.recipe.seed, run.progress),
    )


def _drafting(run: RunContext, settings: PDPO, groups: Mapping[str, Sequence[Group]]) -> PDPOAlgorithm:
    return PDPOAlgorithm(
        settings=settings,
        pairs=_offline(run, groups),
        tasks=groups["generator"],
        generator=settings.objective(run.recipe.objective.beta),  # type: ignore[union-attr]  # the recipe has checked it
        sampler=drafter(run),
        seed=run.recipe.seed,
        steps=run.steps,
        gate=gate_of(run, settings, groups["generator"]),
    )


def _rolled_out(
    run: RunContext, settings: PolicyGradient, groups: Mapping[str, Sequence[Group]], known: Mapping[str, Provider]
) -> PolicyGradientAlgorithm:
    assert isinstance(run.policy, Policy)
    packing = run.recipe.training.packing
    valued = {VALUE: old_values(run.value_model[0], packing)} if run.value_model is not None else {}
    return PolicyGradientAlgorithm(
        settings=settings,
        tasks=groups["train"],
        objective=run.objective,
        sampler=drafter(run),
        rewards=run.rewards,
        columns={**known, OLD: old_logps(run.policy, packing), **valued},
        batch_size=run.recipe.training.batch_size,
        seed=run.recipe.seed,
        steps=run.steps,
    )


def _online(run: RunContext, settings: Online, groups: Mapping[str, Sequence[Group]]) -> OnlineAlgorithm:
    return OnlineAlgorithm(
        settings=settings,
        tasks=groups["train"],
        objective=run.objective,
        sampler=drafter(run),
        judge=judge_of(run, settings),
        reference_sampler=reference_sampler(run, settings, run.reference),
        batch_size=run.recipe.training.batch_size,
        seed=run.recipe.seed,
        steps=run.steps,
    )
