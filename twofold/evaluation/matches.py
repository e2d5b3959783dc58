"""Matches of two players on every prompt, as they are drawn, judged and stored. Win rates and contests share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twofold.data.turns import ChatChoice
from twofold.errors import RecipeError
from twofold.evaluation.games import Game
from twofold.evaluation.parts import Part
from twofold.evaluation.player_answers import AnswerBook, Drawing, questions_for
from twofold.evaluation.players import REFERENCE, Player
from twofold.evaluation.prompting import Prompter
from twofold.judges.base import JudgeResources
from twofold.judges.matchups import MatchResult, Matchup, Referee, open_referee, unjudged
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.ledger import Ledger, write_rows
from twofold.progress import Progress, Silent
from twofold.records import Record, Source, Task, shown, transcript_of, unshown
from twofold.rewards.model import open_reward


@dataclass(frozen=True, kw_only=True)
class MatchSettings:
    """`judge` is KIND[:ARGUMENT] (docs/judges.md), such as `reward:FOLDER`, `llm:URL#NAME` or `human:FILE`. `rubric` is
    a jinja2 file with a language model's instructions, `max_length` a reward model's limit in tokens. `style` renders
    text prompts like data.chat of a recipe. `examples` are rows for the worked examples of `@shots`.

    Each player generates `samples` answers per prompt (one at temperature 0), with `seed`. `out` has ledger.jsonl, so
    that nothing is sampled or paid for twice, and comparisons.jsonl for people to label. It is required with a server.
    """

    judge: str
    samples: int = 1
    seed: int = 0
    max_new_tokens: int = 256
    max_length: int = 4096
    rubric: str | None = None
    style: ChatChoice = "auto"
    examples: str | None = None
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)


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
    return open_referee(how.judge, JudgeResources(WIN_RATE, lambda: ledger, reward, how.rubric), resources)


def is_by_people(how: MatchSettings, part: Part) -> bool:
    """Whether people judge. Raises RecipeError in a shard, because they label what all shards have drawn."""
    people = how.judge.startswith("human:")
    if people and part.ledger is not None:
        remedy = "leave --shard out, or judge with a model"
        raise RecipeError("people judge what all shards have drawn", where=f"--judge {how.judge}", remedy=remedy)
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
        both = [None if r["orders"] is None else (r["orders"][0], r["orders"][1]) for r in rows]
        results = [None if r["share"] is None else MatchResult(r["share"], o) for r, o in zip(rows, both, strict=True)]
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
                lengths = len(transcript_of(matchup.own)), len(transcript_of(matchup.other))
                found.append(Game((name, nth), matchup.prompt, result.share, *lengths, result.orders))
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
             "other": shown(m.other), "cut": cut[0], "other_cut": cut[1], "share": None if r is None else r.share,
             "orders": None if r is None or r.orders is None else list(r.orders)}
            for m, cut, r in zip(self.matchups, self.cut, results, strict=True)
        ]  # fmt: skip


def meet(book: AnswerBook, own: Player, other: Player, judge: str) -> Drawn:
    """The matchups of two players. Who has fewer answers to a prompt repeats them.

    The judge reads the reference answer of a problem, unless that is one of the two answers and it can do without.
    """
    sides = REFERENCE not in (own.kind, other.kind) or parse_judge(judge, WIN_RATE).needs_truth
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
        row = {"model": played.model, "temperature": played.temperature, "name": str(matchup.source),
               "prompt": shown(matchup.prompt), "completion": shown(matchup.own), "other": shown(matchup.other),
               "share": None if result is None else result.share}  # fmt: skip
        orders = None if result is None else result.orders
        rows.append(row if orders is None else {**row, "orders": list(orders)})
    return rows
