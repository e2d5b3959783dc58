"""`win_rate`: how often a judge prefers a model's answers to others, by temperature, and how reliable the judge is.

The statistics are those of `games.py`. Temperatures as in the DPO paper (arXiv:2305.18290, section 6); the canary is a
null model (arXiv:2410.07137).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from twofold.errors import DataError
from twofold.evaluation.figures import Evaluation, corrected
from twofold.evaluation.games import HIGH, Agreement, Shares, agreement, summary
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
    Drawn,
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
from twofold.evaluation.players import REFERENCE, Player, parse_player, parse_players
from twofold.evaluation.rows import Data, rows_of
from twofold.judges.matchups import MatchResult, Matchup, Referee, open_people
from twofold.ledger import Ledger
from twofold.progress import counted
from twofold.records import Record, short_name, transcript_of
from twofold.settings import with_keywords
from twofold.statistics import share_by_cluster

CANARY = "Thank you for the question. I have thought about it, and I hope that this answer helps you."
"""An empty phrase, for any prompt."""
CANARY_LINE = "canary"


@dataclass(frozen=True, kw_only=True)
class WinRateSettings(MatchSettings):
    """The opponent is the player `against`, at the same temperature if it has none of its own,
    or the rows' own answers. Players without a temperature of their own answer at each of `temperatures`. `canary` is a
    constant answer for the judge, "" for none. The judge is compared with the verdicts in a labeled file, `people`.
    """

    against: str | None = None
    temperatures: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    canary: str = CANARY
    people: str | None = None

    @property
    def opponent(self) -> Player:
        return parse_player(self.against or REFERENCE)


@with_keywords(WinRateSettings)
def win_rate(models: Sequence[str], data: Data, how: WinRateSettings) -> Evaluation:
    """The win rate of each player at each temperature by a judge, plain and at equal lengths.

    `models` are players (docs/evaluation.md); `data` are prompts, with an answer to beat unless there is `against`. A
    tie is half a win. Shares have Wilson's intervals at the effective number of matchups, every two players sign flips
    at each temperature, with Holm's correction over all. `rows` has every matchup. Raises RecipeError for a name that
    is no judge, DataError for rows without an answer, ServerError for answers that are missing: the same call with the
    same `out` resumes from there.
    """
    return win_rate_figures(measure_win_rate(models, rows_of(data, "win-rate"), how, WHOLE), how)


def measure_win_rate(
    models: Sequence[str], records: Sequence[Record], how: WinRateSettings, part: Part
) -> dict[str, Line]:
    """Every matchup of each player at each temperature, and of the canary, with what came of it."""
    people_judge, opponent = is_by_people(how, part), how.opponent
    players = parse_players(models)
    entries = list(dict.fromkeys(p.at(t) for p in players for t in how.temperatures))
    others = {entry: opponent.at(entry.temperature or 0.0) for entry in entries}
    with ExitStack() as resources:
        names = (*how.judges, opponent.name, *(p.name for p in players))
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        book = open_book(records, part, how, ledger, resources)
        book.check([opponent, *players])
        referee = None if people_judge else open_judge(how, ledger, resources)  # people may label what is drawn here
        if how.people is not None:
            open_people(Path(how.people), resources)  # raises, before anything is drawn, where there are none
        book.draw([*dict.fromkeys(others.values()), *entries])
        drawn = [meet(book, entry, other, how.judges) for entry, other in others.items()]
        if part is WHOLE:
            write_comparisons([m for each in drawn for m in each.matchups], how)
        referee = referee or open_judge(how, ledger, resources)
        file = short_name(book.questions[0].source.file)
        about = {
            "judge": dict(referee.provenance),
            "against": f"the answers of {file}" if opponent.kind == REFERENCE else opponent.short,
        }
        found: dict[str, Line] = {}
        for each in drawn:
            rows = each.judged(referee.outcomes(each.matchups, how.progress))
            heat = "" if each.temperature is None else f", temperature {each.temperature:g}"
            told = {"model": each.model, "temperature": each.temperature, "fixed": each.player in players}
            found[f"of {each.model}{heat}"] = Line(rows, about | told, each.weights)
        constant = _canary(how, referee, drawn[0].matchups)
        if constant is not None:
            rows = constant.judged(referee.outcomes(constant.matchups, how.progress))
            found[CANARY_LINE] = Line(rows, {"model": constant.model, "temperature": constant.temperature})
        found |= check_line(how, referee, part)
        found |= spend_line(referee)
    return found


def win_rate_figures(measured: Mapping[str, Line], how: WinRateSettings) -> Evaluation:
    """Rates and tests of what was measured."""
    lines = dict(measured)
    check = check_figures(lines.pop(CHECK_LINE, None), how, how.judges) | spend_figures(lines.pop(SPEND_LINE, None))
    games = {name: ModelGames.of(line.rows, line.about) for name, line in lines.items()}
    canary = games.pop(CANARY_LINE, None)
    played = list(games.values())
    matchups, labelled = [m for p in played for m in p.matchups], list[MatchResult | None]()
    write_comparisons(matchups, how)
    if how.people is not None:
        with ExitStack() as resources:
            labelled = open_people(Path(how.people), resources).outcomes(matchups, how.progress)
    first = next(iter(measured.values())).about
    about = {
        "judge": dict(first["judge"]), "against": first["against"], "temperatures": list(how.temperatures),
        "samples": how.samples, "seed": how.seed, "max_new_tokens": how.max_new_tokens,
    }  # fmt: skip
    figures = _figures(played, canary, labelled, how.judges) | check
    _warn(figures, how)
    return Evaluation({**about, **figures}, [row for p in played for row in rows_of_games(p)])


def _canary(how: WinRateSettings, referee: Referee, matchups: Sequence[Matchup]) -> Drawn | None:
    """A constant answer instead of the model's. People do not judge it."""
    if not how.canary or any(judge.startswith("human:") for judge in how.judges):
        return None
    firsts = {(str(m.source), m.prompt, m.other): replace(m, own=how.canary) for m in reversed(matchups)}
    constant = list(firsts.values())[::-1]
    return Drawn(Player(model="canary", temperature=0.0), constant, [(False, False)] * len(constant))


