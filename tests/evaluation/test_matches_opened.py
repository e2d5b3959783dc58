"""What matches, contests of judges and their tables are opened with: every setting arrives."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.client.http import RetrySettings
from twofold.errors import DataError
from twofold.evaluation import frontier, judging, matches, win_rate
from twofold.evaluation.figures import BinaryOutcomes
from twofold.evaluation.frontier import FrontierSettings, ModelCheckpoint
from twofold.evaluation.games import Game
from twofold.evaluation.judging import JudgeSettings, measure_judges
from twofold.evaluation.matches import MatchSettings, ModelGames, open_book, open_judge
from twofold.evaluation.parts import WHOLE, Part
from twofold.evaluation.player_answers import Drawing
from twofold.evaluation.prompting import Prompter
from twofold.evaluation.win_rate import WinRateSettings
from twofold.judges.matchups import MatchResult, Matchup
from twofold.ledger import Ledger
from twofold.records import Candidate, Pair, Request, Source, Task

RETRY = RetrySettings()
RECORDS = [Request("p", Source("f", 1)), Pair("q", "a", "b", Source("f", 2)), Task("r", "4", Source("f", 3))]
HANDED: dict[str, Any] = {"max_new_tokens": 9, "max_length": 77, "style": "text", "seed": 5}


def test_a_book_has_the_settings_of_its_matches_and_the_rows_of_its_part(tmp_path: Path) -> None:
    heard = Heard()
    how = MatchSettings(judge="reward:r", samples=3, examples="e.jsonl", progress=heard, **HANDED)
    with Ledger(tmp_path / "ledger.jsonl") as ledger, ExitStack() as stack:
        book = open_book(RECORDS, Part(1, 3), how, ledger, stack)
    assert book.how == Drawing(samples=3, progress=heard, **HANDED)
    assert [q.prompt for q in book.questions] == ["q", "r"]
    problems = [Task(record.prompt, "", record.source) for record in RECORDS]
    want = Prompter(problems, style="text", examples="e.jsonl", seed=5, any_rows=True)
    assert book._prompter == want


def test_a_judge_of_matches_has_length_rubric_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[Any]()
    monkeypatch.setattr(matches, "open_judges", lambda *given: opened.append(given))
    monkeypatch.setattr(matches, "open_reward", lambda folder, **how: (folder, how))
    ledger, stack = object(), ExitStack()
    how = MatchSettings(judge=["a", "b"], max_length=77, rubric="r.md", retry=RETRY)
    open_judge(how, ledger, stack)  # type: ignore[arg-type]  # any
    ((names, common, rubric, same),) = opened
    assert (names, rubric, same) == (("a", "b"), "r.md", stack)
    assert (common.place, common.retry) == (matches.WIN_RATE, RETRY)
    assert common.retry is RETRY
    assert common.open_ledger() is ledger
    assert common.open_reward("r") == ("r", {"max_length": 77})


@pytest.mark.parametrize(
    ("names", "rubrics"),
    [
        (["reward:m", "llm:http://h/v1#j"], {"reward:m": None, "llm:http://h/v1#j": "r.md"}),
        (["reward:m", "reward:n", "reward:m"], {"reward:m": "r.md", "reward:n": "r.md"}),
        (["reward:m"], {"reward:m": "r.md"}),
    ],
)
def test_judges_on_pairs_have_the_same(
    names: list[str], rubrics: dict[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several have a ledger each."""
    opened, own = list[Any](), list[str]()
    referee = SimpleNamespace(provenance={}, outcomes=lambda pairs, progress: [], spend=list)

    def opening(told: Any, common: Any, rubric: Any, stack: Any) -> Any:
        opened.append((told, common, rubric))
        return referee

    monkeypatch.setattr(judging, "open_judges", opening)
    monkeypatch.setattr(judging, "open_reward", lambda folder, **how: (folder, how))
    monkeypatch.setattr(judging, "with_own_ledger", lambda common, name, stack: own.append(name) or common)
    how = JudgeSettings(max_length=77, rubric="r.md", retry=RETRY, out=tmp_path)
    found = measure_judges(names, [], how, WHOLE)
    assert list(found) == [told[0] for told, _, _ in opened] == list(rubrics)
    assert {told[0]: rubric for told, _, rubric in opened} == rubrics
    assert own == (list(rubrics) if len(rubrics) > 1 else [])
    assert {(common.place.where, common.retry is RETRY) for _, common, _ in opened} == {(matches.WIN_RATE.where, True)}
    assert opened[0][1].open_reward("r") == ("r", {"max_length": 77})


