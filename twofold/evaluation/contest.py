"""`contest`: every two players meet on every prompt. A table of Bradley–Terry scores, and a paired test of each two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from twofold.errors import DataError, RecipeError
from twofold.evaluation.bradley_terry import Match, Scores, bradley_terry
from twofold.evaluation.figures import Evaluation, corrected
from twofold.evaluation.games import Game, Shares, summary
from twofold.evaluation.judge_figures import by_judge, panel
from twofold.evaluation.judging import (
    CHECK_LINE,
    SPEND_LINE,
    check_figures,
    check_line,
    spend_figures,
    spend_line,
)
from twofold.evaluation.matches import (
    MatchSettings,
    ModelGames,
    is_by_people,
    meet,
    open_book,
    open_judge,
    rows_of_games,
    write_comparisons,
)
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.player_answers import ledger_path
from twofold.evaluation.players import parse_players
from twofold.evaluation.rows import Data, rows_of
from twofold.ledger import Ledger
from twofold.progress import counted
from twofold.records import Record
from twofold.settings import with_keywords


@dataclass(frozen=True)
class ContestSettings(MatchSettings):
    """Players without a temperature of their own are greedy; best-of-N samples at 1."""


@with_keywords(ContestSettings)
def contest(models: Sequence[str], data: Data, how: ContestSettings) -> Evaluation:
    """Bradley–Terry scores of players, each of which meets every other one on the prompts of `data`.

    `models` are players (docs/evaluation.md). A tie is half a win. Scores have bootstrap intervals over prompts, and
    mean 0. Every two players have a win rate as of `win_rate`, and sign flips over prompts, with Holm's correction over
    all. `rows` has every match. Raises RecipeError for fewer than two players, and the errors of `win_rate`.
    """
    return contest_figures(measure_contest(models, rows_of(data, "contest"), how, WHOLE), how)


def measure_contest(
    models: Sequence[str], records: Sequence[Record], how: ContestSettings, part: Part
) -> dict[str, Line]:
    """Every match of every two players, with what came of it."""
    people_judge = is_by_people(how, part)
    players = list(dict.fromkeys(player.at(0.0) for player in parse_players(models)))
    if len(players) < 2:
        what = f"a contest has two players or more, here is {counted(len(players), 'player')}"
        remedy = "name another one, such as `reference` for the rows' own answers"
        raise RecipeError(what, where="--task contest", remedy=remedy)
    with ExitStack() as resources:
        names = (*how.judges, *(player.name for player in players))
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        book = open_book(records, part, how, ledger, resources)
        book.check(players)
        referee = None if people_judge else open_judge(how, ledger, resources)
        book.draw(players)
        drawn = {(a.name, b.name): meet(book, a, b, how.judges) for a, b in combinations(players, 2)}
        every = [matchup for each in drawn.values() for matchup in each.matchups]
        if part is WHOLE:
            write_comparisons(every, how)
        referee = referee or open_judge(how, ledger, resources)
        results = iter(referee.outcomes(every, how.progress))
        weights = "/".join(book.weights(player) for player in players)
        judge = dict(referee.provenance)
        check = check_line(how, referee, part) | spend_line(referee)
        return {
            f"{a} against {b}": Line(
                each.judged([next(results) for _ in each.matchups]),
                {"judge": judge, "model": a, "other": b, "temperature": None},
                weights,
            )
            for (a, b), each in drawn.items()
        } | check


def contest_figures(measured: Mapping[str, Line], how: ContestSettings) -> Evaluation:
    """Scores, rates and tests of what was measured."""
    lines = dict(measured)
    check = check_figures(lines.pop(CHECK_LINE, None), how, how.judges) | spend_figures(lines.pop(SPEND_LINE, None))
    played = {(line.about["model"], line.about["other"]): ModelGames.of(line.rows, line.about)
              for line in lines.values()}  # fmt: skip
    names = list(dict.fromkeys(name for both in played for name in both))
    games = {both: each.games for both, each in played.items()}
    write_comparisons([m for each in played.values() for m in each.matchups], how)
    if not any(games.values()):
        raise DataError("no match has a verdict", where="--judge", remedy="label some of OUT/comparisons.jsonl first")
    places = {name: i for i, name in enumerate(names)}
    scores = bradley_terry(
        [Match(places[a], places[b], g.prompt, g.share) for (a, b), several in games.items() for g in several],
        len(names),
    )
    missing = {both: len(each.matchups) - len(games[both]) for both, each in played.items()}
    cut = {b: each.other_truncated for (_, b), each in played.items()}
    cut |= {a: each.truncated for (a, _), each in played.items()}
    judge = dict(next(iter(lines.values())).about["judge"])
    figures = {
        "judge": judge, "samples": how.samples, "seed": how.seed, "max_new_tokens": how.max_new_tokens,
        "players": _table(games, scores, names, cut),
        "matches": [{"a": a, "b": b, **summary(several), "missing": missing[a, b],
                     **({"judges": each} if (each := by_judge(how.judges, several)) else {})}
                    for (a, b), several in games.items() if several],
        "comparisons": _tests(games), **check,
    }  # fmt: skip
    if (together := panel(how.judges, [game for several in games.values() for game in several])) is not None:
        figures["panel"] = together
    _warn(scores, sum(missing.values()), how)
    rows = [
        {"a": a, "b": b, **{k: v for k, v in row.items() if k not in ("model", "temperature")}}
        for (a, b), each in played.items() for row in rows_of_games(each)
    ]  # fmt: skip
    return Evaluation(figures, rows)


Games = Mapping[tuple[str, str], Sequence[Game]]
SHARES = {"wins": 1.0, "ties": 0.5, "losses": 0.0}


def _table(games: Games, scores: Scores, names: Sequence[str], cut: Mapping[str, int]) -> list[dict[str, Any]]:
    """A line for each player, the best first within a group."""
    lines: list[dict[str, Any]] = []
    for name, score, group in zip(names, scores.estimates, scores.groups, strict=True):
        own = [g if a == name else _turned(g) for (a, b), several in games.items() if name in (a, b) for g in several]
        counts = {word: sum(g.share == share for g in own) for word, share in SHARES.items()}
        length = sum(g.length for g in own) / len(own) if own else 0.0
        lines.append({
            "name": name, "score": score.as_dict(), "rate": Shares(own).estimate().as_dict(), **counts,
            "length": length, "truncated": cut[name], "group": group,
        })  # fmt: skip
    return sorted(lines, key=lambda line: (line["group"], -line["score"]["value"]))


def _tests(games: Games) -> list[dict[str, Any]]:
    """The share of b minus that of a in their own matches."""
    tests: list[dict[str, Any]] = []
    for (a, b), several in games.items():
        tested = Shares(several).against(Shares([replace(g, share=1 - g.share) for g in several]))
        if tested is not None:
            tests.append({"a": a, "b": b, "metric": "win rate", **tested.as_dict()})
    return corrected(tests)


def _turned(game: Game) -> Game:
    """The game as the other side sees it."""
    return replace(game, share=1 - game.share, length=game.other, other=game.length, orders=None)


def _warn(scores: Scores, missing: int, how: ContestSettings) -> None:
    if missing:
        how.progress.warn(f"{counted(missing, 'contest')} without a verdict are left out of n")
    if not scores.is_connected:
        how.progress.warn(
            f"{len(set(scores.groups))} groups of players never meet: scores can be compared only within a group"
        )
