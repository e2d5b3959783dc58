"""From a recipe to everything a run is made of: policy, data, reference, algorithm, evaluators, loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from twofold.algorithms import PDPO, Online, PolicyGradient
from twofold.batch import Group
from twofold.config.critic import critic_of, learners_of
from twofold.config.lessons import as_lessons
from twofold.config.load import load_recipe, plain, validate
from twofold.config.online import implicit_reward, moves
from twofold.config.players import balance_of, player, rewards_of
from twofold.config.rollouts import asks_reference, held_out_reward, rates
from twofold.config.schema import Portion, Recipe, Share
from twofold.data.encode import Encoded, encode
from twofold.data.formats import Table
from twofold.data.load import Reading, load
from twofold.data.split import refuse_overlap, split_by_prompt
from twofold.data.stored_groups import encode_stored, fingerprint
from twofold.data.tokenize import Encoder
from twofold.data.views import Read, joined
from twofold.errors import DataError, RecipeError
from twofold.evaluation.exact_match import exact_match
from twofold.evaluation.reward import RewardReport, judge, scored
from twofold.models.heads import RewardModel, ValueModel
from twofold.models.load import Loaded
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, LiveReference, MovingReference, cached_reference, live_reference
from twofold.objectives import BCO
from twofold.objectives.base import Objective, lesson, reading
from twofold.progress import Progress, Silent
from twofold.records import Labelled, Record, Request, Task, said
from twofold.rewards.rollouts import RewardFunction
from twofold.sampling.local import LocalSampler
from twofold.training.balance import Balance
from twofold.training.columns import OF_REFERENCE, providers
from twofold.training.keeper import Keeper
from twofold.training.loop import Evaluation, Evaluator, Loop
from twofold.training.optim import make_optimizer
from twofold.training.reward_shift import COLUMN as DELTA
from twofold.training.reward_shift import RewardShift
from twofold.training.step import Part, Provider, Step
from twofold.training.track import Tracker

IN_MEMORY = "in memory"
"""The path of a model or of data that Python handed over."""


@dataclass(frozen=True)
class Records:
    """The rows of a run by their use; no prompt is trained on and measured on."""

    train: Sequence[Record]
    generator: Sequence[Record]
    heldout: Sequence[Record]
    tasks: Sequence[Task]
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])


def read_records(
    recipe: Recipe, objective: Objective, rows: Sequence[Record] | None = None, progress: Progress | None = None
) -> Records:
    """Check, read, split and check against overlap, as what `objective` learns from. `rows` stand in for `data.train`'s
    file. Raises DataError for whatever `twofold data check` calls an error, whose warnings `progress` is told, and
    RecipeError for what a reward model cannot do."""
    _refuse_speech(recipe, objective)
    found = _read_rows(recipe, rows, progress or Silent())
    wanted = "prompts" if isinstance(recipe.algorithm, Online) else lesson(objective)
    train, heldout = (as_lessons(rs, objective, wanted) for rs in (found.train, found.heldout))
    return replace(found, train=train, heldout=heldout)


def data_cache(recipe: Recipe) -> Path:
    """Where rows and tokens are kept that are too many to hold."""
    return Path(recipe.data.cache or Path(recipe.run) / "data-cache")


def _read_rows(recipe: Recipe, rows: Sequence[Record] | None, progress: Progress) -> Records:
    """The same as the rows are."""
    data, tables = recipe.data, dict[str, Table]()

    def read(each: Portion | Share) -> Table:
        stream = isinstance(each, Portion) and each.stream
        reading = Reading(each.file or "", each.columns, each.split, each.limit, stream, data.accept)
        return load(reading, data_cache(recipe), progress)

    if rows is None:
        for number, each in enumerate(data.portions, 1):
            name = "train" if isinstance(data.train, str) else f"train {number}"
            tables[name] = read(each)
        rows = joined([table.records for table in tables.values()])
    else:
        rows = list(rows)

    def share(wanted: Share | None, name: str, rows: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
        """The share's rows and what is left of `rows`."""
        if wanted is None:
            return [], rows
        if wanted.file is not None:
            tables[name] = read(wanted)
            return tables[name].records, rows
        return split_by_prompt(rows, count=wanted.count, fraction=wanted.fraction, seed=recipe.seed)

    heldout, train = share(data.heldout, "heldout", rows)
    generator, train = share(data.generator, "generator", train)
    tasks, _ = share(recipe.evaluation.tasks, "tasks", train)
    refuse_overlap(train, generator)
    for measured in (heldout, tasks):
        refuse_overlap(joined([train, generator]), measured)
    problems = as_tasks(generator)
    wrong = next((r for r in tasks if not isinstance(r, Task)), None)
    if wrong is not None:
        raise DataError("evaluation.tasks need a prompt and an answer", where=str(wrong.source))
    return Records(train, problems, heldout, [t for t in tasks if isinstance(t, Task)], tables)