def test_a_rater_of_a_frontier_has_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[Any]()
    kind = SimpleNamespace(asks_server=False, open=lambda how, stack: opened.append(how))
    monkeypatch.setattr(frontier, "parse_judge", lambda name, place: kind)
    monkeypatch.setattr(frontier, "open_reward", lambda folder, **how: (folder, how))
    how = FrontierSettings(reward="r", reference="m", max_length=77, rubric="r.md", retry=RETRY, out=tmp_path)
    with ExitStack() as stack:
        frontier._open_rater(how, WHOLE, stack)
        (common,) = opened
        assert (common.rubric, common.retry is RETRY, common.place) == ("r.md", True, frontier.FRONTIER)
        assert common.open_reward("r") == ("r", {"max_length": 77})
        assert common.open_ledger().path == tmp_path / "ledger.jsonl"
        ledger: Any = object()
        frontier._open_rater(how, Part(ledger=ledger), stack)
        assert opened[1].open_ledger() is ledger


def test_a_point_of_a_frontier_is_drawn_and_scored_as_its_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """At temperature 1; a verifier gets the reference answers of problems."""
    asked, calls = list[Any](), dict[str, Any]()

    class Judging:
        provenance = {}  # noqa: RUF012  # of one judge

        def scores(self, questions: Any, progress: Any) -> list[Any]:
            asked.extend(questions)
            return [[1.0] * len(q.candidates) for q in questions]

    def sample(prompts: Any, **how: Any) -> list[list[Any]]:
        calls["sample"] = (prompts, how)
        return [[SimpleNamespace(tokens=f"{p}{n}") for n in range(2)] for p in prompts]

    def sampler(sampling: Any, note: Any) -> Any:
        calls["sampling"] = sampling
        return SimpleNamespace(sample=sample)

    encoder = SimpleNamespace(prompt=lambda prompt: prompt.upper(), text=lambda tokens: f"said {tokens}")
    model: Any = SimpleNamespace(name="m", encoder=encoder, sampler=sampler)
    monkeypatch.setattr(frontier, "measures", lambda *given: [{"given": given[:3]} for _ in given[2]])
    how = FrontierSettings(reward="r", reference="m", max_new_tokens=9, seed=5)
    policies: Any = ("own", "base")
    line = frontier._Measure(how, RECORDS, Judging(), WHOLE).line(model, policies, 2, {"step": 3})
    assert calls["sampling"] == frontier.Sampling(max_new_tokens=9)
    assert calls["sample"] == (["P", "Q", "R"], {"samples": 2, "seed": (5, 0)})
    assert [(q.prompt, q.answer, list(q.candidates)) for q in asked] == [
        (p, a, [Candidate(f"said {p.upper()}{n}", {}) for n in range(2)])
        for p, a in (("p", None), ("q", None), ("r", "4"))
    ]
    assert (line.about, line.weights, len(line.rows)) == ({"step": 3}, "", 3)
    assert line.rows[0]["given"] == ("own", "base", ["P", "Q", "R"])


def test_a_checkpoint_has_its_step_in_its_name() -> None:
    assert (ModelCheckpoint("m").name, ModelCheckpoint("m", 0).name) == ("m", "m, step 0")


def match(own: str, other: str = "b", prompt: str = "p", row: int = 1) -> Matchup:
    return Matchup(prompt, own, other, Source("f", row))


def played(*several: tuple[Matchup, MatchResult | None]) -> ModelGames:
    return ModelGames("m", 0.0, [m for m, _ in several], [r for _, r in several], 0)


def test_a_judge_is_compared_with_people_where_both_have_a_verdict_on_different_texts() -> None:
    """The same texts twice are once, with the later verdict."""
    won, lost = MatchResult(1.0), MatchResult(0.0)
    games = played((match("a"), won), (match("c"), None), (match("b"), won), (match("d", prompt="q"), lost),
                   (match("e"), lost), (match("e"), won))  # fmt: skip
    found = win_rate._beside([games], [won, won, lost, won, None, lost])
    assert found == win_rate.agreement([1.0, 0.0, 1.0], [1.0, 1.0, 0.0], ["p", "q", "p"])
    with pytest.raises(DataError) as refused:
        win_rate._beside([games], [None] * 6)
    assert (refused.value.what, refused.value.where) == ("none of the contests has their verdict", "--people")


