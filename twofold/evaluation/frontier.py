"""`frontier`: the reward of models, of a run's checkpoints and of the best of N, against KL from their reference.

Each is a point: sequence KL(π ‖ π_ref) from its own samples, in both forms of `sampling/divergence.py`, and the mean
reward of the same samples. Points of DPO's figure 2 (arXiv:2305.18290); frontiers and their heights are in `hull.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twofold.client.server import RetrySettings
from twofold.data.turns import ChatChoice, Turns
from twofold.errors import ModelError, RecipeError
from twofold.evaluation.exact_match import CHUNK
from twofold.evaluation.figures import Evaluation
from twofold.evaluation.hull import Point, areas, best_of, measures
from twofold.evaluation.judging import CHECK_LINE, check_figures, check_line
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.rows import Data, rows_of
from twofold.judges.base import Judge, JudgeResources
from twofold.judges.matchups import referee_of
from twofold.judges.questions import Question
from twofold.judges.registry import FRONTIER, parse_judge
from twofold.ledger import Ledger
from twofold.models.locate import is_adapter, model_path
from twofold.models.policy import Policy
from twofold.models.tokenizer_files import load_tokenizer
from twofold.progress import Progress, Silent, counted
from twofold.records import Candidate, Record, Task
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import NamedModel, open_model
from twofold.settings import with_keywords
from twofold.training.checkpoint import Checkpoint

REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class FrontierSettings:
    """`reward` is a judge that scores, KIND[:ARGUMENT] (docs/judges.md). `rubric` is a file with a language model's
    criteria or its whole template, `max_length` a reward model's limit in tokens. `reference` is the reference model of
    KL. `style` renders text prompts like data.chat of a recipe. `judge_pairs` are labeled pairs, on which the reward's
    own accuracy is measured. `retry` is how its server is queried, with prices and limits.

    Each model generates `samples` answers per prompt at temperature 1, with `seed`. The reference generates as many as
    the largest of `best_of`. With `checkpoints`, each checkpoint of a run is a point. `methods` names the method of a
    model if several models are its seeds; other models are their own methods. `out` has the answers of servers, in
    ledger.jsonl.
    """

    reward: str
    reference: str
    best_of: Sequence[int] = ()
    checkpoints: bool = False
    methods: Mapping[str, str] = field(default_factory=dict[str, str])
    samples: int = 1
    seed: int = 0
    max_new_tokens: int = 256
    max_length: int = 4096
    rubric: str | None = None
    judge_pairs: str | None = None
    retry: RetrySettings = field(default_factory=RetrySettings)
    style: ChatChoice = "auto"
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)


@with_keywords(FrontierSettings)
def frontier(models: Sequence[str], data: Data, how: FrontierSettings) -> Evaluation:
    """Points of (KL in nats, reward) with bootstrap intervals over prompts, and the height of each method's frontier.

    `models` are folders, run directories or hub names; `data` are prompts, with answers for a verifier, each used once.
    `rows` has every prompt of every point. Raises RecipeError for a name that is no reward, ModelError for an answer
    without one, or a model with another vocabulary than the reference.
    """
    return frontier_figures(measure_frontier(models, prompts_of(rows_of(data, "frontier")), how, WHOLE), how)


def prompts_of(records: Sequence[Record]) -> list[Record]:
    """The first row of each prompt, in their order."""
    firsts: dict[str, Record] = {}
    for record in records:
        firsts.setdefault(str(record.prompt), record)
    return list(firsts.values())


def measure_frontier(
    models: Sequence[str], firsts: Sequence[Record], how: FrontierSettings, part: Part
) -> dict[str, Line]:
    """Of every prompt the KL and the rewards of its samples, from the reference and from each model."""
    checkpoints = [c for model in dict.fromkeys(models) for c in _checkpoints(model, how)]
    number = counted(len(part.of(firsts)), "prompt")
    with ExitStack() as resources:
        measure = _Measure(how, firsts, _open_rater(how, part, resources), part)
        how.progress.note(f"{how.reference}: {number}, the reference")
        reference = open_model(how.reference, chat=_common_choice(models, how.style))
        origin = reference.policy
        judge = {"judge": dict(measure.judge.provenance)}
        found = {REFERENCE: measure.line(reference, (origin, None), max([how.samples, *how.best_of]), judge)}
        for checkpoint in checkpoints:
            how.progress.note(f"{checkpoint.name}: {number}")
            model = checkpoint.open(how.style)
            told = {"model": checkpoint.model, "step": checkpoint.step}
            found[f"of {checkpoint.name}"] = measure.line(model, (model.policy, origin), how.samples, told)
        return found | check_line(how, referee_of(parse_judge(how.reward, FRONTIER), measure.judge), part)


def frontier_figures(measured: Mapping[str, Line], how: FrontierSettings) -> Evaluation:
    """Points and frontiers of what was measured."""
    first = measured[REFERENCE]
    base, scores = Point.of(first.rows), [row["scores"] for row in first.rows]
    points = {
        ModelCheckpoint(**line.about): Point.of(line.rows)
        for name, line in measured.items()
        if name not in (REFERENCE, CHECK_LINE)
    }
    figures: dict[str, Any] = {
        "reward": dict(first.about["judge"]), "reference": base.as_dict(), "prompts": len(first.rows),
        "samples": how.samples, "seed": how.seed, "max_new_tokens": how.max_new_tokens,
        "points": [{"model": c.model, "step": c.step, **x.as_dict()} for c, x in points.items()],
    }  # fmt: skip
    methods: dict[str, dict[str, list[Point]]] = {}
    for c, x in points.items():
        methods.setdefault(how.methods.get(c.model, c.model), {}).setdefault(c.model, []).append(x)
    heights = areas(base, {name: list(seeds.values()) for name, seeds in methods.items()})
    figures |= {} if heights is None else {"areas": heights.as_dict()}
    figures |= {"best_of": best_of(scores, how.best_of)} if how.best_of else {}
    figures |= check_figures(measured.get(CHECK_LINE), how)
    every = [(REFERENCE, base), *((c.name, x) for c, x in points.items())]
    return Evaluation(figures, [row for name, x in every for row in x.rows(name)])


@dataclass(frozen=True)
class ModelCheckpoint:
    """A model, or a run at one of its checkpoints."""

    model: str
    step: int | None = None

    @property
    def name(self) -> str:
        return self.model if self.step is None else f"{self.model}, step {self.step}"

    def open(self, style: ChatChoice) -> NamedModel:
        """The model, at the weights of its checkpoint."""
        opened = open_model(self.model, chat=style)
        if self.step is not None:
            folder = Path(self.model) / "checkpoints" / f"step-{self.step}"
            weights = Checkpoint.open(folder).tensors("policy")
            stray = opened.loaded.model.load_state_dict(weights, strict=False).unexpected_keys
            if stray:
                what, remedy = (
                    f"holds weights that the run's model has not ({stray[0]})",
                    "choose another step of this run",
                )
                raise ModelError(what, where=str(folder), remedy=remedy)
        return opened


@dataclass(frozen=True)
class _Measure:
    """Shared by all points: the prompts' records and the judge."""

    how: FrontierSettings
    records: Sequence[Record]
    judge: Judge
    part: Part

    def line(
        self, model: NamedModel, policies: tuple[Policy, Policy | None], samples: int, about: Mapping[str, Any]
    ) -> Line:
        """The rows of a model, one per prompt. Its policy comes before the reference's."""
        sampler = model.sampler(Sampling(max_new_tokens=self.how.max_new_tokens), self.how.progress.note)
        weights = self.part.weights(model)

        def work(some: Sequence[Record]) -> list[dict[str, Any]]:
            prompts = [model.encoder.prompt(record.prompt) for record in some]
            completions = sampler.sample(prompts, samples=samples, seed=(self.how.seed, 0))
            texts = [[model.encoder.text(d.tokens) for d in several] for several in completions]
            return measures(*policies, prompts, completions, self._scored(some, texts))

        name = (model.name, str(about.get("step")), weights, str(samples))
        rows = self.part.rows(name, self.records, CHUNK, work, ("prompts", self.how.progress))
        return Line(rows, about, weights)

    def _scored(self, records: Sequence[Record], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Rewards of answers to each prompt; raises ModelError where one is missing."""
        questions = [
            Question(
                r.prompt, r.source, r.answer if isinstance(r, Task) else None, tuple(Candidate(t, {}) for t in row)
            )
            for r, row in zip(records, texts, strict=True)
        ]
        found = [row for row in self.judge.scores(questions, self.how.progress) if row is not None]
        if len(found) < len(questions):
            remedy = "run the same command again: only what is missing is asked for"
            raise ModelError(f"{len(questions) - len(found)} answers have no reward", where="--reward", remedy=remedy)
        return found


def _common_choice(models: Sequence[str], style: ChatChoice) -> ChatChoice:
    """How prompts are rendered for the reference: as in the training of all models, if that is the same."""
    choices: set[ChatChoice] = {Turns(load_tokenizer(model_path(model)), style).choice for model in models}
    return choices.pop() if len(choices) == 1 else style


def _open_rater(how: FrontierSettings, part: Part, resources: ExitStack) -> Judge:
    kind, path = parse_judge(how.reward, FRONTIER), (how.out or Path()) / "ledger.jsonl"
    if how.out is None and part.ledger is None and kind.asks_server:
        raise RecipeError("no folder for a server's answers", where="--reward", remedy="add --out FOLDER")
    reward = partial(open_reward, max_length=how.max_length)
    with_ledger = JudgeResources(
        FRONTIER, lambda: part.ledger or resources.enter_context(Ledger(path)), reward, how.rubric, how.retry
    )
    return kind.open(with_ledger, resources)


def _checkpoints(model: str, how: FrontierSettings) -> list[ModelCheckpoint]:
    """The model; with `checkpoints` each whole checkpoint of a run before it."""
    folder = Path(model) / "checkpoints"
    if not how.checkpoints or not folder.is_dir():
        return [ModelCheckpoint(model)]
    if is_adapter(Path(model) / "model"):
        remedy = "leave out --checkpoints, or save runs of several lengths"
        raise RecipeError("checkpoints of adapters are not read", where=model, remedy=remedy)
    steps = sorted(Checkpoint.open(path).step for path in folder.glob("step-*[0-9]"))
    return [ModelCheckpoint(model, step) for step in steps]