def _refuse_speech(recipe: Recipe, objective: Objective) -> None:
    """A reward model says nothing: it can neither draft nor solve, and is compared with no reference."""
    asked = {
        "algorithm": isinstance(recipe.algorithm, PDPO),
        "evaluation.tasks": recipe.evaluation.tasks is not None,
        "reference.fit": recipe.reference.fit is not None,
        "reference.kind": recipe.reference.kind == "moving",
    }
    wrong = next((where for where, given in asked.items() if given), None)
    if reading(objective) == "scores" and wrong:
        raise RecipeError(
            f"{type(objective).__name__} makes the model a reward model, which says nothing but scores",
            where=wrong,
            remedy=f"leave {wrong} out, or choose an objective on log-probabilities",
        )


def refuse_trained_on(run: Path, tasks: Sequence[Record]) -> None:
    """Refuse rows whose prompts `run` was trained on, as its own resolved.yaml tells. Raises DataError."""
    document = load_recipe(run / "resolved.yaml")
    document.data.pop("objective", None)  # which rows there were does not hang on it, and it may be a stranger's code
    recipe = validate(Recipe, document)
    if recipe.data.train == IN_MEMORY:
        return
    records = _read_rows(recipe, None, Silent())
    refuse_overlap(joined([records.train, records.generator]), tasks)


def as_tasks(records: Sequence[Record]) -> Sequence[Record]:
    """Problems for a generator."""
    if isinstance(records, list):
        return [_as_task(record) for record in records]
    return Read(records, lambda record: [_as_task(record)], "tasks")


def encoded(rows: Sequence[Record], encoder: Encoder, folder: Path, progress: Progress) -> Encoded:
    """The groups of `rows`: on disk where the rows are."""
    return encode(rows, encoder, progress) if isinstance(rows, list) else encode_stored(rows, encoder, folder, progress)


def _as_task(record: Record) -> Task:
    """A generator problem: a task, or the best of what is said to a prompt as its ground truth."""
    if isinstance(record, Labelled) and not record.desirable:
        raise DataError("an undesirable completion is no ground truth", where=str(record.source))
    if isinstance(record, Request):
        raise DataError("a prompt alone has no ground truth", where=str(record.source), remedy="bring its answer")
    return record if isinstance(record, Task) else Task(record.prompt, said(record)[0][1], record.source)


