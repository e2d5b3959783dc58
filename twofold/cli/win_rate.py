"""`twofold evaluate --task win-rate`: answers at several temperatures against others, before a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from twofold.cli.build import open_reward
from twofold.cli.model import open_model
from twofold.cli.run_files import is_run, keep, short
from twofold.cli.terminal import counted, results, table
from twofold.errors import DataError, RecipeError

if TYPE_CHECKING:
    from twofold.cli.evaluate_options import Options
    from twofold.cli.evaluate_tables import EvaluationOutput
    from twofold.evaluation.win_rate import Agreement, Game
    from twofold.judges.matchups import MatchResult, Matchup, Referee
    from twofold.judges.questions import Candidate, Question
    from twofold.ledger import Ledger
    from twofold.progress import Progress
    from twofold.records import Record

Heat = float


@dataclass(frozen=True)
class ModelGames:
    """A model at a temperature: its contests, what came of them, how many answers were cut off."""

    model: str
    heat: Heat
    contests: Sequence[Matchup]
    outcomes: Sequence[MatchResult | None]
    truncated: int


@dataclass(frozen=True)
class Means:
    """What contests are played with; `folder` holds the ledger."""

    options: Options
    progress: Progress
    ledger: Ledger
    resources: ExitStack

    def referee(self) -> Referee:
        from twofold.judges.matchups import open_referee
        from twofold.judges.registry import JudgeResources as Judging

        reward = partial(open_reward, max_length=self.options.max_length)
        means = Judging(reward, lambda: self.ledger, self.options.rubric)
        return open_referee(str(self.options.judge), means, self.resources)


def measured(
    given: Options, records: Sequence[Record], progress: Progress
) -> tuple[dict[str, Any], Callable[[], EvaluationOutput]]:
    """What the figures are of, and what shows them. Everything that can be wrong is, before anything is drawn."""
    from twofold.judges.matchups import open_people
    from twofold.ledger import Ledger

    if given.judge is None:
        remedy = "as --judge reward:FOLDER, llm:URL#NAME or human:FILE"
        raise RecipeError("nobody judges", where="--task win-rate", remedy=remedy)
    heats, questions = temperatures(given.temperatures), _questions(given, records)
    with ExitStack() as resources:
        ledger = resources.enter_context(Ledger(ledger_of(given, resources)))
        means = Means(given, progress, ledger, resources)
        referee = None if given.judge.startswith("human:") else means.referee()
        people = None if given.people is None else open_people(Path(given.people), resources)
        fields = _drawn(means, questions, heats)
        contests = [c for _, _, several, _ in fields for c in several]
        if given.out is not None:
            _write_comparisons(given.out, contests)
        referee = referee or means.referee()
        played = [ModelGames(model, heat, c, referee.outcomes(c, progress), cut) for model, heat, c, cut in fields]
        canary = _canary(means, referee, played[: len(heats)][0].contests)
        said = [] if people is None else [o for p in played for o in people.outcomes(p.contests, progress)]
    about: dict[str, Any] = {
        "task": given.task, "judge": dict(referee.provenance), "against": _opponent(given), "temperatures": heats,
        "samples": given.samples or 1, "seed": given.seed, "max_new_tokens": given.max_new_tokens,
    }  # fmt: skip
    told = _figures(played, canary, said)
    _warn(told, progress, against=given.against is not None)
    return about, lambda: _summarize(given, told, played)


def ledger_of(given: Options, resources: ExitStack) -> Path:
    """Where what is asked and drawn is kept: in --out, which whoever asks a server must name."""
    if given.out is not None:
        return given.out / "ledger.jsonl"
    if any("://" in str(name) for name in (given.judge, given.against, *given.models)):
        remedy = "add --out FOLDER: the same command then goes on where a broken one stopped"
        raise RecipeError("nowhere to keep what a server answers", where="twofold evaluate", remedy=remedy)
    return Path(resources.enter_context(TemporaryDirectory())) / "ledger.jsonl"


def temperatures(asked: str) -> list[Heat]:
    """From what the terminal says, in its order."""
    try:
        found = list(dict.fromkeys(float(part) for part in asked.split(",")))
    except ValueError:
        raise RecipeError(f"{asked!r} is no list of numbers", where="--temperatures", remedy="write 0,0.5,1") from None
    if not all(0 <= heat < 100 for heat in found):
        raise RecipeError("must be ≥ 0", where="--temperatures")
    return found


def _questions(given: Options, records: Sequence[Record]) -> list[Question]:
    """The rows as prompts; the best answer of a row, if nothing else is the opponent, is its only candidate."""
    from twofold.judges.questions import Candidate, Question
    from twofold.records import Labelled, Task, completion_fields

    found: list[Question] = []
    for record in records:
        texts = completion_fields(record)
        row = not given.against
        if row and (not texts or isinstance(record, Labelled)):
            remedy = "rows need an answer to win against; or name a model: --against MODEL"
            raise DataError("has no answer to compare with", where=str(record.source), remedy=remedy)
        told = isinstance(record, Task) and (not row or str(given.judge).startswith("verifier"))
        other = (Candidate(texts[0][1], {"row": record.source.row, "field": texts[0][0]}),) if row else ()
        found.append(Question(record.prompt, record.source, texts[0][1] if told else None, other))
    return found


def _drawn(
    means: Means, questions: Sequence[Question], heats: Sequence[Heat]
) -> list[tuple[str, Heat, list[Matchup], int]]:
    """(model, temperature, contests, answers cut off). An opponent that is a model answers at the same temperature."""
    given = means.options
    against = None if given.against is None else _answered(means, given.against, questions, heats)
    found: list[tuple[str, Heat, list[Matchup], int]] = []
    for model in dict.fromkeys(given.models):
        own = _answered(means, model, questions, heats)
        for heat in heats:
            pairs = [
                (question, answer, other)
                for i, question in enumerate(questions)
                for answer, other in zip(
                    own[heat][i], against[heat][i] if against else question.candidates * len(own[heat][i]), strict=True
                )
            ]
            cut = sum(answer.truncated for _, answer, _ in pairs)
            found.append((model, heat, [_contest(q, a.text, o.text) for q, a, o in pairs], cut))
    return found


def _contest(question: Question, own: str, other: str) -> Matchup:
    from twofold.judges.matchups import Matchup

    return Matchup(question.prompt, own, other, question.source, question.answer)


def _answered(
    means: Means, model: str, questions: Sequence[Question], heats: Sequence[Heat]
) -> dict[Heat, list[list[Candidate]]]:
    """The answers of a model to every question by temperature; greedy ones once. Raises ServerError for silence."""
    from twofold.client.server import Endpoint, Server, is_url
    from twofold.datagen.sample import Answerer, Draw, LocalAnswerer, ServerAnswerer
    from twofold.errors import ServerError
    from twofold.sampling.base import Sampling

    answerer: Answerer
    if is_url(model):
        answerer = ServerAnswerer(means.resources.enter_context(Server(Endpoint.of(model))))
    else:
        answerer = LocalAnswerer(model, *open_model(model))
    found: dict[Heat, list[list[Candidate]]] = {}
    for heat in heats:
        means.progress.note(f"{model}: {counted(len(questions), 'prompt')} at temperature {heat:g}")
        sampling = Sampling(temperature=heat, max_new_tokens=means.options.max_new_tokens)
        draw = Draw(sampling, 1 if heat == 0 else means.options.samples or 1, means.options.seed)
        answers = [a for a in answerer.answers(questions, draw, means.ledger, means.progress) if a is not None]
        if len(answers) < len(questions):
            remedy = "run the same command again: only what is missing is asked for"
            raise ServerError(f"{len(questions) - len(answers)} answers are missing", where=model, remedy=remedy)
        found[heat] = answers
    return found


def _canary(means: Means, referee: Referee, contests: Sequence[Matchup]) -> ModelGames | None:
    """A constant answer in the model's place; people are not bothered with it."""
    from dataclasses import replace

    text = means.options.canary
    if not text or referee.provenance["kind"] == "human":
        return None
    firsts = {(str(c.source), c.prompt, c.other): replace(c, own=text) for c in reversed(contests)}
    constant = list(firsts.values())[::-1]
    return ModelGames("canary", 0.0, constant, referee.outcomes(constant, means.progress), 0)


