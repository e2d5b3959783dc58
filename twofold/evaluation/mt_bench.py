"""`mt-bench`: 80 questions of two turns, each answer scored from 1 to 10 by a judge (Zheng et al. 2023,
arXiv:2306.05685).

The second question follows the player's own first answer. The judge reads the conversation before the answer that it
scores, and the reference answers if there are some. `mt_bench_pairs.py` compares with a baseline instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from twofold.errors import DataError, RecipeError
from twofold.evaluation.benchmark_matches import NOTE, BenchmarkSettings, MeanScore
from twofold.evaluation.conversations import Conversation, conversations
from twofold.evaluation.figures import Entry, Evaluation
from twofold.evaluation.judging import SPEND_LINE, spend_figures
from twofold.evaluation.mt_bench_pairs import check_pair_judge, compared, pair_figures
from twofold.evaluation.parts import WHOLE, Line, Part, Row
from twofold.evaluation.player_answers import AnswerBook, Drawing, ledger_path
from twofold.evaluation.players import REFERENCE, Player, parse_player, parse_players
from twofold.evaluation.prompting import Prompter
from twofold.evaluation.published_rows import MtQuestion, load, mt_questions
from twofold.judges.base import Judge, JudgeKind, JudgeResources, Place
from twofold.judges.questions import Question
from twofold.judges.registry import parse_judge
from twofold.ledger import Ledger
from twofold.progress import counted
from twofold.records import Message, Task, shown, turns_of
from twofold.rewards.model import open_reward
from twofold.settings import with_keywords

NAME = "mt-bench"
PLACE = Place("evaluate --task mt-bench --judge", ("scores",))
TURNS = 2


@dataclass(frozen=True, kw_only=True)
class MtBenchSettings(BenchmarkSettings):
    """`judge` is one judge that scores; with a baseline `against`, one that compares. A player without a temperature
    has those of the categories: 0.7 for writing and roleplay, 0.1 for stem and humanities, 0 for the others."""

    max_new_tokens: int = 1024


@with_keywords(MtBenchSettings)
def mt_bench(models: Sequence[str], data: str, how: MtBenchSettings) -> Evaluation:
    """MT-Bench's mean score of each player: of the first turns, of the second ones, of both, and of each category. With
    `against`, its win rate against that player.

    `models` are players (docs/evaluation.md); `data` is the published question.jsonl. Means have Student's interval
    over questions, every two players sign flips per mean with Holm's correction. Raises DataError for a row without two
    turns, RecipeError for a judge that gives no scores, ServerError for answers that are missing.
    """
    return mt_bench_figures(measure_mt_bench(models, mt_questions(load(NAME, data).records), how, WHOLE), how)


def measure_mt_bench(
    models: Sequence[str], questions: Sequence[MtQuestion], how: MtBenchSettings, part: Part
) -> dict[str, Line]:
    """Both answers of each player to every question, with their scores."""
    if how.against is not None:
        return _measure_pairs(models, questions, how, part)
    kind, players = _judge_kind(how), parse_players(models)
    _refuse(players)
    some = part.of(questions)
    with ExitStack() as resources:
        names = (*how.judges, *(player.name for player in players))
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        common = JudgeResources(PLACE, lambda: ledger, partial(open_reward, max_length=how.max_length),
                                how.rubric, how.retry)  # fmt: skip
        kind.check(common)
        for question in questions:
            kind.refuse(question.truth(0), str(question.record.source))
        told = _talks(_book(questions, how, ledger, resources), some, players)
        judge = kind.open(common, resources)
        found: dict[str, Line] = {}
        for player in players:
            rows = _scored(player, some, told[player], judge, how)
            how_made = dict(told[player][0].about) if told[player] else {}
            about = {"judge": dict(judge.provenance), "sampling": how_made}
            found[player.name] = Line(rows, about, str(how_made.get("weights", "")))
        if kind.asks_server:
            found[SPEND_LINE] = Line([judge.model.spend])  # type: ignore[attr-defined]  # judges behind servers have one
        return found


def _measure_pairs(
    models: Sequence[str], questions: Sequence[MtQuestion], how: MtBenchSettings, part: Part
) -> dict[str, Line]:
    """Both answers of each player to every question, with the verdicts on them and the baseline's."""
    check_pair_judge(how)
    baseline, players = parse_player(str(how.against)), parse_players(models)
    every = list(dict.fromkeys([*players, baseline]))
    _refuse(every)
    with ExitStack() as resources:
        names = (*how.judges, *(player.name for player in every))
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        talks = _talks(_book(questions, how, ledger, resources), part.of(questions), every)
        own = {player: talks[player] for player in players if player != baseline} or {baseline: talks[baseline]}
        return compared(part.of(questions), own, (baseline, talks[baseline]), how, ledger)


def _talks(
    book: AnswerBook, questions: Sequence[MtQuestion], players: Sequence[Player]
) -> dict[Player, list[Conversation]]:
    """The conversations of all players, so that each model is loaded once."""
    book.check([player for player in players if player.kind != "file"])
    models_in_order = list(dict.fromkeys(player.model for player in players))
    in_order = sorted(players, key=lambda player: models_in_order.index(player.model))
    return {player: conversations(book, questions, player) for player in in_order}


