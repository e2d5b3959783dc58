"""Who plays in a run: from the settings of an algorithm to the algorithm, a function for each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.algorithms import (
    PDPO,
    AnyAlgorithm,
    OfflineAlgorithm,
    PDPOAlgorithm,
    PolicyGradient,
    PolicyGradientAlgorithm,
)
from twofold.algorithms.critic import CRITIC, POLICY
from twofold.batch import Group
from twofold.config.gate import gate_of
from twofold.config.mixture import mixture
from twofold.config.rollouts import make_rewards
from twofold.errors import ModelError, RecipeError
from twofold.models.heads import ValueModel, load_value_model, value_model_of
from twofold.models.load import Loaded, save_policy
from twofold.models.policy import Policy
from twofold.rewards.rollouts import Rewards
from twofold.sampling.base import Sampler
from twofold.sampling.served import ServedSampler
from twofold.training.balance import Balance
from twofold.training.columns import OLD, VALUE, old_logps, old_values
from twofold.training.learner import Learner
from twofold.training.loop import Algorithm
from twofold.training.step import Provider

if TYPE_CHECKING:
    from twofold.config.assemble import Assembly


def player(run: Assembly, groups: Mapping[str, Sequence[Group]], known: Mapping[str, Provider]) -> Algorithm:
    """The algorithm of `run` on `groups` (train, generator, heldout); `known` provides what is asked of a reference."""
    match run.recipe.algorithm:
        case PolicyGradient() as settings:
            return _rolled_out(run, settings, groups, known)
        case PDPO() as settings:
            return _drafting(run, settings, groups)
        case _:
            return _offline(run, groups)


def rewards_of(run: Assembly, settings: PolicyGradient) -> Rewards:
    """What rates rollouts, after looking at every problem that it is to rate."""
    rated = run.groups["train"], run.groups["heldout"]
    return make_rewards(settings, run.recipe, (run.encoder, run.loaded), rated, run.functions)


def balance_of(settings: AnyAlgorithm) -> Balance | None:
    """What weighs a balanced part of a round, where the algorithm plays one."""
    if not isinstance(settings, PDPO) or settings.balance == "none":
        return None
    return Balance(decay=settings.balance_decay, most=settings.balance_most)


def critic_of(run: Assembly) -> tuple[ValueModel, Loaded] | None:
    """The value model that the recipe asks for, as it is before step 0; a copy of the policy takes it as it is now."""
    settings = run.recipe.algorithm
    if not isinstance(settings, PolicyGradient) or settings.value is None:
        return None
    assert isinstance(run.policy, Policy)
    start = settings.value.start
    if start == POLICY:
        return value_model_of(run.policy, run.loaded, run.recipe.model, run.recipe.seed)
    _refuse_slip(start)
    model, loaded = load_value_model(replace(run.recipe.model, path=start, adapter=None), run.recipe.seed)
    if loaded.tokenizer.get_vocab() != run.loaded.tokenizer.get_vocab():
        raise ModelError(
            "this value model has another vocabulary than the policy, whose tokens it is to value",
            where=start,
            remedy="train a reward model from the policy's own base, or leave algorithm.value.start out",
        )
    if model.note:
        run.progress.note(f"{start} has no score head: the value model says 0 until it has learnt")
    return model, loaded


def _refuse_slip(start: str) -> None:
    """Refuse what is no folder and nearly `policy`, or says that it is a folder, before it is looked for on the hub."""
    near, local = difflib.get_close_matches(start, [POLICY]), start.startswith((".", "/", "~")) or start.count("/") > 1
    if (near or local) and not Path(start).is_dir():
        remedy = f"did you mean `{POLICY}`?" if near else "name the folder of a reward model, or policy"
        raise RecipeError(f"{start}: no such folder", where="algorithm.value.start", remedy=remedy)


def learners_of(run: Assembly) -> list[Learner]:
    """What learns beside the policy: the value model, under the same optimizer settings but for its own rate."""
    settings = run.recipe.algorithm
    if run.critic is None or not isinstance(settings, PolicyGradient) or settings.value is None:
        return []
    rate = settings.value.learning_rate or run.recipe.optimizer.learning_rate
    return [Learner(CRITIC, run.critic[0], replace(run.recipe.optimizer, learning_rate=rate), run.steps)]


def drafter(run: Assembly) -> Sampler:
    """What draws the drafts of training: this process, or the server that the recipe names."""
    if run.recipe.sampling.server is None:
        return run.sampler(training=True)
    policy, tokenizer = run.policy, run.loaded.tokenizer
    assert isinstance(policy, Policy)

    def save(folder: Path) -> None:
        save_policy(policy, tokenizer, folder)

    return ServedSampler(policy, run.loaded.stop_tokens, run.recipe.sampling, save, Path(run.recipe.run) / "served")


def _offline(run: Assembly, groups: Mapping[str, Sequence[Group]]) -> OfflineAlgorithm:
    return OfflineAlgorithm(
        groups["train"],
        run.objective,
        batch_size=run.recipe.training.batch_size,
        seed=run.recipe.seed,
        steps=run.steps,
        ramps=run.recipe.algorithm.ramp,
        mixture=mixture(run.recipe.data.portions, run.groups["train"], run.recipe.seed, run.progress),
    )


def _drafting(run: Assembly, settings: PDPO, groups: Mapping[str, Sequence[Group]]) -> PDPOAlgorithm:
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
    run: Assembly, settings: PolicyGradient, groups: Mapping[str, Sequence[Group]], known: Mapping[str, Provider]
) -> PolicyGradientAlgorithm:
    assert isinstance(run.policy, Policy)
    packing = run.recipe.training.packing
    valued = {VALUE: old_values(run.critic[0], packing)} if run.critic is not None else {}
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
