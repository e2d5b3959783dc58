"""How win rates, contests and benchmarks measure: who plays whom at which temperature, when, and as which lines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.errors import RecipeError
from twofold.evaluation import benchmark_matches, contest, win_rate
from twofold.evaluation.benchmark_matches import BenchmarkSettings, measure_matches, sampling_of
from twofold.evaluation.contest import ContestSettings, measure_contest
from twofold.evaluation.games import Game
from twofold.evaluation.matches import Drawn
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.players import Player
from twofold.evaluation.published_rows import BenchmarkItem
from twofold.evaluation.win_rate import WinRateSettings, measure_win_rate
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup, Referee
from twofold.judges.questions import Question
from twofold.ledger import Ledger
from twofold.records import Candidate, Request, Source

RECORDS = [Request("p", Source("/a/b/f.jsonl", 1))]
ITEMS = [
    BenchmarkItem(RECORDS[0], 4, "math", "q1"),
    BenchmarkItem(Request("q", Source("/a/b/g.jsonl", 2)), 5, "stem", "q2"),
]


class Book:
    """Answers of no model: the players that it was asked for, in order."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.questions = [Question(name, Source(f"/a/b/{name}.jsonl", 1)) for name in "fg"]

    def check(self, players: Any) -> None:
        self.events.append(("check", [player.name for player in players]))

    def draw(self, players: Any) -> None:
        self.events.append(("draw", [player.name for player in players]))

    def of(self, player: Player) -> Any:
        first = Candidate("x", {"sample": 0, "row": 1, "weights": "w", "file": player.name})
        return [[first, Candidate("y", {"file": "second"})], [Candidate("z", {"file": "third"})]]

    def weights(self, player: Player) -> str:
        return f"w-{player.name}"


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called, in order; each own answer is its player's name, and wins against a shorter one."""
    calls = list[Any]()

    def decide(matchups: Any, progress: Any) -> list[MatchResult]:
        calls.append(("judge", [(m.own, m.other) for m in matchups]))
        return [MatchResult(float(len(m.own) > len(m.other))) for m in matchups]

    def meet(book: Any, own: Player, other: Player, judges: Any) -> Drawn:
        calls.append(("meet", own.name, other.name, tuple(judges)))
        return Drawn(
            own, [Matchup("p", own.name, other.name, Source("/a/b/f.jsonl", 1))], [(True, False)], f"w-{own.name}"
        )

    referee = Referee({"kind": "k"}, decide, lambda: [{"server": "s", "requests": 1}])
    for module in (win_rate, contest, benchmark_matches):
        monkeypatch.setattr(module, "open_book", lambda *_: Book(calls))
        monkeypatch.setattr(module, "meet", meet)
        monkeypatch.setattr(module, "open_judge", lambda *given: calls.append(("open", given[1])) or referee)
        monkeypatch.setattr(module, "write_comparisons", lambda matchups, how: calls.append(("write", len(matchups))))
    monkeypatch.setattr(benchmark_matches, "_put_published", lambda book, players, items: calls.append(
        ("put", [player.name for player in players], list(items))))  # fmt: skip
    return calls


MODELS = ["m", "b@beam:2", "k@temperature:0.5", "m"]


def test_a_win_rate_at_each_temperature(events: list[Any]) -> None:
    """A search meets the greedy opponent; a player with its own temperature meets it there, once."""
    how = WinRateSettings(judge="reward:r", against="n", temperatures=[0.0, 1.0], canary="")
    found = measure_win_rate(MODELS, RECORDS, how, WHOLE)
    meetings = [("m@temperature:0", "n@temperature:0"), ("m@temperature:1", "n@temperature:1"),
                ("b@beam:2", "n@temperature:0"), ("k@temperature:0.5", "n@temperature:0.5")]  # fmt: skip
    assert [event[0] for event in events] == ["check", "open", "draw", *["meet"] * 4, "write", *["judge"] * 4]
    assert events[0] == ("check", ["n", "m", "b@beam:2", "k@temperature:0.5"])
    assert events[2] == (
        "draw", ["n@temperature:0", "n@temperature:1", "n@temperature:0.5", *(own for own, _ in meetings)],
    )  # fmt: skip
    assert events[3:7] == [("meet", own, other, ("reward:r",)) for own, other in meetings]
    assert events[7:] == [("write", 4), *(("judge", [both]) for both in meetings)]
    common = {"judge": {"kind": "k"}, "against": "n"}
    assert {name: line.about for name, line in found.items() if name != "spend"} == {
        "of m, temperature 0": {**common, "model": "m", "temperature": 0.0, "fixed": False},
        "of m, temperature 1": {**common, "model": "m", "temperature": 1.0, "fixed": False},
        "of b@beam:2": {**common, "model": "b@beam:2", "temperature": None, "fixed": True},
        "of k, temperature 0.5": {**common, "model": "k", "temperature": 0.5, "fixed": True},
    }
    assert [line.weights for line in found.values()] == [*(f"w-{own}" for own, _ in meetings), ""]
    assert found["of b@beam:2"].rows == [
        {"source": ["/a/b/f.jsonl", 1], "prompt": "p", "own": "b@beam:2", "other": "n@temperature:0", "cut": True,
         "other_cut": False, "share": 0.0, "orders": None},
    ]  # fmt: skip
    assert found["spend"] == Line([{"server": "s", "requests": 1}])


