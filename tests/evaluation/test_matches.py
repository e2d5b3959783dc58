"""Matches as they are paired, stored and read again; who may judge them; and the tasks of an evaluation by name."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twofold.errors import DataError, RecipeError
from twofold.evaluation import likelihood, matches
from twofold.evaluation.matches import (
    Drawn,
    MatchSettings,
    ModelGames,
    as_row,
    is_by_people,
    meet,
    open_judges,
    result_of,
    rows_of_games,
    write_comparisons,
)
from twofold.evaluation.parts import WHOLE, Part
from twofold.evaluation.players import Player
from twofold.evaluation.tasks import ANSWERS, PASS_AT_K, TASKS
from twofold.judges.base import JudgeResources
from twofold.judges.matchups import MatchResult, Matchup
from twofold.judges.questions import Question
from twofold.judges.registry import WIN_RATE
from twofold.ledger import Ledger
from twofold.records import Message, Source

CHAT = (Message("user", "q"),)
TURNS = (Message("assistant", "a", '{"thinking": "t"}'),)


def matchup(row: int, own: Any = "aa", other: Any = "b", prompt: Any = "q") -> Matchup:
    return Matchup(prompt, own, other, Source("f.jsonl", row))


RESULTS = (
    (None, {"share": None, "orders": None}),
    (MatchResult(1.0), {"share": 1.0, "orders": None}),
    (MatchResult(0.5, ("A", "B")), {"share": 0.5, "orders": ["A", "B"]}),
    (MatchResult(0.0, None, 0.25), {"share": 0.0, "orders": None, "probability": 0.25}),
    (MatchResult(1.0, votes=(1.0, None)), {"share": 1.0, "orders": None, "votes": [1.0, None]}),
)


@pytest.mark.parametrize(("result", "row"), RESULTS)
def test_a_result_is_read_again_from_its_row(result: MatchResult | None, row: dict[str, Any]) -> None:
    assert as_row(result) == row
    assert result_of(json.loads(json.dumps(row))) == result


def test_what_was_judged_is_read_again_with_its_counts() -> None:
    player = Player(model="m", temperature=0.7)
    pairs = [matchup(1), matchup(1, "c"), matchup(2, TURNS, "b", CHAT), matchup(3)]
    cut = [(True, False), (True, True), (False, False), (False, False)]
    results = [MatchResult(1.0, ("A", "A"), 0.75), MatchResult(0.0), MatchResult(0.5, votes=(1.0, 0.0)), None]
    drawn = Drawn(player, pairs, cut, "w")
    assert (drawn.model, drawn.temperature, drawn.weights) == ("m", 0.7, "w")
    rows = json.loads(json.dumps(drawn.judged(results)))
    assert rows[0] == {
        "source": ["f.jsonl", 1], "prompt": "q", "own": "aa", "other": "b", "cut": True, "other_cut": False,
        "share": 1.0, "orders": ["A", "A"], "probability": 0.75,
    }  # fmt: skip
    games = ModelGames.of(rows, {"model": "m", "temperature": 0.7})
    assert (games.matchups, games.results) == (pairs, results)
    assert (games.model, games.temperature, games.truncated, games.other_truncated, games.fixed) == (
        "m",
        0.7,
        2,
        1,
        False,
    )
    assert ModelGames.of([], {"model": "m", "temperature": None, "fixed": True}).fixed
    played = games.games
    assert [(g.item, g.share, g.orders, g.probability, g.votes) for g in played] == [
        (("f.jsonl:1", 1), 1.0, ("A", "A"), 0.75, ()),
        (("f.jsonl:1", 2), 0.0, None, None, ()),
        (("f.jsonl:2", 1), 0.5, None, None, (1.0, 0.0)),
    ]
    assert [(g.length, g.other) for g in played][:2] == [(2, 1), (1, 1)]
    assert played[2].length == len("a")  # of the answer, not of its reasoning
    shown = rows_of_games(games)
    assert shown[0] == {
        "model": "m", "temperature": 0.7, "name": "f.jsonl:1", "prompt": "q", "completion": "aa", "other": "b",
        "share": 1.0, "orders": ["A", "A"], "probability": 0.75,
    }  # fmt: skip
    assert {k: v for k, v in shown[3].items() if k in ("share", "orders")} == {"share": None}
    assert shown[2]["votes"] == [1.0, 0.0]


ANSWERED: dict[str, list[list[tuple[str, bool]]]] = {
    "m": [[("a", True), ("b", False), ("c", False)], [("d", False)]],
    "n": [[("x", False), ("y", True)], [("z", True)]],
    "reference": [[("4", False)], [("5", False)]],
}


class Book:
    """Answers of two players to two questions: the second player has fewer."""

    questions = (Question("p", Source("f", 1), "4"), Question("q", Source("f", 2), None))

    def of(self, player: Player) -> list[list[SimpleNamespace]]:
        return [[SimpleNamespace(completion=c, truncated=t) for c, t in row] for row in ANSWERED[player.model]]

    def weights(self, player: Player) -> str:
        return f"weights of {player.model}"


def test_who_has_fewer_answers_repeats_them() -> None:
    met = meet(cast(Any, Book()), Player(model="m"), Player(model="n"), ["verifier"])
    assert [(m.own, m.other, m.source.row, m.truth) for m in met.matchups] == [
        ("a", "x", 1, "4"), ("b", "y", 1, "4"), ("c", "x", 1, "4"), ("d", "z", 2, None),
    ]  # fmt: skip
    assert met.cut == [(True, False), (False, True), (False, False), (False, True)]
    assert (met.player.model, met.weights) == ("m", "weights of m")


@pytest.mark.parametrize(
    ("own", "other", "judge", "truth"),
    [
        ("m", "n", "llm:http://h/v1#j", "4"),
        ("m", "reference", "llm:http://h/v1#j", None),
        ("reference", "m", "llm:http://h/v1#j", None),
        ("m", "reference", "verifier", "4"),
    ],
)
def test_a_judge_reads_the_reference_answer_unless_it_plays(own: str, other: str, judge: str, truth: Any) -> None:
    met = meet(cast(Any, Book()), Player(model=own), Player(model=other), [judge])
    assert met.matchups[0].truth == truth


def test_comparisons_are_written_where_there_is_a_folder(tmp_path: Path) -> None:
    write_comparisons([matchup(1), matchup(2, "c")], MatchSettings(judge="human:f", out=tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "comparisons.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["q", "q"]
    write_comparisons([matchup(1)], MatchSettings(judge="human:f"))


def test_people_judge_outside_of_shards(tmp_path: Path) -> None:
    people = MatchSettings(judge=["llm:http://h/v1#j", "human:f"])
    assert is_by_people(people, WHOLE)
    assert not is_by_people(MatchSettings(judge="llm:http://h/v1#j"), WHOLE)
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        assert not is_by_people(MatchSettings(judge="llm:http://h/v1#human:j"), Part(ledger=ledger))
        with pytest.raises(RecipeError, match="people judge what all shards have drawn") as refused:
            is_by_people(people, Part(ledger=ledger))
    assert refused.value.where == "--judge llm:http://h/v1#j human:f"
    assert refused.value.remedy == "leave --shard out, or judge with a model"


def test_judges_are_named_once() -> None:
    assert MatchSettings(judge="a").judges == ("a",)
    assert MatchSettings(judge=["a", "b", "a"]).judges == ("a", "b")


@pytest.mark.parametrize(
    ("names", "rubrics"),
    [
        (["llm:http://h/v1#j"], ["r"]),
        (["llm:http://h/v1#j", "reward:m"], ["r", None]),
        (["reward:m", "llm:http://h/v1#j", "llm:http://h/v1#k"], [None, "r", "r"]),
        (["reward:m", "reward:n"], ["r", "r"]),  # which refuse it
    ],
)
def test_a_rubric_is_for_judges_behind_servers(
    names: list[str], rubrics: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(matches, "open_panel", lambda *arguments: opened.append(arguments))
    common, stack = JudgeResources(WIN_RATE, pytest.fail), ExitStack()
    open_judges(names, common, "r", stack)
    ((told, resources, same),) = opened
    assert (told, same) == (names, stack)
    assert [each.rubric for each in resources] == rubrics
    assert {each.place for each in resources} == {WIN_RATE}


def test_tasks_measure_and_count_by_their_own_halves() -> None:
    by_batch = {name for name, halves in TASKS.items() if halves.grain is likelihood.grain}
    assert by_batch == {"truthfulqa", "rewardbench", "rewardbench2", "preference", "perplexity"}
    halves = [*TASKS.values(), ANSWERS, PASS_AT_K]
    assert len({half.measure for half in halves}) == len({half.figures for half in halves}) == len(halves)
    rooms = {half.measure.__module__ for half in halves}
    assert all(half.settings.__module__ in rooms for half in halves)
    for name, items in (*((name, half.items) for name, half in TASKS.items()), ("answers", PASS_AT_K.items)):
        with pytest.raises(DataError, match="no rows") as refused:
            items([])
        assert refused.value.where == name
    records = [cast(Any, SimpleNamespace(prompt=p, n=n)) for n, p in enumerate("abab")]
    from twofold.evaluation import frontier

    firsts: Any = frontier.prompts_of(records)
    assert [record.n for record in firsts] == [0, 1]
