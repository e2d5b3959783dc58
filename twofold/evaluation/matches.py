"""Matches of two players on every prompt, as they are drawn, judged and stored. Win rates and contests share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from twofold.client.server import RetrySettings
from twofold.data.reasoning import without_reasoning
from twofold.data.turns import ChatChoice
from twofold.errors import RecipeError
from twofold.evaluation.games import Game
from twofold.evaluation.parts import Part
from twofold.evaluation.player_answers import AnswerBook, Drawing, questions_for
from twofold.evaluation.players import REFERENCE, Player
from twofold.evaluation.prompting import Prompter
from twofold.judges.base import JudgeResources
from twofold.judges.matchups import MatchResult, Matchup, Referee, unjudged
from twofold.judges.panels import open_panel
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.ledger import Ledger, write_rows
from twofold.progress import Progress, Silent
from twofold.records import Record, Source, Task, shown, transcript_of, unshown
from twofold.rewards.model import open_reward


@dataclass(frozen=True, kw_only=True)
class MatchSettings:
    """`judge` is KIND[:ARGUMENT] (docs/judges.md), such as `reward:FOLDER`, `llm:URL#NAME` or `human:FILE`; several are
    a panel, whose majority counts. `rubric` is a file with a language model's criteria or its whole template,
    `max_length` a reward model's limit in tokens. `style` renders text prompts like data.chat of a recipe. `examples`
    are rows for the worked examples of `@shots`. `judge_pairs` are labeled pairs, on which the judge's own accuracy is
    measured. `retry` is how a judge's server is queried, with prices and limits.

    Each player generates `samples` answers per prompt (one at temperature 0), with `seed`. `out` has ledger.jsonl, so
    that nothing is sampled or paid for twice, and comparisons.jsonl for people to label. It is required with a server.
    """

    judge: str | Sequence[str]
    samples: int = 1
    seed: int = 0
    max_new_tokens: int = 256
    max_length: int = 4096
    rubric: str | None = None
    style: ChatChoice = "auto"
    examples: str | None = None
    judge_pairs: str | None = None
    retry: RetrySettings = field(default_factory=RetrySettings)
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)

    @property
    def judges(self) -> tuple[str, ...]:
        return (self.judge,) if isinstance(self.judge, str) else tuple(dict.fromkeys(self.judge))


def open_book(
    records: Sequence[Record], part: Part, how: MatchSettings, ledger: Ledger, resources: ExitStack
) -> AnswerBook:
    """The answers of players to the rows that are measured here."""
    questions = questions_for(records)
    problems = [Task(q.prompt, "", q.source) for q in questions]
    prompter = Prompter(problems, style=how.style, examples=how.examples, seed=how.seed, any_rows=True)
    drawing = Drawing(samples=how.samples, seed=how.seed, max_new_tokens=how.max_new_tokens, max_length=how.max_length,
                      style=how.style, progress=how.progress)  # fmt: skip
    return AnswerBook(part.of(questions), prompter, drawing, ledger, resources)


def open_judge(how: MatchSettings, ledger: Ledger, resources: ExitStack) -> Referee:
    """The referee that decides matches."""
    reward = partial(open_reward, max_length=how.max_length)
    return open_judges(
        how.judges, JudgeResources(WIN_RATE, lambda: ledger, reward, retry=how.retry), how.rubric, resources
    )


def open_judges(names: Sequence[str], common: JudgeResources, rubric: str | None, stack: ExitStack) -> Referee:
    """The referee of one judge or of a panel. The `rubric` is for those behind servers; raises RecipeError for one
    without any of them."""
    kinds = [parse_judge(name, common.place) for name in names]
    servers = [kind.asks_server for kind in kinds]
    each = [replace(common, rubric=rubric if server or not any(servers) else None) for server in servers]
    return open_panel(names, each, stack)


def is_by_people(how: MatchSettings, part: Part) -> bool:
    """Whether people judge. Raises RecipeError in a shard, because they label what all shards have drawn."""
    people = any(judge.startswith("human:") for judge in how.judges)
    if people and part.ledger is not None:
        remedy = "leave --shard out, or judge with a model"
        raise RecipeError(
            "people judge what all shards have drawn", where=f"--judge {' '.join(how.judges)}", remedy=remedy
        )
    return people


@dataclass(frozen=True)
class ModelGames:
    """A player at a temperature, None without one: its matchups, their results, and the number of truncated answers.
    The temperature is `fixed` if it was chosen only for this player."""

    model: str
    temperature: float | None
    matchups: Sequence[Matchup]
    results: Sequence[MatchResult | None]
    truncated: int
    fixed: bool = False
    other_truncated: int = 0

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> ModelGames:
        """From the rows that `Drawn.judged` made."""
        matchups = [
            Matchup(unshown(r["prompt"]), unshown(r["own"]), unshown(r["other"]), Source(*r["source"])) for r in rows
        ]
        results = [result_of(r) for r in rows]
        own, other = (sum(r[key] for r in rows) for key in ("cut", "other_cut"))
        return cls(about["model"], about["temperature"], matchups, results, own, about.get("fixed", False), other)

    @property
    def games(self) -> list[Game]:
        """The matches with a verdict."""
        seen: dict[str, int] = {}
        found: list[Game] = []
        for matchup, result in zip(self.matchups, self.results, strict=True):
            name = str(matchup.source)
            nth = seen[name] = seen.get(name, 0) + 1
            if result is not None:
                own, other = (transcript_of(without_reasoning(told)) for told in (matchup.own, matchup.other))
                lengths = len(own), len(other)
                more = result.orders, result.probability, result.votes
                found.append(Game((name, nth), matchup.prompt, result.share, *lengths, *more))
        return found


@dataclass(frozen=True)
class Drawn:
    """A player's matchups, and which of its answers and of the others were cut off; `weights` identifies where its
    answers come from."""

    player: Player
    matchups: Sequence[Matchup]
    cut: Sequence[tuple[bool, bool]]
    weights: str = ""

    @property
    def model(self) -> str:
        return self.player.label

    @property
    def temperature(self) -> float | None:
        return self.player.temperature

    def judged(self, results: Sequence[MatchResult | None]) -> list[dict[str, Any]]:
        """Each matchup with its result, as JSON."""
        return [
            {"source": [m.source.file, m.source.row], "prompt": shown(m.prompt), "own": shown(m.own),
             "other": shown(m.other), "cut": cut[0], "other_cut": cut[1], **as_row(r)}
            for m, cut, r in zip(self.matchups, self.cut, results, strict=True)
        ]  # fmt: skip


def as_row(result: MatchResult | None) -> dict[str, Any]:
    """A result as JSON."""
    if result is None:
        return {"share": None, "orders": None}
    more = {"probability": result.probability, "votes": list(result.votes) or None}
    orders = None if result.orders is None else list(result.orders)
    return {"share": result.share, "orders": orders, **{name: v for name, v in more.items() if v is not None}}


def result_of(row: Mapping[str, Any]) -> MatchResult | None:
    """The result in a row of `as_row`."""
    if row["share"] is None:
        return None
    orders = None if row["orders"] is None else (row["orders"][0], row["orders"][1])
    return MatchResult(row["share"], orders, row.get("probability"), tuple(row.get("votes", ())))


def meet(book: AnswerBook, own: Player, other: Player, judges: Sequence[str]) -> Drawn:
    """The matchups of two players. Who has fewer answers to a prompt repeats them.

    The judge reads the reference answer of a problem, unless that is one of the two answers and it can do without.
    """
    sides = REFERENCE not in (own.kind, other.kind) or any(parse_judge(judge, WIN_RATE).needs_truth for judge in judges)
    pairs = [
        (question, mine[i % len(mine)], theirs[i % len(theirs)])
        for question, mine, theirs in zip(book.questions, book.of(own), book.of(other), strict=True)
        for i in range(max(len(mine), len(theirs)))
    ]
    matchups = [
        Matchup(q.prompt, a.completion, b.completion, q.source, q.answer if sides else None) for q, a, b in pairs
    ]
    return Drawn(own, matchups, [(a.truncated, b.truncated) for _, a, b in pairs], book.weights(own))


def write_comparisons(matchups: Sequence[Matchup], how: MatchSettings) -> None:
    """The matchups that people can label, in `out`."""
    if how.out is not None:
        write_rows(how.out / "comparisons.jsonl", unjudged(matchups))


def rows_of_games(played: ModelGames) -> list[dict[str, Any]]:
    """Every matchup as a row of rows.jsonl."""
    rows: list[dict[str, Any]] = []
    for matchup, result in zip(played.matchups, played.results, strict=True):
        row: dict[str, Any] = {
            "model": played.model, "temperature": played.temperature, "name": str(matchup.source),
            "prompt": shown(matchup.prompt), "completion": shown(matchup.own), "other": shown(matchup.other),
        }  # fmt: skip
        told = as_row(result)
        rows.append(row | {name: value for name, value in told.items() if name == "share" or value is not None})
    return rows