@dataclass
class Assembly:
    """A recipe with its model and its rows, ready to become a loop."""

    recipe: Recipe
    objective: Objective
    policy: Policy | RewardModel
    loaded: Loaded
    records: Records
    progress: Progress
    functions: Mapping[str, RewardFunction] = field(default_factory=dict[str, RewardFunction])
    """Rewards that Python handed over, by their name in the recipe."""
    resources: ExitStack = field(default_factory=ExitStack)
    """What the run holds open (a judge's connection and ledger), for whoever made the assembly to close."""

    def __post_init__(self) -> None:
        self.encoder = Encoder(self.loaded.tokenizer, self.loaded.stop_tokens, self.recipe.data.tokenize)
        self.encoded: dict[str, Encoded] = {}
        self.reference: LiveReference | None = None
        self.groups = {name: self._encode(name) for name in ("train", "generator", "heldout")}
        self.steps = total_steps(self.recipe, len(self.groups["train"]))
        self.critic: tuple[ValueModel, Loaded] | None = None

    def _encode(self, name: str) -> Sequence[Group]:
        rows: Sequence[Record] = getattr(self.records, name)
        if not rows:
            return []
        self.encoded[name] = encoded(rows, self.encoder, data_cache(self.recipe), self.progress)
        return self.encoded[name].groups

    def identity(self) -> dict[str, Any]:
        """What must be the same when the run is resumed."""
        settings = _flat(plain(self.recipe))
        for free in (
            "run",
            "training.keep",
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

    def loop(self, run: Path) -> Loop:
        """References are made from the policy as it is now, so call this before any checkpoint is loaded."""
        groups, known, keepers = self._with_references(run)
        if rates(self.recipe.algorithm):
            own, judging = implicit_reward(self, self.reference)
            keepers = [*judging, *keepers]
            self.rewards = rewards_of(self, self.recipe.algorithm, own)
        self.critic = critic_of(self)
        learners = learners_of(self)
        if isinstance(self.objective, BCO) and isinstance(self.policy, Policy):
            shift = RewardShift(self.policy, self.recipe.training.packing, decay=self.objective.shift_decay)
            known, keepers = {**known, DELTA: shift}, [*keepers, shift]
        balance = balance_of(self.recipe.algorithm)
        keepers += [balance] if balance else []
        step = Step(
            self.policy,
            make_optimizer(self.recipe.optimizer, self.policy.trainable()),
            providers=known,
            packing=self.recipe.training.packing,
            clip=self.recipe.optimizer.clip,
            balance=balance or Balance(),
            learners=learners,
        )
        return Loop(
            run=run,
            policy=self.policy,
            algorithm=player(self, groups, known),
            step=step,
            evaluators=self._evaluators(groups["heldout"], step),
            optimizer=self.recipe.optimizer,
            settings=self.recipe.training,
            steps=self.steps,
            identity=self.identity(),
            progress=self.progress,
            tracker=Tracker(self.recipe.training.track, run, plain(self.recipe), self.progress),
            keepers=[*keepers, *learners],
        )

    def _with_references(self, run: Path) -> tuple[dict[str, Sequence[Group]], dict[str, Provider], list[Keeper]]:
        """Fixed data with its cached reference column, providers for what is asked live, and what of them moves."""
        packing, settings = self.recipe.training.packing, self.recipe.reference
        groups = dict(self.groups)
        if isinstance(self.policy, RewardModel):
            return groups, {}, []
        rolls = isinstance(self.recipe.algorithm, PolicyGradient | Online)
        needed = COLUMN in self.objective.requires or asks_reference(self.recipe.algorithm)
        cached = needed and settings.kind == "cached" and not rolls
        if cached:
            folder = Path(settings.cache) if settings.cache else run / "reference-cache"
            for name in ("train", "heldout"):
                if groups[name]:
                    groups[name] = cached_reference(self.policy, groups[name], packing, folder, self.progress)
        if pace := moves(self.recipe, len(groups["train"])):
            if not needed:
                where = "reference.kind" if settings.kind == "moving" else "algorithm.reference"
                raise RecipeError(f"{type(self.objective).__name__} asks for no reference", where=where)
            self.reference = moving = MovingReference(self.policy, *pace)
            return groups, providers(self.policy, moving, packing), [moving]
        if not asks_live(self.recipe, self.objective):
            return groups, {}, []
        self.reference = live_reference(self.policy)
        return groups, providers(self.policy, self.reference, packing), []

    def _evaluators(self, heldout: Sequence[Group], step: Step) -> list[Evaluator]:
        found: list[Evaluator] = []
        if heldout and rates(self.recipe.algorithm):
            found.append(lambda: held_out_reward(self.rewards, self.sampler(training=False), heldout, self.recipe.seed))
        elif heldout:
            found.append(lambda: _heldout(step, heldout, self.objective, self.judged()))
        if self.records.tasks:
            found.append(self._solve)
        return found

    def judged(self) -> RewardReport | None:
        """What the model, as it is now, makes of the held-out comparisons, if it is a reward model."""
        groups = self.groups["heldout"]
        if not isinstance(self.policy, RewardModel) or not groups:
            return None
        return judge(scored(groups, self.policy.scores(groups, self.recipe.training.packing)))

    def _solve(self) -> Evaluation:
        sampler = self.sampler(training=False)
        result = exact_match(sampler, self.records.tasks, self.encoder, progress=self.progress, seed=self.recipe.seed)
        figures = {"strict": result.strict.value, "flexible": result.flexible.value, "n": float(len(result.rows))}
        figures["truncated"] = result.truncated / len(result.rows)
        return Evaluation({f"exact_match/{k}": v for k, v in figures.items()}, [row.as_dict() for row in result.rows])


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


def _heldout(step: Step, groups: Sequence[Group], objective: Objective, report: RewardReport | None) -> Evaluation:
    figures = {**step.measure([Part(groups, objective)]), **(report.figures if report else {})}
    return Evaluation({**{f"heldout/{k}": v for k, v in figures.items()}, "heldout/n": float(len(groups))})


def _flat(tree: object, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    branches = cast("Mapping[str, object]", tree).items()
    return {k: v for name, sub in branches for k, v in _flat(sub, f"{prefix}.{name}" if prefix else name).items()}