def _games(played: ModelGames) -> list[Game]:
    from twofold.evaluation.win_rate import Game

    seen: dict[str, int] = {}
    found: list[Game] = []
    for contest, outcome in zip(played.contests, played.outcomes, strict=True):
        name = str(contest.source)
        nth = seen[name] = seen.get(name, 0) + 1
        if outcome is not None:
            lengths = len(contest.own), len(contest.other)
            found.append(Game((name, nth), contest.prompt, outcome.share, *lengths, outcome.orders))
    return found


def _figures(
    played: Sequence[ModelGames], canary: ModelGames | None, people: Sequence[MatchResult | None]
) -> dict[str, Any]:
    from twofold.evaluation.figures import corrected
    from twofold.evaluation.win_rate import Shares, summary
    from twofold.statistics import wilson

    games = [_games(p) for p in played]
    if not any(games):
        raise DataError("no contest has a verdict", where="--judge", remedy="label some of OUT/comparisons.jsonl first")
    rates = [
        {"model": p.model, "temperature": p.heat, **summary(g), "missing": len(p.contests) - len(g),
         "truncated": p.truncated}
        for p, g in zip(played, games, strict=True) if g
    ]  # fmt: skip
    tests: list[dict[str, Any]] = []
    for (p, g), (q, h) in combinations(zip(played, games, strict=True), 2):
        tested = Shares(g).against(Shares(h)) if p.heat == q.heat else None
        if tested is not None:
            tests.append({"a": p.model, "b": q.model, "metric": f"temperature {p.heat:g}", **tested.as_dict()})
    told: dict[str, Any] = {"win_rates": rates, "comparisons": corrected(tests)}
    if canary is not None and (constant := _games(canary)):
        alone = wilson(sum(game.share == 1 for game in constant), len(constant)).as_dict()
        told["canary"] = {"text": canary.contests[0].own, **summary(constant), "wins_alone": alone}
    if people:
        told["people"] = _beside(played, people).as_dict()
    return told


