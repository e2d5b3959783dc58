"""`win_rate`: how often a judge prefers a model's answers to others, by temperature, and how reliable the judge is.

The statistics are those of `games.py`. Temperatures as in the DPO paper (arXiv:2305.18290, section 6); the canary is a
null model (arXiv:2410.07137).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twofold.data.turns import ChatChoice
from twofold.errors import DataError, RecipeError, ServerError
from twofold.evaluation.figures import Evaluation, corrected
from twofold.evaluation.games import HIGH, Agreement, Game, Shares, agreement, summary
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.rows import Data, rows_of
from twofold.judges.base import JudgeResources
from twofold.judges.matchups import MatchResult, Matchup, Referee, open_people, open_referee, unjudged
from twofold.judges.questions import Question
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.ledger import Ledger, write_rows
from twofold.progress import Progress, Silent, counted
from twofold.records import Candidate, Message, Prompt, Record, Source, Task, completion_texts, short_name, shown
from twofold.rewards.model import open_reward
from twofold.sampling.answers import Draw, open_answerer
from twofold.sampling.base import Sampling
from twofold.settings import with_keywords
from twofold.statistics import share_by_cluster

CANARY = "Thank you for the question. I have thought about it, and I hope that this answer helps you."
"""An empty phrase, for any prompt."""
CANARY_LINE = "canary"


@dataclass(frozen=True, kw_only=True)
class WinRateSettings:
    """`judge` is KIND[:ARGUMENT] (docs/judges.md), such as `reward:FOLDER`, `llm:URL#NAME` or `human:FILE`. `rubric` is
    a jinja2 file with a language model's instructions, `max_length` a reward model's limit in tokens. `style` renders
    text prompts like data.chat of a recipe.

    The opponent is the model `against` at the same temperature, or the rows' own answers. Each model generates
    `samples` answers per prompt (one at temperature 0), with `seed`. `canary` is a constant answer for the judge, ""
    for none. The judge is compared with the verdicts in a labeled file, `people`. `out` has ledger.jsonl, so that
    nothing is sampled or paid for twice, and comparisons.jsonl for people to label. It is required with a server.
    """

    judge: str
    against: str | None = None
    temperatures: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    samples: int = 1
    seed: int = 0
    max_new_tokens: int = 256
    max_length: int = 4096
    rubric: str | None = None
    style: ChatChoice = "auto"
    canary: str = CANARY
    people: str | None = None
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class ModelGames:
    """A model at a temperature: its matchups, their results, and the number of truncated answers."""

    model: str
    temperature: float
    matchups: Sequence[Matchup]
    results: Sequence[MatchResult | None]
    truncated: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> ModelGames:
        """From the rows that `Drawn.judged` made."""
        matchups = [Matchup(_prompt(r["prompt"]), r["own"], r["other"], Source(*r["source"])) for r in rows]
        both = [None if r["orders"] is None else (r["orders"][0], r["orders"][1]) for r in rows]
        results = [None if r["share"] is None else MatchResult(r["share"], o) for r, o in zip(rows, both, strict=True)]
        return cls(about["model"], about["temperature"], matchups, results, sum(r["cut"] for r in rows))


@dataclass(frozen=True)
class Drawn:
    """A model's matchups at a temperature, and which of its answers were cut off; `weights` names the model's."""

    model: str
    temperature: float
    matchups: Sequence[Matchup]
    cut: Sequence[bool]
    weights: str = ""

    def judged(self, results: Sequence[MatchResult | None]) -> list[dict[str, Any]]:
        """Each matchup with its result, as JSON."""
        return [
            {"source": [m.source.file, m.source.row], "prompt": shown(m.prompt), "own": m.own, "other": m.other,
             "cut": cut, "share": None if r is None else r.share,
             "orders": None if r is None or r.orders is None else list(r.orders)}
            for m, cut, r in zip(self.matchups, self.cut, results, strict=True)
        ]  # fmt: skip


@with_keywords(WinRateSettings)
def win_rate(models: Sequence[str], data: Data, how: WinRateSettings) -> Evaluation:
    """The win rate of each model at each temperature by a judge, plain and at equal lengths.

    `models` are folders, run directories, hub names or https://host/v1#name; `data` are prompts, with an answer to beat
    unless there is `against`. A tie is half a win. Shares have Wilson's intervals at the effective number of matchups,
    every two models sign flips at each temperature, with Holm's correction over all. `rows` has every matchup. Raises
    RecipeError for a name that is no judge, DataError for rows without an answer, ServerError for answers that are
    missing: the same call with the same `out` resumes from there.
    """
    return win_rate_figures(measure_win_rate(models, rows_of(data, "win-rate"), how, WHOLE), how)


def measure_win_rate(
    models: Sequence[str], records: Sequence[Record], how: WinRateSettings, part: Part
) -> dict[str, Line]:
    """Every matchup of each model at each temperature, and of the canary, with what came of it."""
    questions = _questions(part.of(records), how)
    people_judge = how.judge.startswith("human:")
    if people_judge and part.ledger is not None:
        remedy = "leave --shard out, or judge with a model"
        raise RecipeError("people judge what all shards have drawn", where=f"--judge {how.judge}", remedy=remedy)
    with ExitStack() as resources:
        ledger = part.ledger or resources.enter_context(Ledger(_ledger_path(models, how, resources)))
        session = _Session(how, ledger, resources)
        referee = None if people_judge else session.referee()  # people may label what is drawn here
        if how.people is not None:
            open_people(Path(how.people), resources)  # raises, before anything is drawn, where there are none
        drawn = session.drawn(list(dict.fromkeys(models)), questions)
        if part is WHOLE:
            _write_comparisons([m for each in drawn for m in each.matchups], how)
        referee = referee or session.referee()
        opponent = short_name(how.against) if how.against else f"the answers of {short_name(questions[0].source.file)}"
        about = {"judge": dict(referee.provenance), "against": opponent}
        found: dict[str, Line] = {}
        for each in drawn:
            rows = each.judged(referee.outcomes(each.matchups, how.progress))
            name = f"of {each.model}, temperature {each.temperature:g}"
            found[name] = Line(rows, about | {"model": each.model, "temperature": each.temperature}, each.weights)
        constant = _canary(how, referee, drawn[0].matchups)
        if constant is not None:
            rows = constant.judged(referee.outcomes(constant.matchups, how.progress))
            found[CANARY_LINE] = Line(rows, {"model": constant.model, "temperature": 0.0})
    return found


def win_rate_figures(measured: Mapping[str, Line], how: WinRateSettings) -> Evaluation:
    """Rates and tests of what was measured."""
    games = {name: ModelGames.of(line.rows, line.about) for name, line in measured.items()}
    canary = games.pop(CANARY_LINE, None)
    played = list(games.values())
    matchups, labelled = [m for p in played for m in p.matchups], list[MatchResult | None]()
    _write_comparisons(matchups, how)
    if how.people is not None:
        with ExitStack() as resources:
            labelled = open_people(Path(how.people), resources).outcomes(matchups, how.progress)
    first = next(iter(measured.values())).about
    about = {
        "judge": dict(first["judge"]), "against": first["against"], "temperatures": list(how.temperatures),
        "samples": how.samples, "seed": how.seed, "max_new_tokens": how.max_new_tokens,
    }  # fmt: skip
    figures = _figures(played, canary, labelled)
    _warn(figures, how)
    return Evaluation({**about, **figures}, [_row(p, i) for p in played for i in range(len(p.matchups))])


def _write_comparisons(matchups: Sequence[Matchup], how: WinRateSettings) -> None:
    if how.out is not None:
        write_rows(how.out / "comparisons.jsonl", unjudged(matchups))


@dataclass(frozen=True)
class _Session:
    """What answers are drawn and judged with."""

    how: WinRateSettings
    ledger: Ledger
    resources: ExitStack

    def referee(self) -> Referee:
        reward = partial(open_reward, max_length=self.how.max_length)
        with_ledger = JudgeResources(WIN_RATE, lambda: self.ledger, reward, self.how.rubric)
        return open_referee(self.how.judge, with_ledger, self.resources)

    def drawn(self, models: Sequence[str], questions: Sequence[Question]) -> list[Drawn]:
        """By model and temperature; an opposing model answers at the same temperature."""
        against = None if self.how.against is None else self._answers(self.how.against, questions)
        found: list[Drawn] = []
        for model in models:
            own = self._answers(model, questions)
            for temperature, answers in own.items():
                others = against[temperature] if against else [q.candidates * len(answers[0]) for q in questions]
                pairs = [
                    (question, answer, other)
                    for question, several, theirs in zip(questions, answers, others, strict=True)
                    for answer, other in zip(several, theirs, strict=True)
                ]
                matchups = [Matchup(q.prompt, a.text, o.text, q.source, q.answer) for q, a, o in pairs]
                weights = str(answers[0][0].origin.get("weights", ""))
                found.append(Drawn(model, temperature, matchups, [a.truncated for _, a, _ in pairs], weights))
        return found

    def _answers(self, model: str, questions: Sequence[Question]) -> dict[float, list[list[Candidate]]]:
        """A model's answers to every question by temperature, greedy ones once; ServerError where one is missing."""
        how, answerer = self.how, open_answerer(model, self.resources, chat=self.how.style)
        found: dict[float, list[list[Candidate]]] = {}
        for temperature in how.temperatures:
            how.progress.note(f"{model}: {counted(len(questions), 'prompt')} at temperature {temperature:g}")
            sampling = Sampling(temperature=temperature, max_new_tokens=how.max_new_tokens)
            draw = Draw(sampling, 1 if temperature == 0 else how.samples, how.seed)
            answers = answerer.answers([q.prompt for q in questions], draw, self.ledger, how.progress)
            found[temperature] = [several for several in answers if several is not None]
            if missing := len(questions) - len(found[temperature]):
                remedy = "run the same command again: only what is missing is asked for"
                what = f"answers to {counted(missing, 'prompt')} are missing"
                raise ServerError(what, where=model, remedy=remedy)
        return found


