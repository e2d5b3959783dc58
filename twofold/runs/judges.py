"""The judges of a run, which rate, compare or filter the policy's samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from twofold.algorithms.preference_pairs import balanced
from twofold.batch import Group
from twofold.errors import ModelError, RecipeError
from twofold.judges.base import DraftResources, JudgeKind, JudgeResources, Place
from twofold.judges.completions import FunctionKind
from twofold.judges.drafts import ByServer, PairJudge, open_draft_judge
from twofold.judges.gates import GateSettings, open_gate
from twofold.judges.registry import GATE
from twofold.ledger import Ledger
from twofold.models.load import load_policy
from twofold.models.locate import model_path
from twofold.models.reference import MovingReference, Reference
from twofold.rewards.base import Reward, RewardFunction
from twofold.rewards.execution import Execution
from twofold.rewards.implicit import ImplicitReward, TrailingReference
from twofold.rewards.model import ModelReward
from twofold.rewards.model import open_reward as reward_of_texts
from twofold.rewards.rollouts import Rewards
from twofold.runs.context import RunContext
from twofold.training.stateful import Stateful

LEDGER = "judge.ledger.jsonl"
"""In the run's folder: requests to a language model and its replies. A resumed run sends no request twice."""
LEDGERS = "judge"
"""Folder of a run with such a ledger for each round of samples."""


def functions_of(given: dict[str, Any]) -> dict[str, RewardFunction]:
    """Replaces functions in `given`'s algorithm by names of judges, which a recipe can store. Returns the functions."""
    functions: dict[str, RewardFunction] = {}

    def named(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: named(v) for k, v in cast("Mapping[str, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [named(each) for each in cast("Sequence[Any]", value)]
        if not callable(value):
            return value
        name = f"{FunctionKind.name}:{getattr(value, '__qualname__', type(value).__qualname__)}"
        functions[name] = cast("RewardFunction", value)
        return name

    if isinstance(given.get("algorithm"), Mapping):
        given["algorithm"] = named(given["algorithm"])
    return functions


def build_rewards(run: RunContext, implicit: Reward | None) -> Rewards:
    """The rewards of samples, after a check of every problem. Raises DataError for a problem that a judge cannot rate,
    RecipeError and ModelError for a judge that does not exist."""
    algorithm, problems = run.recipe.algorithm, [*run.groups["train"], *run.groups["heldout"]]
    drafts = draft_resources(run, algorithm.judge_place, execution=algorithm.execution)
    drafts = replace(drafts, implicit=implicit)
    return Rewards(
        [(s.source, s.weight, open_draft_judge(s.source, drafts, run.resources, problems)) for s in algorithm.rewards]
    )


def server_judge(run: RunContext, kind: JudgeKind, rubric: str | None) -> PairJudge:
    """A language model that judges samples in rounds. Raises RecipeError for an address or a rubric that cannot be
    used, before anything is sampled."""
    drafts = draft_resources(run, run.recipe.algorithm.judge_place, rubric=rubric)
    kind.check(drafts.of_texts)
    return ByServer(kind, drafts, Path(run.recipe.run) / LEDGERS)


def gate_of(run: RunContext, settings: GateSettings, tasks: Sequence[Group]) -> Reward:
    """The gate that filters samples for `tasks`. Raises the errors of `build_rewards`."""
    return open_gate(settings, draft_resources(run, GATE, rubric=settings.rubric), run.resources, tasks)


def draft_resources(
    run: RunContext, place: Place, *, rubric: str | None = None, execution: Execution | None = None
) -> DraftResources:
    """The resources with which a run's judges are opened. All judges of the run share one ledger."""

    def open_reward(folder: str) -> Reward:
        settings = replace(run.recipe.model, path=model_path(folder), lora=None, adapter=None, quantize=None)
        reward = ModelReward.load(settings, run.loaded.tokenizer, run.recipe.training.packing)
        if reward.renders != run.encoder.turns.renders:
            ways = ("bare text", "turns of the chat template")
            theirs, own = ways[reward.renders], ways[run.encoder.turns.renders]
            remedy = "train both under the same data.chat"
            run.progress.warn(f"{folder}: reads text prompts as {theirs}, and the policy's are {own} → {remedy}")
        return reward

    recipe = run.recipe
    of_texts = JudgeResources(
        place,
        cache(lambda: run.resources.enter_context(Ledger(Path(run.recipe.run) / LEDGER))),
        open_reward=partial(
            reward_of_texts, max_length=recipe.data.tokenize.max_length + recipe.sampling.max_new_tokens
        ),
        rubric=rubric,
        execution=execution or Execution(),
        functions=run.functions,
    )
    return DraftResources(
        of_texts, run.encoder.text, run.loaded.stop_tokens, open_reward,
        prompt_of=run.prompt_of, answer_of=run.answer_of,
    )  # fmt: skip


def implicit_reward(run: RunContext) -> tuple[Reward | None, list[Stateful]]:
    """The policy's implicit reward, if the recipe judges with it, and its parts that move. Raises ModelError for a
    model that cannot be compared with the policy."""
    settings, recipe = run.recipe.algorithm.implicit_judge, run.recipe
    if settings is None:
        return None, []
    policy, path = run.language_model, settings.reference
    assert path is not None, "the settings have been checked"
    first, loaded = load_policy(replace(recipe.model, path=path, lora=None, adapter=None, quantize=None), recipe.seed)
    if loaded.tokenizer.get_vocab() != run.loaded.tokenizer.get_vocab():
        fault = "this model has another vocabulary than the policy, whose tokens it is to score"
        raise ModelError(fault, where=path, remedy="name the model that the policy was trained from")
    against: Reference = first.requires_grad_(False)
    stateful: list[Stateful] = []
    if recipe.algorithm.reference_interval(recipe.training.batch_size, len(run.groups["train"])):
        if policy.adapter is not None:
            fault = "the model that an adapter was trained from in the previous round is not kept"
            raise RecipeError(fault, where="algorithm.reference", remedy="train without an adapter, or keep it")
        assert isinstance(run.reference, MovingReference), "the policy becomes the reference"  # for the type checker
        against = trailing = TrailingReference(first, run.reference)
        stateful = [trailing]
    penalty = balanced if settings.length_penalty == "balanced" else settings.length_penalty
    return ImplicitReward(policy, against, recipe.training.packing, settings.beta, penalty), stateful
