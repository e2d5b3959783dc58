"""`twofold evaluate --task frontier`: reward against KL, of runs, their checkpoints, and the best of N."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli.build import open_reward
from twofold.cli.model import is_adapter, open_model
from twofold.cli.run_files import is_run, keep, short
from twofold.cli.terminal import counted, results, table
from twofold.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from twofold.cli.evaluate_options import Options
    from twofold.cli.evaluate_tables import EvaluationOutput
    from twofold.data.tokenize import Encoder
    from twofold.evaluation.frontier import Point
    from twofold.judges.scoring import Judge
    from twofold.models.load import LoadedModel
    from twofold.models.policy import Policy
    from twofold.progress import Progress
    from twofold.records import Record

REFERENCE = "reference"


@dataclass(frozen=True)
class Place:
    """A model, or a run at one of its checkpoints."""

    model: str
    step: int | None = None

    @property
    def name(self) -> str:
        return self.model if self.step is None else f"{self.model}, step {self.step}"


@dataclass(frozen=True)
class Ground:
    """What all points share: the prompts' records, the judge, the reference."""

    options: Options
    records: Sequence[Record]
    judge: Judge
    reference: Policy
    progress: Progress

    def scored(self, texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Rewards of answers to each prompt; raises ModelError where one is missing."""
        from twofold.judges.questions import Candidate, Question
        from twofold.records import Task

        questions = [
            Question(
                r.prompt, r.source, r.answer if isinstance(r, Task) else None, tuple(Candidate(t, {}) for t in row)
            )
            for r, row in zip(self.records, texts, strict=True)
        ]
        found = [row for row in self.judge.scores(questions, self.progress) if row is not None]
        if len(found) < len(questions):
            remedy = "run the same command again: only what is missing is asked for"
            raise ModelError(f"{len(questions) - len(found)} answers have no reward", where="--reward", remedy=remedy)
        return found


def measured(
    given: Options, records: Sequence[Record], progress: Progress
) -> tuple[dict[str, Any], Callable[[], EvaluationOutput]]:
    """What the figures are of, and what shows them."""
    sizes = [] if given.best_of is None else _sizes(given.best_of)
    name = given.reference or _reference(given)
    firsts = list({str(r.prompt): r for r in reversed(records)}.values())[::-1]
    places = [place for model in dict.fromkeys(given.models) for place in _places(given, model)]
    with ExitStack() as resources:
        judge = _judge(given, resources)
        reference, encoder, loaded = _load(Place(name))
        ground = Ground(given, firsts, judge, reference, progress)
        progress.note(f"{name}: {counted(len(firsts), 'prompt')}, the reference")
        base, scores = _point(ground, (reference, encoder, loaded), max([given.samples or 1, *sizes]), moved=False)
        points: dict[Place, Point] = {}
        for place in places:
            progress.note(f"{place.name}: {counted(len(firsts), 'prompt')}")
            points[place], _ = _point(ground, _load(place), given.samples or 1, moved=True)
    about: dict[str, Any] = {
        "task": given.task, "reward": dict(judge.provenance), "reference": name, "prompts": len(firsts),
        "samples": given.samples or 1, "seed": given.seed, "max_new_tokens": given.max_new_tokens,
    }  # fmt: skip
    return about, lambda: _summarize(given, base, points, (scores, sizes))


def _judge(given: Options, resources: ExitStack) -> Judge:
    """The reward of this name; a folder's name alone is a reward model."""
    from twofold.judges.registry import KINDS, JudgeResources, judge_kind, open_judge
    from twofold.ledger import Ledger

    if given.reward is None:
        remedy = "as --reward FOLDER, verifier:flexible or llm-score:URL#NAME"
        raise RecipeError("nothing says what is gained", where="--task frontier", remedy=remedy)
    name = given.reward if given.reward.partition(":")[0] in KINDS else f"reward:{given.reward}"
    if given.out is None and name.startswith("llm-score"):
        raise RecipeError("nowhere to keep what a server answers", where="--reward", remedy="add --out FOLDER")
    ledger = None if given.out is None else given.out / "ledger.jsonl"
    reward = partial(open_reward, max_length=given.max_length)
    try:
        if judge_kind(name)[0] == "llm":
            raise ValueError("llm compares answers and gives no reward; llm-score:URL#NAME does")
        means = JudgeResources(reward, lambda: resources.enter_context(Ledger(ledger or Path())), given.rubric)
        return open_judge(name, means, resources)
    except ValueError as error:
        raise RecipeError(str(error), where="--reward") from None


def _reference(given: Options) -> str:
    """The model that every run's recipe begins with."""
    from twofold.config.load import load_recipe

    recipes = [Path(model) / "resolved.yaml" for model in given.models]
    named = {str(load_recipe(r, []).data["model"]["path"]) for r in recipes if r.is_file()}
    if len(named) != 1 or not all(r.is_file() for r in recipes):
        what = "the runs began with different models" if len(named) > 1 else "nothing says what KL is from"
        raise RecipeError(what, where="--task frontier", remedy="name the model: --reference MODEL")
    return named.pop()


def _places(given: Options, model: str) -> list[Place]:
    """The model; with --checkpoints each whole checkpoint of a run before it."""
    from twofold.training.checkpoint import Checkpoint

    folder = Path(model) / "checkpoints"
    if not given.checkpoints or not folder.is_dir():
        return [Place(model)]
    if is_adapter(Path(model) / "model"):
        remedy = "leave out --checkpoints, or save runs of several lengths"
        raise RecipeError("checkpoints of adapters are not read", where=model, remedy=remedy)
    steps = sorted(Checkpoint.open(path).step for path in folder.glob("step-*[0-9]"))
    return [Place(model, step) for step in steps]


def _load(place: Place) -> tuple[Policy, Encoder, LoadedModel]:
    """A model of its own, at the weights of its checkpoint."""
    from twofold.models.load import ModelSettings, wrap
    from twofold.training.checkpoint import Checkpoint

    loaded, encoder = open_model(place.model)
    if place.step is not None:
        folder = Path(place.model) / "checkpoints" / f"step-{place.step}"
        stray = loaded.model.load_state_dict(Checkpoint.open(folder).tensors("policy"), strict=False).unexpected_keys
        if stray:
            raise ModelError(f"holds weights that the run's model has not ({stray[0]})", where=str(folder))
    policy, _ = wrap(ModelSettings(path=place.model), loaded.model, loaded.tokenizer)
    return policy, encoder, loaded


def _point(
    ground: Ground, held: tuple[Policy, Encoder, LoadedModel], samples: int, *, moved: bool
) -> tuple[Point, list[list[float]]]:
    """The point of a model, and the rewards of its samples."""
    from twofold.evaluation.frontier import point
    from twofold.sampling.base import Sampling
    from twofold.sampling.local import LocalSampler

    policy, encoder, loaded = held
    sampling = Sampling(max_new_tokens=ground.options.max_new_tokens)
    sampler = LocalSampler(policy.model, loaded.tokenizer, loaded.stop_tokens, sampling, ground.progress.note)
    prompts = [encoder.prompt(record.prompt) for record in ground.records]
    drafts = sampler.sample(prompts, samples=samples, seed=(ground.options.seed, 0))
    scores = ground.scored([[encoder.text(d.tokens) for d in several] for several in drafts])
    if moved:
        return point(policy, ground.reference, prompts, drafts, scores), scores
    return point(policy, None, prompts, drafts, scores), scores


def _summarize(
    given: Options, base: Point, points: dict[Place, Point], drawn: tuple[Sequence[Sequence[float]], Sequence[int]]
) -> EvaluationOutput:
    """The figures once shown and written to the runs, and every prompt of every point."""
    from twofold.evaluation.frontier import areas, best_of

    told: dict[str, Any] = {
        REFERENCE: base.as_dict(),
        "points": [{"model": p.model, "step": p.step, **x.as_dict()} for p, x in points.items()],
    }
    of_methods = areas(base, _methods(points))
    if of_methods is not None:
        told["areas"] = of_methods.as_dict()
    scores, sizes = drawn
    if sizes:
        told["best_of"] = best_of(scores, sizes)
    _show(told)
    for model in dict.fromkeys(given.models):
        if is_run(model):
            own = [{"model": p.model, "step": p.step, **x.as_dict()} for p, x in points.items() if p.model == model]
            rows = [{"model": REFERENCE, **base.as_dict()}, *own]
            of = short(str(given.reward))
            keep(Path(model) / "frontier.json", [{"of": of, **row} for row in rows], "of")
    every = [(REFERENCE, base), *((place.name, x) for place, x in points.items())]
    return told, [
        {"model": name, "prompt": i + 1, "kl": x.kl[i], "kl_drawn": x.drawn[i], "reward": x.reward[i]}
        for name, x in every
        for i in range(len(x.reward))
    ]


def _methods(points: dict[Place, Point]) -> dict[str, list[list[Point]]]:
    """By the first run of each method, the points of its seeds: runs that differ in nothing but the seed."""
    from twofold.reports.provenance import methods
    from twofold.reports.run import read_run

    models = list(dict.fromkeys(place.model for place in points))
    own = {model: [x for place, x in points.items() if place.model == model] for model in models}
    runs = [model for model in models if is_run(model)]
    firsts = methods([read_run(Path(run)) for run in runs])
    first = {run: runs[at] for run, at in zip(runs, firsts, strict=True)}
    found: dict[str, list[list[Point]]] = {}
    for model in models:
        found.setdefault(first.get(model, model), []).append(own[model])
    return found


def _sizes(asked: str) -> list[int]:
    try:
        found = sorted({int(n) for n in asked.split(",")})
    except ValueError:
        raise RecipeError(f"{asked!r} is no list of numbers", where="--best-of", remedy="write 2,4,8,16") from None
    if found[0] < 1:
        raise RecipeError("must be ≥ 1", where="--best-of")
    return found


def _show(told: dict[str, Any]) -> None:
    from twofold.reports.tables import number, p_value

    def figure(row: dict[str, Any]) -> tuple[str, str]:
        return number(row["value"]), f"{number(row['low'])} … {number(row['high'])}"

    out = results()
    rows = table("model", "#step", "#n", "#KL, nats", "95% interval", "#KL, drawn", "95% interval", "#reward",
                 "95% interval")  # fmt: skip
    for x in ({"model": REFERENCE, "step": None, **told[REFERENCE]}, *told["points"]):
        step = "" if x["step"] is None else str(x["step"])
        figures = (*figure(x["kl"]), *figure(x["kl_drawn"]), *figure(x["reward"]))
        rows.add_row(x["model"], step, str(x["reward"]["n"]), *figures)
    for x in told.get("best_of", ()):
        reward = figure(x["reward"])
        rows.add_row(f"best of {x['n']}", "", str(x["reward"]["n"]), f"≤ {x['kl_at_most']:.3f}", "", "", "", *reward)
    out.print(rows, markup=False)
    if "areas" in told:
        over = told["areas"]
        rows = table("frontier", "#seeds", "#mean height", "95% interval")
        for name, height in over["heights"].items():
            rows.add_row(name, str(height["n"]), *figure(height))
        out.print(rows, markup=False)
        if over["comparisons"]:
            rows = table("a", "b", "#b − a", "95% interval", "#p")
            for c in over["comparisons"]:
                rows.add_row(c["a"], c["b"], *figure(c["difference"]), p_value(c["p_value"]))
            out.print(rows, markup=False)
        out.print(f"height above the reference, mean up to {over['limit']:.3g} nats", markup=False, style="dim")
