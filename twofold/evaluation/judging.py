"""`judge`: how reliable judges are on labeled pairs, each of them and all as a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, cast

from twofold.client.cost import total
from twofold.client.server import RetrySettings
from twofold.data.readers import rows
from twofold.data.reasoning import without_reasoning
from twofold.errors import DataError, RecipeError
from twofold.evaluation.figures import BinaryOutcomes, Evaluation, corrected
from twofold.evaluation.games import Game
from twofold.evaluation.judge_figures import panel, reliability
from twofold.evaluation.matches import as_row, open_judges, result_of
from twofold.evaluation.parts import WHOLE, Line, Part, Row
from twofold.evaluation.player_answers import ledger_path
from twofold.evaluation.rows import Data, rows_of
from twofold.judges.base import JudgeResources
from twofold.judges.matchups import MatchResult, Matchup, Referee
from twofold.judges.panels import majority, with_own_ledger
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.ledger import Ledger
from twofold.progress import Progress, Silent, counted
from twofold.records import Pair, Record, shown, transcript_of, unshown
from twofold.rewards.model import open_reward
from twofold.settings import with_keywords

MAJORITY = "majority"
CHECK_LINE, SPEND_LINE = "judge_check", "spend"
AUTHOR = "_model"
PAIR = ("source", "prompt", "chosen", "rejected", "authors")
"""The columns of a row that are the same for every judge."""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """`rubric` is a file with a language model's criteria or its whole template, `max_length` a reward model's limit in
    tokens. `out` has the ledger of each judge, so that nothing is paid for twice. It is required with a server."""

    rubric: str | None = None
    max_length: int = 4096
    retry: RetrySettings = field(default_factory=RetrySettings)
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class LabeledPair:
    """A pair as a matchup, its chosen answer first, and the names of the models that wrote both, if they are known."""

    matchup: Matchup
    authors: tuple[str, str] | None = None


def labeled_pairs(records: Sequence[Record]) -> list[LabeledPair]:
    """Pairs with the reference answer (`answer`) and the authors of their rows: `chosen_model` and `rejected_model`, or
    `provenance` of `data build`. Raises DataError for rows that are no pairs."""
    pairs = cast("Sequence[Pair]", rows_of(records, "judge"))
    files = {pair.source.file for pair in pairs}
    known = {(file, n): row for file in files if Path(file).is_file() for n, row in rows(file) if isinstance(row, dict)}
    found: list[LabeledPair] = []
    for pair in pairs:
        row: Mapping[str, Any] = known.get((pair.source.file, pair.source.row), {})
        truth, authors = row.get("answer"), _authors(row)
        answer = truth if isinstance(truth, str) else None
        found.append(LabeledPair(Matchup(pair.prompt, pair.chosen, pair.rejected, pair.source, answer), authors))
    return found


@with_keywords(JudgeSettings)
def judge_check(judges: Sequence[str], data: Data, how: JudgeSettings) -> Evaluation:
    """How reliable `judges` (docs/judges.md) are on labeled pairs, `data`, in which people chose the better answer.

    Each judge has its accuracy and Cohen's κ, its bias for positions and lengths, the calibration of its
    probabilities, and its preference for its own answers where authors are known. Several judges are also measured as a
    panel. Raises DataError for rows that are no pairs, RecipeError for a name that is no judge.
    """
    return judge_figures(measure_judges(judges, labeled_pairs(rows_of(data, "judge")), how, WHOLE), how)


def measure_judges(
    judges: Sequence[str], pairs: Sequence[LabeledPair], how: JudgeSettings, part: Part
) -> dict[str, Line]:
    """The verdict of each judge on every pair."""
    here, names = part.of(pairs), list(dict.fromkeys(judges))
    found: dict[str, Line] = {}
    if any(parse_judge(name, WIN_RATE).gives == "verdicts" for name in names):
        raise RecipeError("people are not measured", where="--task judge", remedy="name models: llm:, reward: …")
    with ExitStack() as resources:
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        reward = partial(open_reward, max_length=how.max_length)
        common = JudgeResources(WIN_RATE, lambda: ledger, reward, retry=how.retry)
        several = len(names) > 1
        each = {name: with_own_ledger(common, name, resources) if several else common for name in names}
        asking = any(parse_judge(name, WIN_RATE).asks_server for name in names)
        referees = {}
        for name in names:
            rubric = how.rubric if parse_judge(name, WIN_RATE).asks_server or not asking else None
            referees[name] = open_judges([name], each[name], rubric, resources)
        for name, referee in referees.items():
            found[name] = Line(verdict_rows(here, referee, how.progress), {"judge": dict(referee.provenance)})
        return found | spend_line(*referees.values())


def spend_line(*referees: Referee) -> dict[str, Line]:
    """What the judges have cost; shards add up."""
    rows = [spend for referee in referees for spend in referee.spend()]
    return {SPEND_LINE: Line(rows)} if rows else {}


def spend_figures(line: Line | None) -> dict[str, Any]:
    """The spend of each server, as in JSON."""
    return {} if line is None else {SPEND_LINE: total(line.rows)}


class Checked(Protocol):
    """The settings of a task whose judge can be measured on labeled pairs."""

    @property
    def judge_pairs(self) -> str | None: ...

    @property
    def progress(self) -> Progress: ...


def check_line(how: Checked, referee: Referee, part: Part) -> dict[str, Line]:
    """The verdicts of a task's own judge on `judge_pairs`; of several shards, the first has the rows."""
    if how.judge_pairs is None:
        return {}
    pairs = labeled_pairs(rows_of(how.judge_pairs, "judge"))
    rows = verdict_rows(pairs, referee, how.progress) if part.first == 0 else []
    return {CHECK_LINE: Line(rows, {"judge": dict(referee.provenance)})}