def _ledger_path(models: Sequence[str], how: WinRateSettings, resources: ExitStack) -> Path:
    """The ledger of samples and verdicts. It is in `out`, which is required with a server."""
    if how.out is not None:
        return how.out / "ledger.jsonl"
    if any("://" in str(name) for name in (how.judge, how.against, *models)):
        remedy = "add --out FOLDER: the same command then resumes an interrupted evaluation"
        raise RecipeError("no folder for a server's answers", where="twofold evaluate", remedy=remedy)
    return Path(resources.enter_context(TemporaryDirectory())) / "ledger.jsonl"


def _questions(records: Sequence[Record], how: WinRateSettings) -> list[Question]:
    """The rows as prompts; the best answer of a row, if nothing else is the opponent, is its only candidate."""
    row, questions = not how.against, list[Question]()
    for record in records:
        texts = completion_texts(record)
        if row and not texts:
            remedy = "rows need an answer to win against; or name a model: --against MODEL"
            raise DataError("has no answer to compare with", where=str(record.source), remedy=remedy)
        known = isinstance(record, Task) and (not row or parse_judge(how.judge, WIN_RATE).needs_truth)
        opponent = (Candidate(texts[0][1], {}),) if row else ()
        questions.append(Question(record.prompt, record.source, texts[0][1] if known else None, opponent))
    return questions


