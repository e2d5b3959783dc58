"""From a recipe with its model and rows to the loop: reference, rewards, algorithm, step, evaluators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twofold.algorithms import Online, PolicyGradient
from twofold.batch import Group
from twofold.config.load import plain
from twofold.errors import RecipeError
from twofold.evaluation.exact_match import exact_match
from twofold.evaluation.reward import RewardReport
from twofold.models.heads import RewardModel
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, MovingReference, cached_reference, live_reference
from twofold.objectives import BCO
from twofold.objectives.base import Objective
from twofold.runs.algorithms import balance_of, build_algorithm, rewards_of
from twofold.runs.context import RunContext, asks_live
from twofold.runs.online import implicit_reward, moves
from twofold.runs.rewards import asks_reference, heldout_reward, rates
from twofold.runs.value_model import build_trainables, build_value_model
from twofold.training.balance import Balance
from twofold.training.bco_shift import COLUMN as DELTA
from twofold.training.bco_shift import BCOShift
from twofold.training.column_providers import providers
from twofold.training.optim import make_optimizer
from twofold.training.stateful import Stateful
from twofold.training.step import Part, Provider, Step
from twofold.training.track import Tracker
from twofold.training.trainer import Evaluation, Evaluator, Trainer


def build_trainer(run: RunContext, folder: Path) -> Trainer:
    """References are made from the policy as it is now, so call this before any checkpoint is loaded."""
    groups, known, keepers = _with_references(run, folder)
    if rates(run.recipe.algorithm):
        own, judging = implicit_reward(run, run.reference)
        keepers = [*judging, *keepers]
        run.rewards = rewards_of(run, run.recipe.algorithm, own)
    run.value_model = build_value_model(run)
    learners = build_trainables(run)
    if isinstance(run.objective, BCO) and isinstance(run.policy, Policy):
        shift = BCOShift(run.policy, run.recipe.training.packing, decay=run.objective.shift_decay)
        known, keepers = {**known, DELTA: shift}, [*keepers, shift]
    balance = balance_of(run.recipe.algorithm)
    keepers += [balance] if balance else []
    step = Step(
        run.policy,
        make_optimizer(run.recipe.optimizer, run.policy.trainable()),
        providers=known,
        packing=run.recipe.training.packing,
        clip=run.recipe.optimizer.clip,
        balance=balance or Balance(),
        trainables=learners,
    )
    return Trainer(
        run=folder,
        policy=run.policy,
        algorithm=build_algorithm(run, groups, known),
        step=step,
        evaluators=_evaluators(run, groups["heldout"], step),
        optimizer=run.recipe.optimizer,
        settings=run.recipe.training,
        steps=run.steps,
        identity=run.identity(),
        progress=run.progress,
        tracker=Tracker(run.recipe.training.track, folder, plain(run.recipe), run.progress),
        stateful=[*keepers, *learners],
    )


def _with_references(
    run: RunContext, folder: Path
) -> tuple[dict[str, Sequence[Group]], dict[str, Provider], list[Stateful]]:
    """Fixed data with its cached reference column, providers for what is asked live, and what of them moves."""
    packing, settings = run.recipe.training.packing, run.recipe.reference
    groups = dict(run.groups)
    if isinstance(run.policy, RewardModel):
        return groups, {}, []
    rolls = isinstance(run.recipe.algorithm, PolicyGradient | Online)
    needed = COLUMN in run.objective.requires or asks_reference(run.recipe.algorithm)
    cached = needed and settings.kind == "cached" and not rolls
    if cached:
        cache = Path(settings.cache) if settings.cache else folder / "reference-cache"
        for name in ("train", "heldout"):
            if groups[name]:
                groups[name] = cached_reference(run.policy, groups[name], packing, cache, run.progress)
    if pace := moves(run.recipe, len(groups["train"])):
        if not needed:
            where = "reference.kind" if settings.kind == "moving" else "algorithm.reference"
            raise RecipeError(f"{type(run.objective).__name__} asks for no reference", where=where)
        run.reference = moving = MovingReference(run.policy, *pace)
        return groups, providers(run.policy, moving, packing), [moving]
    if not asks_live(run.recipe, run.objective):
        return groups, {}, []
    run.reference = live_reference(run.policy)
    return groups, providers(run.policy, run.reference, packing), []


def _evaluators(run: RunContext, heldout: Sequence[Group], step: Step) -> list[Evaluator]:
    found: list[Evaluator] = []
    if heldout and rates(run.recipe.algorithm):
        found.append(lambda: heldout_reward(run.rewards, run.sampler(training=False), heldout, run.recipe.seed))
    elif heldout:
        found.append(lambda: _heldout(step, heldout, run.objective, run.judged()))
    if run.records.tasks:
        found.append(lambda: _solve(run))
    return found


def _solve(run: RunContext) -> Evaluation:
    sampler = run.sampler(training=False)
    result = exact_match(sampler, run.records.tasks, run.encoder, progress=run.progress, seed=run.recipe.seed)
    figures = {"strict": result.strict.value, "flexible": result.flexible.value, "n": float(len(result.rows))}
    figures["truncated"] = result.truncated / len(result.rows)
    return Evaluation({f"exact_match/{k}": v for k, v in figures.items()}, [row.as_dict() for row in result.rows])


def _heldout(step: Step, groups: Sequence[Group], objective: Objective, report: RewardReport | None) -> Evaluation:
    figures = {**step.measure([Part(groups, objective)]), **(report.figures if report else {})}
    return Evaluation({**{f"heldout/{k}": v for k, v in figures.items()}, "heldout/n": float(len(groups))})
