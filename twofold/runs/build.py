"""From a recipe with its model and rows to the trainer: reference, rewards, algorithm, step, evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from twofold.batch import Branch, Group, Role
from twofold.config.load import plain
from twofold.data.weights import Weights
from twofold.errors import RecipeError
from twofold.evaluation.exact_match import exact_match
from twofold.evaluation.rate_in_training import RateInTraining
from twofold.evaluation.reward import RewardFigures
from twofold.models.bema import BemaReference
from twofold.models.packed_model import PackedModel
from twofold.models.packing import bins
from twofold.models.reference import COLUMN, MovingReference, cached_reference, live_reference
from twofold.models.sharding import shard_model
from twofold.objectives import BCO, BetaDPO
from twofold.objectives.base import Objective
from twofold.objectives.sum import members
from twofold.rewards.rollouts import Rewards
from twofold.runs.algorithms import build_algorithm
from twofold.runs.context import RunContext, asks_live, reference_pace
from twofold.runs.identity import identity_of, refuse_differences
from twofold.runs.judges import build_rewards, implicit_reward
from twofold.runs.processes import how_shared
from twofold.runs.value_model import build_value_model, value_model_trainables
from twofold.sampling.base import Sampler
from twofold.training.batch_beta import COLUMN as BETA
from twofold.training.batch_beta import BatchBeta
from twofold.training.bco_shift import COLUMN as DELTA
from twofold.training.bco_shift import BCOShift
from twofold.training.column_providers import providers
from twofold.training.first_packs import first_packs
from twofold.training.stateful import Stateful
from twofold.training.step import Part, Provider, Step
from twofold.training.track import Tracker
from twofold.training.trainable import POLICY, Trainable
from twofold.training.trainer import CHECKPOINTS, Evaluation, Evaluator, Trainer
from twofold.world import world


def build_trainer(run: RunContext, folder: Path, *, resume: bool = True) -> Trainer:
    """References are copies of the policy at the time of the call, so call this before a checkpoint is loaded. Raises
    CheckpointError, before anything is written, where `folder` has a different run to resume."""
    identity = identity_of(run)
    refuse_differences(identity)
    if resume:
        identity.refuse_changed(folder / CHECKPOINTS)
    known, stateful = _references(run)
    if run.recipe.algorithm.is_rewarded:
        implicit, moving = implicit_reward(run)
        stateful = [*moving, *stateful]
        run.rewards = build_rewards(run, implicit)
    run.value_model = build_value_model(run)
    _share_weights(run, stateful)
    groups = _with_reference_columns(run, folder)
    for each in members(run.objective):
        if isinstance(each, BCO):  # its running mean of rewards has settings of its own
            shift = BCOShift(run.language_model, run.recipe.training.packing, decay=each.shift_decay)
            known, stateful = {**known, DELTA: shift}, [*stateful, shift]
        if isinstance(each, BetaDPO):
            batch_beta = BatchBeta(run.language_model, run.recipe.training.packing, each)
            known, stateful = {**known, BETA: batch_beta}, [*stateful, batch_beta]
    run.algorithm = build_algorithm(run, groups, known)
    step = Step(
        [Trainable.of(POLICY, run.policy, run.recipe.optimizer, run.steps), *value_model_trainables(run)],
        providers=known,
        packing=run.recipe.training.packing,
        clip=run.recipe.optimizer.clip,
    )
    return Trainer(
        run=folder,
        algorithm=run.algorithm,
        step=step,
        evaluators=_evaluators(run, groups["heldout"], step, folder),
        settings=run.recipe.training,
        steps=run.steps,
        identity=identity,
        progress=run.progress,
        tracker=Tracker(
            run.recipe.training.track if world().first else "none", folder, plain(run.recipe), run.progress
        ),
        stateful=[*stateful, *run.algorithm.stateful],
    )


def _share_weights(run: RunContext, stateful: Sequence[Stateful]) -> None:
    """Split the trained models, and the references that follow them, among the processes."""
    kind = how_shared(run.recipe)
    models: list[PackedModel] = [run.policy, *(run.value_model or ())[:1]]
    for each in (run.reference, *stateful):
        models += getattr(each, "copies", [])
    for model in models:
        shard_model(model, kind, run.recipe.world)


def _references(run: RunContext) -> tuple[dict[str, Provider], list[Stateful]]:
    """Providers of the reference columns that are computed during the run, and the references that move. Copies are
    made before the weights are split among processes."""
    if not run.generates:
        return {}, []
    packing, policy = run.recipe.training.packing, run.language_model
    if pace := reference_pace(run.recipe, len(run.groups["train"])):
        if not _needs_reference(run):
            where = "reference.kind" if run.recipe.reference.kind == "moving" else "algorithm.reference"
            what, remedy = f"{type(run.objective).__name__} uses no reference", "leave it out"
            raise RecipeError(what, where=where, remedy=remedy)
        bema = run.recipe.reference.bema
        if bema is None:
            moving = MovingReference(policy, *pace)
        else:
            moving = BemaReference(MovingReference(policy, 1.0, pace[1]), bema, pace[1])
        run.reference = moving
        return providers(policy, moving, packing), [moving]
    if not asks_live(run.recipe, run.objective):
        return {}, []
    run.reference = live_reference(policy)
    return providers(policy, run.reference, packing), []


def _with_reference_columns(run: RunContext, folder: Path) -> dict[str, Sequence[Group]]:
    """Fixed data, with its cached reference column where it needs one."""
    settings, groups = run.recipe.reference, dict(run.groups)
    fixed = settings.kind == "cached" and not run.recipe.algorithm.answers_rows
    if not run.generates or not fixed or not _needs_reference(run):
        return groups
    cache = Path(settings.cache) if settings.cache else folder / "reference-cache"
    packs = {"train": _training_packs(run), "heldout": bins(groups["heldout"], run.recipe.training.packing)}
    for name, its_packs in packs.items():
        if groups[name]:
            groups[name] = cached_reference(run.language_model, groups[name], its_packs, cache, run.progress)
    return groups


def _needs_reference(run: RunContext) -> bool:
    return COLUMN in run.objective.requires or run.recipe.algorithm.needs_reference


def _training_packs(run: RunContext) -> Iterator[list[int]]:
    """The packs of the first epoch."""
    rows, training = run.groups["train"], run.recipe.training
    return first_packs(rows, run.order, training.batch_size, run.steps, training.packing)


def _evaluators(run: RunContext, heldout: Sequence[Group], step: Step, folder: Path) -> list[Evaluator]:
    found: list[Evaluator] = []
    if heldout and run.recipe.algorithm.is_rewarded:
        found.append(lambda: heldout_reward(run.rewards, run.sampler(training=False), heldout, run.recipe.seed))
    elif heldout:
        found.append(lambda: _heldout(step, heldout, run.objective, run.judged()))
    if run.dataset.tasks:
        found.append(lambda: _solve(run))
    if run.recipe.evaluation.win_rate is not None:
        rate = RateInTraining.open(run.recipe.evaluation.win_rate, folder / "samples.jsonl", run.resources)
        found.append(lambda: Evaluation(*rate(run.sampler(training=False), run.encoder, run.recipe.seed, run.progress)))
    return found


def heldout_reward(rewards: Rewards, sampler: Sampler, tasks: Sequence[Group], seed: int) -> Evaluation:
    """The mean reward of one completion for each held-out prompt, sampled with evaluation.sampling."""
    rows = sampler.sample([t.prompt for t in tasks], seed=(seed, 0))
    said = [
        replace(t, branches=tuple(Branch(d.tokens, Role.DRAFT) for d in drafts))
        for t, drafts in zip(tasks, rows, strict=True)
    ]
    verdicts = rewards.verdicts(said)
    total = [reward for row in verdicts.scores if row is not None for reward in row]
    figures = {"reward": sum(total) / len(total), "n": float(len(total)), **verdicts.figures}
    figures["truncated"] = sum(d.truncated for drafts in rows for d in drafts) / len(total)
    return Evaluation({f"heldout/{name}": value for name, value in figures.items()})


def _solve(run: RunContext) -> Evaluation:
    sampler, recipe = run.sampler(training=False), run.recipe
    rule, tasks = recipe.evaluation.rule, run.dataset.tasks
    result = exact_match(sampler, tasks, run.encoder, progress=run.progress, seed=recipe.seed, rule=rule)
    figures = {"strict": result.strict.value, "flexible": result.flexible.value, "n": float(len(result.rows))}
    figures["truncated"] = result.truncated / len(result.rows)
    return Evaluation({f"exact_match/{k}": v for k, v in figures.items()}, [row.as_dict() for row in result.rows])


def _heldout(step: Step, groups: Sequence[Group], objective: Objective, report: RewardFigures | None) -> Evaluation:
    """`n` is the effective number of rows, by which means have their intervals, `rows` how many there are: rows of one
    prompt count as one of their weight. A reward model's `report` has intervals of its own."""
    figures = {**step.measure([Part(groups, objective)]), **(report.figures if report else {})}
    by_prompt: dict[bytes, float] = {}
    for group in groups:
        prompt = group.prompt.numpy().tobytes()
        by_prompt[prompt] = by_prompt.get(prompt, 0.0) + (1.0 if group.weight is None else group.weight)
    weights = Weights()
    for weight in by_prompt.values():
        weights.add(weight)
    n = int(weights.effective + 1e-9)
    told = {"n": float(n), "rows": float(len(groups))}
    weighted = any(group.weight is not None for group in groups)
    if n == len(groups) or (report is not None and not weighted):
        told = {"n": float(len(groups))}
    return Evaluation({f"heldout/{name}": value for name, value in {**figures, **told}.items()})
