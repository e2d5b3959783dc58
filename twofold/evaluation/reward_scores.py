"""Scores of the rows' own completions: by a judge, or by a policy's log-probabilities with or without a reference.

A scorer is a judge, `KIND[:ARGUMENT]` (docs/judges.md), or the name of a model. A model's score is its implicit reward
Σ log π − Σ log π_ref of a completion (DPO's without β: arXiv:2305.18290, section 4), without a reference Σ log π.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from twofold.data.readers import rows
from twofold.data.tokenize import TokenizeSettings
from twofold.data.turns import ChatChoice, Turns
from twofold.errors import DataError, RecipeError
from twofold.evaluation.likelihood import grain, likelihoods
from twofold.evaluation.parts import Line, Part
from twofold.evaluation.player_answers import ledger_path
from twofold.judges.base import JudgeKind, JudgeResources, Place
from twofold.judges.questions import Question
from twofold.judges.registry import KINDS, parse_judge
from twofold.ledger import Ledger
from twofold.progress import Progress, Silent, counted
from twofold.records import Candidate, Completion, Demonstration, Prompt, Source
from twofold.rewards.model import open_reward
from twofold.sampling.named_model import open_model

PLACE = Place("evaluate --task rewardbench", ("scores", "shares"))
Numbers = list[list[float]]


@dataclass(frozen=True, slots=True)
class Scored:
    """A row's completions, of which the first `right` are right. `label` has the row's further columns."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    right: int
    source: Source
    label: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """`reference` is the model of implicit rewards; `max_length` the tokens of a prompt with a completion at most, and
    a longer row raises DataError. `style` renders text prompts as data.chat of a recipe. `split` is that of a hub data
    set. `out` has ledger.jsonl, which is required with a server."""

    reference: str | None = None
    rubric: str | None = None
    max_length: int = 4096
    style: ChatChoice = "auto"
    split: str | None = None
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)


def is_judge(name: str) -> bool:
    """Whether a scorer's name is that of a judge, and not of a file or folder."""
    return name.partition(":")[0] in KINDS and not Path(name).exists()


def models_in(names: Sequence[str]) -> list[str]:
    """The local models among scorers, each once. Raises JudgeNameError for a judge that gives no scores."""
    for name in filter(is_judge, names):
        parse_judge(name, PLACE)
    models = [name.partition(":")[2] if name.startswith("reward:") and is_judge(name) else name for name in names]
    return list(dict.fromkeys(model for model in models if not is_judge(model)))


def columns_of(file: str, split: str, columns: Sequence[str], most: int) -> dict[int, dict[str, Any]]:
    """Columns of a file's rows up to row `most`, by row number. Raises DataError for a row without one."""
    found: dict[int, dict[str, Any]] = {}
    for number, row in rows(file, split):
        if not isinstance(row, Mapping):
            continue
        if number > most:
            break
        for column in columns:
            if row.get(column) in (None, ""):
                what, remedy = (
                    f"lacks the field `{column}`",
                    f"the published data have {', '.join(columns)} in each row",
                )
                raise DataError(what, where=f"{file}:{number}", remedy=remedy)
        found[number] = {column: row[column] for column in columns}
    return found


def measure_scores(names: Sequence[str], items: Sequence[Scored], how: ScoreSettings, part: Part) -> dict[str, Line]:
    """The scores of each scorer for every row's completions."""
    judges = {name: parse_judge(name, PLACE) for name in names if is_judge(name)}
    for kind in judges.values():
        for item in items:
            kind.refuse(None, str(item.source))
    if how.reference is not None and len(judges) == len(set(names)):
        remedy = "leave it out, or name a model"
        raise RecipeError("only models have implicit rewards", where="--reference", remedy=remedy)
    found: dict[str, Line] = {}
    bases: dict[ChatChoice, tuple[Numbers, str]] = {}
    with ExitStack() as resources:
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, [*names], resources)))
        for name in dict.fromkeys(names):
            how.progress.note(f"{name}: {counted(len(part.of(items)), 'row')}")
            if name in judges:
                found[name] = _by_judge(name, judges[name], items, how, part, ledger)
                continue
            turns, scores, weights = _by_model(name, items, how, part)
            choice, style = turns.choice, "chat" if turns.renders else "text"
            about: dict[str, Any] = {"score": "log-probability", "style": style}
            if how.reference is not None:
                if choice not in bases:
                    bases[choice] = _by_model(how.reference, items, replace(how, style=choice), part)[1:]
                base, more = bases[choice]
                scores = [[a - b for a, b in zip(s, r, strict=True)] for s, r in zip(scores, base, strict=True)]
                weights += more
                about = {"score": "implicit reward", "reference": how.reference, "style": style}
            found[name] = Line(_lines(name, part.of(items), scores), about, weights)
    return found


def _by_judge(
    name: str, kind: JudgeKind, items: Sequence[Scored], how: ScoreSettings, part: Part, ledger: Ledger
) -> Line:
    if how.rubric is not None and not kind.asks_server:
        raise RecipeError("a rubric goes with llm and llm-score", where=name, remedy="leave --rubric out")
    reward = partial(open_reward, max_length=how.max_length)
    with ExitStack() as resources:
        judge = kind.open(JudgeResources(PLACE, lambda: ledger, reward, how.rubric), resources)

        def work(some: Sequence[Scored]) -> list[dict[str, Any]]:
            questions = [
                Question(item.prompt, item.source, None, tuple(Candidate(c, {}) for c in item.completions))
                for item in some
            ]
            given = judge.scores(questions, how.progress)
            scores = [each for each in given if each is not None]
            if len(scores) < len(some):
                missing = some[[each is None for each in given].index(True)].source
                what = f"{counted(len(some) - len(scores), 'row')} without a verdict"
                raise DataError(
                    what, where=str(missing), remedy="see its reply in ledger.jsonl; choose another judge or rubric"
                )
            return _lines(name, some, scores)

        about = {"score": kind.help(), "judge": dict(judge.provenance), "compares": kind.gives == "shares"}
        return Line(part.rows((name,), items, grain(len(items)), work, ("scores", how.progress)), about)


def _by_model(name: str, items: Sequence[Scored], how: ScoreSettings, part: Part) -> tuple[Turns, Numbers, str]:
    """The prompting of a model, its log-probability of each completion, and a digest of its weights."""
    model = open_model(name, TokenizeSettings(max_length=how.max_length, truncation="refuse"), how.style)
    weights, turns = part.weights(model), model.encoder.turns

    def work(some: Sequence[Scored]) -> list[dict[str, Any]]:
        told = [Demonstration(item.prompt, c, item.source) for item in some for c in item.completions]
        found = iter(likelihoods(model.policy, [model.encoder.group(record) for record in told]))
        return [{"scores": [next(found).logp["completion"] for _ in item.completions]} for item in some]

    bar = ("log-probabilities", how.progress)
    found = part.rows((name, weights, turns.choice), items, grain(len(items)), work, bar)
    return turns, [row["scores"] for row in found], weights


def _lines(name: str, items: Sequence[Scored], scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {"model": name, "name": str(item.source), **item.label, "right": item.right, "scores": list(told)}
        for item, told in zip(items, scores, strict=True)
    ]
