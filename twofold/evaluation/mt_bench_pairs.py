"""`mt-bench --against BASELINE`: both answers of each player against those of a baseline (Zheng et al. 2023,
arXiv:2306.05685, section 3.1, pairwise comparison).

The judge compares both turns in both orders. A player wins where both verdicts are for it; where they differ, it is a
tie. The win rate counts a tie as half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from twofold.errors import RecipeError
from twofold.evaluation.benchmark_matches import (
    BenchmarkSettings,
    MeanScore,
    counts_of,
    lengths_of,
    share_of,
    split_lines,
    subsets_of,
    written,
)
from twofold.evaluation.conversations import Conversation
from twofold.evaluation.figures import Entry, Evaluation
from twofold.evaluation.judging import spend_line
from twofold.evaluation.matches import as_row, open_judge
from twofold.evaluation.parts import Line, Row
from twofold.evaluation.players import Player
from twofold.evaluation.published_rows import MtQuestion
from twofold.judges.matchups import Matchup, Referee
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.ledger import Ledger
from twofold.records import Completion, Message, shown, turns_of

SECOND = "The first question:\n{}\n\nThe second question:\n{}\n\nJudge which answer to the second question is better."
"""The request of a second turn; each answer is the conversation after the first question."""


def check_pair_judge(how: BenchmarkSettings) -> None:
    """Raises RecipeError for another judge than one that compares."""
    kinds = [parse_judge(name, WIN_RATE) for name in how.judges]
    if len(kinds) != 1 or kinds[0].gives != "shares":
        what, remedy = "requires one judge that compares two answers", "write --judge llm:URL#NAME"
        raise RecipeError(what, where="--task mt-bench --against", remedy=remedy)


def compared(
    questions: Sequence[MtQuestion], talks: Mapping[Player, Sequence[Conversation]],
    other: tuple[Player, Sequence[Conversation]], how: BenchmarkSettings, ledger: Ledger,
) -> dict[str, Line]:  # fmt: skip
    """The verdicts on both turns of every player in `talks` against the `other`, a line for each."""
    baseline, theirs = other
    with ExitStack() as resources:
        referee = open_judge(how, ledger, resources)
        found: dict[str, Line] = {}
        for player, own in talks.items():
            rows = _judged(player, questions, (own, theirs), referee, how)
            made = dict(own[0].about) if own else {}
            about = {"judge": dict(referee.provenance), "against": baseline.short, "sampling": made}
            found[player.name] = Line(rows, about, str(made.get("weights", "")))
        return found | spend_line(referee)


def pair_figures(measured: Mapping[str, Line], how: BenchmarkSettings) -> Evaluation:
    """Win rates and tests of what was measured. Raises DataError if a player has no verdict."""
    lines, about = split_lines(measured, how)
    return written("mt-bench", Evaluation.of([_entry(name, line) for name, line in lines.items()]), about, how)


def _judged(
    player: Player, questions: Sequence[MtQuestion],
    talks: tuple[Sequence[Conversation], Sequence[Conversation]], referee: Referee, how: BenchmarkSettings,
) -> list[Row]:  # fmt: skip
    """A row for each question and turn."""
    places = [(question, *both, turn) for question, *both in zip(questions, *talks, strict=True) for turn in (0, 1)]
    matchups = [
        Matchup(_request(q, turn), _answer(q, own, turn), _answer(q, other, turn), q.record.source, q.truth(turn))
        for q, own, other, turn in places
    ]
    results = referee.outcomes(matchups, how.progress)
    return [
        {"model": player.name, "name": str(q.record.source), "source": [q.record.source.file, q.record.source.row],
         "turn": turn + 1, "index": q.index, "subset": q.subset, "prompt": shown(matchup.prompt),
         "own": shown(own.answers[turn].completion), "other": shown(other.answers[turn].completion),
         "cut": own.answers[turn].truncated, "other_cut": other.answers[turn].truncated, **as_row(result)}
        for (q, own, other, turn), matchup, result in zip(places, matchups, results, strict=True)
    ]  # fmt: skip


def _request(question: MtQuestion, turn: int) -> str:
    first = str(question.record.prompt)
    return first if turn == 0 else SECOND.format(first, question.second)


def _answer(question: MtQuestion, talk: Conversation, turn: int) -> Completion:
    first, second = (answer.completion for answer in talk.answers)
    return first if turn == 0 else (*turns_of(first), Message("user", question.second), *turns_of(second))


def _entry(name: str, line: Line) -> Entry:
    rows = line.rows
    turns = {f"turn {turn}": [row for row in rows if row["turn"] == turn] for turn in (1, 2)}
    about: dict[str, Any] = {
        "length": sum(lengths_of(rows, "own")) / len(rows), "other_length": sum(lengths_of(rows, "other")) / len(rows),
        "subsets": {**subsets_of(rows), **_of_turns(turns)}, "sampling": line.about["sampling"],
    }  # fmt: skip
    return Entry(name, {"win_rate": _rate(rows)}, about=about, counts=counts_of(rows), rows=rows)


def _of_turns(turns: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    known = {name: _rate(rows) for name, rows in turns.items() if any(share_of(row) is not None for row in rows)}
    return {name: {"win_rate": rate.estimate().as_dict()} for name, rate in known.items()}


def _rate(rows: Sequence[Row]) -> MeanScore:
    return MeanScore([share_of(row) for row in rows], [row["index"] for row in rows])