def _figures(
    played: Sequence[ModelGames], canary: ModelGames | None, people: Sequence[MatchResult | None],
    judges: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    games = [(p, p.games) for p in played]
    if not any(g for _, g in games):
        raise DataError("no contest has a verdict", where="--judge", remedy="label some of OUT/comparisons.jsonl first")
    rates = [
        {"model": p.model, "temperature": p.temperature, **summary(g), "missing": len(p.matchups) - len(g),
         "truncated": p.truncated, **({"judges": each} if (each := by_judge(judges, g)) else {})}
        for p, g in games if g
    ]  # fmt: skip
    tests: list[dict[str, Any]] = []
    for (p, g), (q, h) in combinations(games, 2):
        tested = Shares(g).against(Shares(h)) if p.temperature == q.temperature or p.fixed or q.fixed else None
        if tested is not None:
            same = p.temperature == q.temperature and p.temperature is not None
            metric = f"temperature {p.temperature:g}" if same else "win rate"
            names = (p.model, q.model) if same else (_name(p), _name(q))
            tests.append({"a": names[0], "b": names[1], "metric": metric, **tested.as_dict()})
    figures: dict[str, Any] = {"win_rates": rates, "comparisons": corrected(tests)}
    if canary is not None and (constant := canary.games):
        alone = share_by_cluster([g.share == 1 for g in constant], [g.prompt for g in constant]).as_dict()
        figures["canary"] = {"text": transcript_of(canary.matchups[0].own), **summary(constant), "wins_alone": alone}
    if (together := panel(judges, [game for _, several in games for game in several])) is not None:
        figures["panel"] = together
    if people:
        figures["people"] = _beside(played, people).as_dict()
    return figures


def _name(played: ModelGames) -> str:
    return played.model if played.temperature is None else f"{played.model}@temperature:{played.temperature:g}"


def _beside(played: Sequence[ModelGames], people: Sequence[MatchResult | None]) -> Agreement:
    """The judge compared with people, on every matchup of different texts that both have judged, once."""
    matchups, ours = [m for p in played for m in p.matchups], [r for p in played for r in p.results]
    both = {
        (matchup.prompt, matchup.own, matchup.other): (mine.share, theirs.share)
        for matchup, mine, theirs in zip(matchups, ours, people, strict=True)
        if mine is not None and theirs is not None and not matchup.is_even
    }
    if not both:
        remedy = "label the comparisons of this evaluation: OUT/comparisons.jsonl"
        raise DataError("none of the contests has their verdict", where="--people", remedy=remedy)
    prompts = [prompt for prompt, _, _ in both]
    return agreement([mine for mine, _ in both.values()], [theirs for _, theirs in both.values()], prompts)


def _warn(figures: Mapping[str, Any], how: WinRateSettings) -> None:
    """A tie with a row's own answer is a fault of the judge; a tie with a model may be that model's fault."""
    canary, rates = figures.get("canary"), figures["win_rates"]
    if canary is not None and (canary["wins_alone"] if how.against is not None else canary)["low"] > HIGH:
        how.progress.warn(
            f"the judge gives {canary['value']:.1%} to an answer without content (the canary): its win rates may not "
            "be reliable"
        )
    if missing := sum(rate["missing"] for rate in rates):
        how.progress.warn(f"{counted(missing, 'contest')} without a verdict are left out of n")
    if any(rate["length_controlled"]["extrapolated"] for rate in rates):
        how.progress.warn(
            "answers are almost always longer (or shorter) than the other: LC reaches beyond what was seen"
        )