def _canary(how: WinRateSettings, referee: Referee, matchups: Sequence[Matchup]) -> Drawn | None:
    """A constant answer instead of the model's. People do not judge it."""
    if not how.canary or referee.provenance["kind"] == "human":
        return None
    firsts = {(str(m.source), m.prompt, m.other): replace(m, own=how.canary) for m in reversed(matchups)}
    constant = list(firsts.values())[::-1]
    return Drawn("canary", 0.0, constant, [False] * len(constant))


def _prompt(told: Any) -> Prompt:
    """What `shown` made JSON of."""
    return told if isinstance(told, str) else tuple(Message.of(turn) for turn in told)


def _games(played: ModelGames) -> list[Game]:
    seen: dict[str, int] = {}
    found: list[Game] = []
    for matchup, result in zip(played.matchups, played.results, strict=True):
        name = str(matchup.source)
        nth = seen[name] = seen.get(name, 0) + 1
        if result is not None:
            lengths = len(matchup.own), len(matchup.other)
            found.append(Game((name, nth), matchup.prompt, result.share, *lengths, result.orders))
    return found


def _figures(
    played: Sequence[ModelGames], canary: ModelGames | None, people: Sequence[MatchResult | None]
) -> dict[str, Any]:
    games = [(p, _games(p)) for p in played]
    if not any(g for _, g in games):
        raise DataError("no contest has a verdict", where="--judge", remedy="label some of OUT/comparisons.jsonl first")
    rates = [
        {"model": p.model, "temperature": p.temperature, **summary(g), "missing": len(p.matchups) - len(g),
         "truncated": p.truncated}
        for p, g in games if g
    ]  # fmt: skip
    tests: list[dict[str, Any]] = []
    for (p, g), (q, h) in combinations(games, 2):
        tested = Shares(g).against(Shares(h)) if p.temperature == q.temperature else None
        if tested is not None:
            metric = f"temperature {p.temperature:g}"
            tests.append({"a": p.model, "b": q.model, "metric": metric, **tested.as_dict()})
    figures: dict[str, Any] = {"win_rates": rates, "comparisons": corrected(tests)}
    if canary is not None and (constant := _games(canary)):
        alone = share_by_cluster([g.share == 1 for g in constant], [g.prompt for g in constant]).as_dict()
        figures["canary"] = {"text": canary.matchups[0].own, **summary(constant), "wins_alone": alone}
    if people:
        figures["people"] = _beside(played, people).as_dict()
    return figures


def _beside(played: Sequence[ModelGames], people: Sequence[MatchResult | None]) -> Agreement:
    """The judge compared with people, on every matchup of different texts that both have judged, once."""
    matchups, ours = [m for p in played for m in p.matchups], [r for p in played for r in p.results]
    both = {
        (matchup.prompt, matchup.own, matchup.other): (mine.share, theirs.share)
        for matchup, mine, theirs in zip(matchups, ours, people, strict=True)
        if mine is not None and theirs is not None and matchup.own != matchup.other
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


def _row(played: ModelGames, place: int) -> dict[str, Any]:
    matchup, result = played.matchups[place], played.results[place]
    row = {"model": played.model, "temperature": played.temperature, "name": str(matchup.source),
           "prompt": shown(matchup.prompt), "completion": matchup.own, "other": matchup.other,
           "share": None if result is None else result.share}  # fmt: skip
    return row if result is None or result.orders is None else {**row, "orders": list(result.orders)}