def test_a_constant_answer_and_the_rows_own_ones(events: list[Any]) -> None:
    how = WinRateSettings(judge="reward:r", temperatures=[1.0], canary="c" * 20)
    found = measure_win_rate(["m"], RECORDS, how, WHOLE)
    assert list(found) == ["of m, temperature 1", "canary", "spend"]
    assert found["of m, temperature 1"].about["against"] == "the answers of b/f.jsonl"
    assert found["canary"].about == {"model": "canary", "temperature": 0.0}
    assert [(row["own"], row["other"], row["share"], row["cut"]) for row in found["canary"].rows] == [
        ("c" * 20, "reference", 1.0, False)
    ]
    several = WinRateSettings(judge="reward:r", temperatures=[1.0, 0.5], against="n", canary="c")
    rows = measure_win_rate(["m", "k"], RECORDS, several, WHOLE)["canary"].rows
    assert [row["other"] for row in rows] == ["n@temperature:1"], "it meets whom the first player met first"


def test_people_judge_after_everything_is_drawn(events: list[Any]) -> None:
    how = WinRateSettings(judge="human:f", temperatures=[0.0], against="n")
    assert list(measure_win_rate(["m"], RECORDS, how, WHOLE)) == ["of m, temperature 0", "spend"]
    assert [event[0] for event in events] == ["check", "draw", "meet", "write", "open", "judge"]
    events.clear()
    measure_contest(["m", "n"], RECORDS, ContestSettings(judge="human:f"), WHOLE)
    assert [event[0] for event in events] == ["check", "draw", "meet", "write", "open", "judge"]
    events.clear()
    measure_matches(["m"], ITEMS, BenchmarkSettings(judge="human:f", against="n"), WHOLE, benchmark_matches.open_judge)
    assert [event[0] for event in events] == ["put", "check", "draw", "meet", "write", "open", "judge"]