def check_figures(line: Line | None, how: Checked, judges: Sequence[str] = ()) -> dict[str, Any]:
    """The judge's own accuracy on `judge_pairs`, to be shown next to figures that it made."""
    if line is None:
        return {}
    found = {"pairs": how.judge_pairs, **figures_of(line.rows, line.about["judge"])}
    together = panel(judges, games_of(line.rows))
    return {CHECK_LINE: found | ({} if together is None else {"panel": together})}


def verdict_rows(pairs: Sequence[LabeledPair], referee: Referee, progress: Progress) -> list[Row]:
    """Each pair with the referee's verdict, as JSON."""
    results = referee.outcomes([pair.matchup for pair in pairs], progress)
    return [
        {"source": str(m.source), "prompt": shown(m.prompt), "chosen": shown(m.own), "rejected": shown(m.other),
         "authors": None if pair.authors is None else list(pair.authors), **as_row(result)}
        for pair, result in zip(pairs, results, strict=True) for m in (pair.matchup,)
    ]  # fmt: skip


def judge_figures(measured: Mapping[str, Line], how: JudgeSettings) -> Evaluation:
    """Figures of each judge, paired tests of every two, and the agreement of all."""
    alone = dict(measured)
    spend = spend_figures(alone.pop(SPEND_LINE, None))
    names = list(alone)
    lines = {name: (line.rows, line.about["judge"]) for name, line in alone.items()}
    votes = [tuple(result_of(row) for row in several) for several in zip(*(r for r, _ in lines.values()), strict=True)]
    if len(names) > 1:
        pairs = [{key: row[key] for key in PAIR} for row in lines[names[0]][0]]
        together = [{**row, **as_row(majority(v))} for row, v in zip(pairs, votes, strict=True)]
        if games_of(together):  # without a pair on which all have a verdict there is none
            lines[MAJORITY] = (together, {})
    table = [{"name": name, **figures_of(several, judge)} for name, (several, judge) in lines.items()]
    if missing := sum(line["missing"] for line in table if line["name"] != MAJORITY):
        how.progress.warn(f"{counted(missing, 'verdict')} missing: left out of n")
    figures: dict[str, Any] = {"judges": table, "comparisons": _tests({n: r for n, (r, _) in lines.items()})} | spend
    if MAJORITY in lines and (agreement := panel(names, games_of(lines[MAJORITY][0]))) is not None:
        figures["panel"] = agreement
    return Evaluation(figures, [{"judge": name, **row} for name, (several, _) in lines.items() for row in several])


def figures_of(verdicts: Sequence[Mapping[str, Any]], judge: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a judge from `verdict_rows`. Raises DataError if it has no verdict."""
    games = games_of(verdicts)
    if not games:
        remedy = "read its replies in the ledger: another rubric, more tokens (?max_tokens=N), or a stronger model"
        raise DataError("the judge has no verdict on any labeled pair", where=_judge_name(judge), remedy=remedy)
    own = [_own(row["authors"], judge) for row in verdicts if row["share"] is not None]
    return {**reliability(games, own), "missing": len(verdicts) - len(games), "judge": dict(judge)}


def _judge_name(judge: Mapping[str, Any]) -> str:
    """A judge's kind, and the server and model that it has."""
    kind, server, model = (judge.get(key) for key in ("kind", "server", "model"))
    return f"{kind}:{server}#{model}" if server else str(model if kind is None else kind)


def games_of(verdicts: Sequence[Mapping[str, Any]]) -> list[Game]:
    """The verdicts as games of the chosen answer."""
    found: list[Game] = []
    for row in verdicts:
        result: MatchResult | None = result_of(row)
        if result is not None:
            sizes = [len(transcript_of(without_reasoning(unshown(row[side])))) for side in ("chosen", "rejected")]
            more = result.orders, result.probability, result.votes
            found.append(Game(row["source"], unshown(row["prompt"]), result.share, sizes[0], sizes[1], *more))
    return found


def _tests(lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Every two judges on the pairs on which both have a verdict, with Holm's correction."""
    tests: list[dict[str, Any]] = []
    for a, b in combinations(lines, 2):
        both = [(x, y) for x, y in zip(lines[a], lines[b], strict=True) if None not in (x["share"], y["share"])]
        if both:
            of = [str(x["prompt"]) for x, _ in both]
            mine, theirs = ([pair[side]["share"] == 1 for pair in both] for side in (0, 1))
            tested = BinaryOutcomes(mine, of).against(BinaryOutcomes(theirs, of))
            tests.append({"a": a, "b": b, "metric": "accuracy", **tested.as_dict()})
    return corrected(tests)


def _authors(row: Mapping[str, Any]) -> tuple[str, str] | None:
    origin = row.get("provenance")
    sides: list[str] = []
    for side in ("chosen", "rejected"):
        stated = origin.get(side) if isinstance(origin, Mapping) else None
        name = row.get(f"{side}{AUTHOR}", stated.get("model") if isinstance(stated, Mapping) else None)
        if not isinstance(name, str):
            return None
        sides.append(name)
    return sides[0], sides[1]


def _own(authors: Sequence[str] | None, judge: Mapping[str, Any]) -> bool | None:
    """Whether the chosen answer is the judge's own; False if the rejected one is, None if neither or both are."""
    if authors is None or "model" not in judge:
        return None
    chosen, rejected = (_short(name) == _short(str(judge["model"])) for name in authors)
    return None if chosen == rejected else chosen


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