def mt_bench_figures(measured: Mapping[str, Line], how: MtBenchSettings) -> Evaluation:
    """Means and tests of what was measured. Raises DataError if a player has no score."""
    if how.against is not None:
        return pair_figures(measured, how)
    lines = dict(measured)
    spend = spend_figures(lines.pop(SPEND_LINE, None))
    missing = sum(score is None for line in lines.values() for row in line.rows for score in row["scores"])
    if missing:
        how.progress.warn(f"{counted(missing, 'answer')} without a score are left out of n")
    entries = [_entry(name, line) for name, line in lines.items()]
    found = Evaluation.of(entries)
    about = {
        "benchmark": NAME, "judge": dict(next(iter(lines.values())).about["judge"]), "seed": how.seed,
        "max_new_tokens": how.max_new_tokens, "rubric": how.rubric, "note": NOTE,
    }  # fmt: skip
    return Evaluation({**about, **spend, **found.figures}, found.rows)


def _judge_kind(how: MtBenchSettings) -> JudgeKind:
    if len(how.judges) != 1:
        what, remedy = "requires one judge: scores of a panel have no majority", "write --judge llm-score:URL#NAME"
        raise RecipeError(what, where="--task mt-bench", remedy=remedy)
    name = how.judges[0]
    kind = parse_judge(name, PLACE)
    if how.rubric is not None and not kind.asks_server:
        raise RecipeError("a rubric goes with llm-score", where=f"judge {name}", remedy="leave --rubric out")
    return kind


def _refuse(players: Sequence[Player]) -> None:
    for player in players:
        if player.kind == REFERENCE or player.shots:
            what = f"{player.name} has no meaning here"
            remedy = "MT-Bench has no answers to measure and no worked examples"
            raise RecipeError(what, where="--task mt-bench", remedy=remedy)


def _book(questions: Sequence[MtQuestion], how: MtBenchSettings, ledger: Ledger, resources: ExitStack) -> AnswerBook:
    asked = [Question(q.record.prompt, q.record.source) for q in questions]
    prompter = Prompter([Task(q.prompt, "", q.source) for q in asked], style=how.style, seed=how.seed, any_rows=True)
    drawing = Drawing(seed=how.seed, max_new_tokens=how.max_new_tokens, max_length=how.max_length, style=how.style,
                      progress=how.progress)  # fmt: skip
    return AnswerBook(asked, prompter, drawing, ledger, resources)


def _scored(
    player: Player, questions: Sequence[MtQuestion], told: Sequence[Conversation], judge: Judge, how: MtBenchSettings
) -> list[Row]:
    """A row for each question. Both turns are scored, each with the conversation before it."""
    asked = [
        Question(_before(question, talk, turn), question.record.source, question.truth(turn), (talk.answers[turn],))
        for question, talk in zip(questions, told, strict=True)
        for turn in range(TURNS)
    ]
    scores = [None if each is None else each[0] for each in judge.scores(asked, how.progress)]
    return [
        {"model": player.name, "name": str(question.record.source), "prompt": question.record.prompt,
         "second": question.second, "index": question.index, "subset": question.subset,
         "completions": [shown(answer.completion) for answer in talk.answers], "scores": scores[2 * i : 2 * i + 2],
         "temperature": talk.temperature, "truncated": [answer.truncated for answer in talk.answers]}
        for i, (question, talk) in enumerate(zip(questions, told, strict=True))
    ]  # fmt: skip


def _before(question: MtQuestion, talk: Conversation, turn: int) -> Any:
    first = str(question.record.prompt)
    if turn == 0:
        return first
    return (Message("user", first), *turns_of(talk.answers[0].completion), Message("user", question.second))


def _entry(name: str, line: Line) -> Entry:
    rows, indices = line.rows, [row["index"] for row in line.rows]
    turns = [[row["scores"][turn] for row in rows] for turn in range(TURNS)]
    if not any(score is not None for several in turns for score in several):
        raise DataError("has no score", where=name, remedy="see the judge's replies in ledger.jsonl, or its rubric")
    measures = {f"turn_{turn + 1}": MeanScore(turns[turn], indices) for turn in range(TURNS)}
    measures["average"] = MeanScore([*turns[0], *turns[1]], [*indices, *indices])
    subsets: dict[str, Any] = {}
    for subset in dict.fromkeys(row["subset"] for row in rows):
        own = [(row["index"], score) for row in rows if row["subset"] == subset for score in row["scores"]]
        if any(score is not None for _, score in own):
            measure = MeanScore([score for _, score in own], [index for index, _ in own])
            subsets[subset] = {"average": measure.estimate().as_dict()}
    counts = {
        "missing": sum(score is None for several in turns for score in several),
        "truncated": sum(sum(row["truncated"]) for row in rows),
    }
    known = {metric: m for metric, m in measures.items() if any(score is not None for score in m.scores)}
    return Entry(name, known, about={"subsets": subsets, "sampling": line.about["sampling"]}, counts=counts, rows=rows)
