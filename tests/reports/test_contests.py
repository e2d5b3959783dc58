"""The tables of contests by value: which players and pairs are read, how many, and which matches lack a verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from support.made_up_runs import run_data
from twofold.reports import contests as module
from twofold.reports.contests import ContestTable, PairRow, PlayerRow, contests
from twofold.reports.run import RunData
from twofold.statistics import Estimate

SCORE = {"value": 0.5, "low": 0.25, "high": 1.0, "n": 40}
READ = Estimate(0.5, 0.25, 1.0, 40, None, "")


def run_of(*rows: Any) -> RunData:
    return replace(run_data(), extra={"contests": list(rows)})


def player(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "score": SCORE, "rate": SCORE, **more}


def pair(a: str, b: str, **more: Any) -> dict[str, Any]:
    return {"a": a, "b": b, "difference": SCORE, "p_value": 0.5, **more}


def test_players_and_pairs_are_read_by_value() -> None:
    row = {
        "of": "2 players", "command": "twofold evaluate", "players": [player("a"), player("b")],
        "comparisons": [pair("a", "b", p_holm=0.75), pair("b", "a", p_value=0)],
        "matches": [{"a": "a", "b": "b", "missing": 2.6}, {"a": "x", "b": "y", "missing": 9}, {"a": "b", "b": "a"}],
    }  # fmt: skip
    pairs = (PairRow("a", "b", READ, 0.5, 0.75, 40, 43), PairRow("b", "a", READ, 0.0, None, 40, 40))
    players = (PlayerRow("a", READ, READ), PlayerRow("b", READ, READ))
    assert contests([run_of(row)]) == [ContestTable("2 players", players, pairs, "twofold evaluate")]


@pytest.mark.parametrize(
    "broken",
    [
        {"p_value": True}, {"p_value": "0.5"}, {"p_value": None}, {"p_value": math.nan}, {"difference": None},
        {"difference": {"value": "x"}}, {"difference": {**SCORE, "n": math.inf}},
    ],
)  # fmt: skip
def test_a_pair_without_its_figures_is_left_out(broken: dict[str, Any]) -> None:
    row = {"players": [player("a")], "comparisons": [pair("a", "b", **broken), pair("c", "d", p_holm="?")]}
    (table,) = contests([run_of(row)])
    assert [(p.a, p.b, p.p_holm) for p in table.pairs] == [("c", "d", None)]
    assert (table.of, table.command) == ("", "")


@pytest.mark.parametrize("missing", [math.nan, math.inf, "x", None, True])
def test_numbers_that_are_none_leave_no_match_out(missing: Any) -> None:
    """JSON of Python's may hold NaN; names may be anything."""
    matches = [{"a": "a", "b": "b", "missing": missing}, {"a": ["a"], "b": None, "missing": 1}]
    row = {"players": [player("a")], "comparisons": [pair("a", "b"), pair(["a"], None)], "matches": matches}  # type: ignore[arg-type]
    (table,) = contests([run_of(row)])
    assert [(p.a, p.b, p.n, p.matches) for p in table.pairs] == [("a", "b", 40, 40), ("['a']", "None", 40, 41)]


def test_a_contest_without_players_is_none() -> None:
    assert contests([run_of({"players": []}, {"players": [player("a", score=None), player("b", rate=3)]}, 5)]) == []
    assert contests([run_of({"players": [{"score": SCORE, "rate": SCORE}]})])[0].players[0].name == ""
    assert contests([replace(run_data(), extra={})]) == []


def test_a_contest_of_several_runs_is_there_once() -> None:
    first, second = ({"of": of, "players": [player("a")]} for of in ("1", "2"))
    found = contests([run_of(first, second), run_of(second, first)])
    assert [table.of for table in found] == ["1", "2"]


def test_tables_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "MOST_PAIRS", 1)
    names = "abc"
    row = {"players": list(map(player, names)), "comparisons": [pair("a", "b"), pair("a", "c")]}
    found = contests([run_of(*({**row, "of": of} for of in names))])
    assert [table.of for table in found] == ["a", "b"]
    assert [[p.name for p in found[0].players], [p.b for p in found[0].pairs]] == [["a", "b"], ["b"]]