def test_a_constant_answer_takes_the_first_of_equal_matchups() -> None:
    referee: Any = None
    several = [match("a"), match("c"), match("a", "d"), match("a", row=2), match("a", prompt="q")]
    made = win_rate._canary(WinRateSettings(judge="reward:r", canary="x"), referee, several)
    assert made is not None
    assert [(m.own, m.other, m.source.row, m.prompt) for m in made.matchups] == [
        ("x", "b", 1, "p"), ("x", "d", 1, "p"), ("x", "b", 2, "p"), ("x", "b", 1, "q"),
    ]  # fmt: skip
    assert made.cut == [(False, False)] * 4
    for how in (WinRateSettings(judge="reward:r", canary=""), WinRateSettings(judge=["a", "human:f"])):
        assert win_rate._canary(how, referee, several) is None


@pytest.mark.parametrize(
    ("low", "alone", "against", "warned"),
    [(0.11, 0.0, None, True), (0.1, 0.5, None, False), (0.5, 0.1, "m", False), (0.0, 0.11, "m", True)],
)
def test_a_canary_that_wins_is_warned_of(low: float, alone: float, against: str | None, warned: bool) -> None:
    """Ties with a row's own answer count, with a model's they do not."""
    heard = Heard()
    figures = {"canary": {"value": 0.25, "low": low, "wins_alone": {"low": alone}}, "win_rates": []}
    win_rate._warn(figures, WinRateSettings(judge="reward:r", against=against, progress=heard))
    text = "the judge gives 25.0% to an answer without content (the canary): its win rates may not be reliable"
    assert heard.warnings == ([text] if warned else [])


def test_missing_verdicts_and_lengths_out_of_reach_are_warned_of() -> None:
    heard = Heard()
    rates = [{"missing": n, "length_controlled": {"extrapolated": n > 1}} for n in (1, 2)]
    win_rate._warn({"win_rates": rates}, WinRateSettings(judge="reward:r", progress=heard))
    assert heard.warnings == [
        "3 contests without a verdict are left out of n",
        "answers are almost always longer (or shorter) than the other: LC reaches beyond what was seen",
    ]
    win_rate._warn({"win_rates": [{"missing": 0, "length_controlled": {"extrapolated": False}}]},
                   WinRateSettings(judge="reward:r", progress=heard))  # fmt: skip
    assert len(heard.warnings) == 2


def games(model: str, temperature: float | None, shares: list[float], *, fixed: bool = False) -> ModelGames:
    several = [match("a", prompt=f"p{n}", row=n) for n in range(len(shares))]
    return ModelGames(model, temperature, several, [MatchResult(s) for s in shares], 0, fixed)


def test_players_are_compared_at_one_temperature_or_at_a_fixed_one() -> None:
    every = [games("m", 0.5, [1, 0]), games("n", 0.5, [1, 1]), games("n", 1.0, [0, 0]),
             games("k", 0.25, [1, 0], fixed=True), games("s", None, [1, 0])]  # fmt: skip
    tests = win_rate._figures(every, None, [], ("j",))["comparisons"]
    found = [(t["a"], t["b"], t["metric"]) for t in tests]
    assert found[0] == ("m", "n", "temperature 0.5")
    assert set(found[1:]) == {
        (f"{name}@temperature:{heat}", "k@temperature:0.25", "win rate")
        for name, heat in (("m", "0.5"), ("n", "0.5"), ("n", "1"))
    } | {("k@temperature:0.25", "s", "win rate")}
    assert tests[0]["difference"]["value"] == 0.5


def test_judges_are_tested_on_pairs_that_both_decided() -> None:
    """Rows of one prompt are alike."""
    mine = [(1.0, "p"), (0.0, "p"), (1.0, "q"), (None, "r"), (0.5, "s")]
    theirs = [(0.0, "p"), (0.0, "p"), (1.0, "q"), (1.0, "r"), (1.0, "s")]
    lines = {
        name: [{"share": share, "prompt": prompt} for share, prompt in rows]
        for name, rows in (("a", mine), ("b", theirs))
    }
    (found,) = judging._tests(lines)
    prompts = ["p", "p", "q", "s"]
    want = BinaryOutcomes([True, False, True, False], prompts).against(
        BinaryOutcomes([False, False, True, True], prompts)
    )
    assert found == {"a": "a", "b": "b", "metric": "accuracy", **want.as_dict()}
    assert judging._tests({"a": lines["a"][3:4], "b": lines["b"][3:4]}) == []


def test_lengths_of_judged_answers_are_those_of_their_texts() -> None:
    turn = [{"role": "assistant", "content": "abc", "reasoning_content": "long"}]
    row = {"source": "f:1", "prompt": "p", "chosen": turn, "rejected": "b", "share": 1.0, "orders": ["A", "A"],
           "probability": 0.75, "votes": [1.0, None]}  # fmt: skip
    assert judging.games_of([row]) == [Game("f:1", "p", 1.0, 3, 1, ("A", "A"), 0.75, (1.0, None))]