def test_a_shard_writes_no_comparisons_and_has_its_ledger(events: list[Any], tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        part = Part(ledger=ledger)
        measure_win_rate(["m"], RECORDS, WinRateSettings(judge="reward:r", against="n", canary=""), part)
        measure_contest(["m", "n"], RECORDS, ContestSettings(judge="reward:r"), part)
        how = BenchmarkSettings(judge="reward:r", against="n")
        measure_matches(["m"], ITEMS, how, part, benchmark_matches.open_judge)
    assert [event for event in events if event[0] in ("write", "open")] == [("open", ledger)] * 3


def test_a_contest_is_between_every_two_players(events: list[Any]) -> None:
    """All greedy, but for a search and a temperature of one's own; all matches are judged at once."""
    found = measure_contest(MODELS, RECORDS, ContestSettings(judge="reward:r"), WHOLE)
    names = ["m@temperature:0", "b@beam:2", "k@temperature:0.5"]
    meetings = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    assert events[0] == ("check", names)
    assert events[2:] == [
        ("draw", names), *(("meet", a, b, ("reward:r",)) for a, b in meetings), ("write", 3), ("judge", meetings),
    ]  # fmt: skip
    lines = {name: line for name, line in found.items() if name != "spend"}
    assert list(lines) == [f"{a} against {b}" for a, b in meetings]
    assert [line.about for line in lines.values()] == [
        {"judge": {"kind": "k"}, "model": a, "other": b, "temperature": None} for a, b in meetings
    ]
    assert {line.weights for line in lines.values()} == {"/".join(f"w-{name}" for name in names)}
    assert [line.rows[0]["share"] for line in lines.values()] == [1.0, 0.0, 0.0]
    with pytest.raises(RecipeError) as refused:
        measure_contest(["m", "m"], RECORDS, ContestSettings(judge="reward:r"), WHOLE)
    assert str(refused.value) == (
        "--task contest: a contest has two players or more, here is 1 player\n"
        "  → name another one, such as `reference` for the rows' own answers"
    )


def test_a_benchmark_is_against_its_baseline(events: list[Any]) -> None:
    how = BenchmarkSettings(judge="reward:r", against="/x/y/base", style="text", max_new_tokens=9)
    found = measure_matches(MODELS[:2], ITEMS, how, WHOLE, benchmark_matches.open_judge)
    base, names = "/x/y/base@temperature:0", ["m@temperature:0", "b@beam:2"]
    assert events[:2] == [("put", [base, *names], ITEMS), ("check", [base, *names])]
    assert events[3:] == [
        ("draw", [base, *names]), *(("meet", name, base, ("reward:r",)) for name in names), ("write", 2),
        ("judge", [(names[0], base)]), ("judge", [(names[1], base)]),
    ]  # fmt: skip
    sampling = {"kind": "model", "style": "text", "max_new_tokens": 9, "weights": "w"}
    assert {name: (line.about, line.weights) for name, line in found.items() if name != "spend"} == {
        name: ({"judge": {"kind": "k"}, "against": "y/base@temperature:0", "sampling": {**sampling, "file": name}},
               f"w-{name}") for name in names
    }  # fmt: skip
    (row,) = found[names[0]].rows
    assert (row["model"], row["name"], row["index"], row["subset"]) == (names[0], "/a/b/f.jsonl:1", 4, "math")
    own = measure_matches(["m"], ITEMS, BenchmarkSettings(judge="reward:r"), WHOLE, benchmark_matches.open_judge)
    assert own["m@temperature:0"].about["against"] == "the answers of b/f.jsonl"


def test_how_answers_were_made_is_without_sample_and_row() -> None:
    book: Any = Book([])
    how = BenchmarkSettings(judge="reward:r", max_new_tokens=9)
    assert sampling_of(book, Player(model="a.jsonl"), how) == {
        "kind": "file", "style": "auto", "max_new_tokens": 9, "weights": "w", "file": "a.jsonl",
    }  # fmt: skip


def test_a_game_turned_is_the_other_sides() -> None:
    game = Game("i", "p", 1.0, 7, 3, ("A", "B"), 0.75, (1.0,))
    assert contest._turned(game) == Game("i", "p", 0.0, 3, 7, None, 0.75, (1.0,))
    assert contest._turned(Game("i", "p", 0.5, 7, 3)).share == 0.5


def test_a_table_is_by_group_and_score() -> None:
    """Second meets first and third; the fourth has no games, and a group of its own."""
    games = {("a", "b"): [Game(0, "p", 1.0, 8, 2), Game(1, "q", 0.5, 4, 4)], ("b", "c"): [Game(2, "p", 0.0, 6, 10)]}
    estimates = [SimpleNamespace(as_dict=lambda v=v: {"value": v}) for v in (0.5, -1.0, 0.75, 0.0)]
    scores: Any = SimpleNamespace(estimates=estimates, groups=(0, 0, 0, 1))
    table = contest._table(games, scores, ["a", "b", "c", "d"], {"a": 1, "b": 0, "c": 2, "d": 3})
    assert [(t["name"], t["group"], t["truncated"]) for t in table] == [
        ("c", 0, 2),
        ("a", 0, 1),
        ("b", 0, 0),
        ("d", 1, 3),
    ]
    assert [(t["wins"], t["ties"], t["losses"], t["length"]) for t in table] == [
        (1, 0, 0, 10.0), (1, 1, 0, 6.0), (0, 1, 2, 4.0), (0, 0, 0, 0.0),
    ]  # fmt: skip
    assert [t["rate"]["value"] for t in table[:3]] == pytest.approx([1.0, 0.75, 0.5 / 3])
    heard = Heard()
    for groups, missing in (((0, 0), 0), ((0, 1, 1, 2), 2), ((0, 0), 1)):
        known: Any = SimpleNamespace(groups=groups, is_connected=len(set(groups)) == 1)
        contest._warn(known, missing, ContestSettings(judge="reward:r", progress=heard))
    assert heard.warnings == [
        "2 contests without a verdict are left out of n",
        "3 groups of players never meet: scores can be compared only within a group",
        "1 contest without a verdict are left out of n",
    ]