def _beside(played: Sequence[ModelGames], people: Sequence[MatchResult | None]) -> Agreement:
    """The judge beside people, on every contest of different texts that both have seen, once."""
    from twofold.evaluation.win_rate import agreement

    contests, ours = [c for p in played for c in p.contests], [o for p in played for o in p.outcomes]
    both = {
        (contest.prompt, contest.own, contest.other): (mine.share, theirs.share)
        for contest, mine, theirs in zip(contests, ours, people, strict=True)
        if mine is not None and theirs is not None and contest.own != contest.other
    }
    if not both:
        remedy = "label the comparisons of this evaluation: OUT/comparisons.jsonl"
        raise DataError("none of the contests has their verdict", where="--people", remedy=remedy)
    return agreement(*zip(*both.values(), strict=True))


def _warn(told: Mapping[str, Any], progress: Progress, *, against: bool) -> None:
    """A tie with a row's own answer speaks against the judge; a tie with a model may be that model's fault."""
    from twofold.evaluation.win_rate import HIGH

    canary = told.get("canary")
    if canary is not None and (canary["wins_alone"] if against else canary)["low"] > HIGH:
        progress.warn(
            f"the judge gives {canary['value']:.1%} to an answer that says nothing (the canary): its win rates may not "
            "mean what they seem to"
        )
    missing = sum(rate["missing"] for rate in told["win_rates"])
    if missing:
        progress.warn(f"{counted(missing, 'contest')} without a verdict are left out of n")
    if any(rate["length_controlled"]["extrapolated"] for rate in told["win_rates"]):
        progress.warn("answers are almost always longer (or shorter) than the other: LC reaches beyond what was seen")


def _summarize(given: Options, told: dict[str, Any], played: Sequence[ModelGames]) -> EvaluationOutput:
    """The figures and the contests behind them, once shown and written to the runs."""
    from twofold.cli.evaluate_options import command
    from twofold.cli.evaluate_tables import show_tests

    _show(told)
    if told["comparisons"]:
        show_tests(told["comparisons"], {c["metric"] for c in told["comparisons"]})
    for model in dict.fromkeys(given.models):
        if is_run(model):
            rows = [rate for rate in told["win_rates"] if rate["model"] == model]
            against = f"{_opponent(given)}, judged by {short(str(given.judge))}"
            about = {"against": against, "command": command(given)}
            keep(Path(model) / "win_rates.json", [{**about, **row} for row in rows], "against")
    return told, [_row(p, i) for p in played for i in range(len(p.contests))]


def _row(played: ModelGames, place: int) -> dict[str, Any]:
    from twofold.judges.questions import shown

    contest, outcome = played.contests[place], played.outcomes[place]
    row = {"model": played.model, "temperature": played.heat, "name": str(contest.source),
           "prompt": shown(contest.prompt), "completion": contest.own, "other": contest.other,
           "share": None if outcome is None else outcome.share}  # fmt: skip
    return row if outcome is None or outcome.orders is None else {**row, "orders": list(outcome.orders)}


def _write_comparisons(out: Path, contests: Sequence[Matchup]) -> None:
    from twofold.judges.matchups import unjudged
    from twofold.ledger import write_rows

    write_rows(out / "comparisons.jsonl", unjudged(contests))


def _opponent(given: Options) -> str:
    return short(given.against) if given.against else f"the answers of {short(str(given.tasks))}"


def _show(told: Mapping[str, Any]) -> None:
    from twofold.reports.tables import interval, percent
    from twofold.statistics import Estimate

    def figure(row: Mapping[str, Any]) -> tuple[str, str]:
        estimate = Estimate(row["value"], row["low"], row["high"], row["n"], None, "")
        return percent(estimate.value), interval(estimate)

    ordered = any("orders" in rate for rate in told["win_rates"])
    heads = ("model", "#T", "#n", "#win rate", "95% interval", "#ties", "#LC", "95% interval", "#length")
    rows = table(*heads, *(["#orders agree"] * ordered))
    named = [(r["model"], f"{r['temperature']:g}", r) for r in told["win_rates"]]
    named += [("canary", "", told["canary"])] if "canary" in told else []
    for name, heat, rate in named:
        length = f"{rate['length']:.0f} : {rate['other_length']:.0f}"
        controlled = rate["length_controlled"]
        cells = (str(rate["ties"]), *(("—", "") if controlled["extrapolated"] else figure(controlled)), length)
        agreed = [percent(rate["orders"]["value"]) if "orders" in rate else ""] * ordered
        rows.add_row(name, heat, str(rate["n"]), *figure(rate), *cells, *agreed)
    out = results()
    out.print(rows, markup=False)
    if "people" in told:
        kappa, same = told["people"]["kappa"], told["people"]["same"]
        words = f"judge and people: κ {kappa['value']:.2f} [{kappa['low']:.2f}, {kappa['high']:.2f}]"
        out.print(f"{words}, the same verdict on {same['count']} of {same['n']}", markup=False)
    out.print("ties count ½; LC: at equal lengths; length: characters, model : other", markup=False, style="dim")
