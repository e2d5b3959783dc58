"""Figures of contests and win rates from rows: panels of judges, missing verdicts, truncated answers, what is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from twofold.errors import DataError
from twofold.evaluation import contest, win_rate
from twofold.evaluation.bradley_terry import Match, bradley_terry
from twofold.evaluation.contest import ContestSettings, contest_figures
from twofold.evaluation.figures import Evaluation
from twofold.evaluation.games import Game, Shares, summary
from twofold.evaluation.judge_figures import by_judge, panel
from twofold.evaluation.judging import (
    JudgeSettings,
    LabeledPair,
    check_figures,
    figures_of,
    games_of,
    judge_figures,
    verdict_rows,
)
from twofold.evaluation.matches import MatchSettings
from twofold.evaluation.parts import Line
from twofold.evaluation.win_rate import WinRateSettings, win_rate_figures
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup, Referee
from twofold.progress import Silent
from twofold.records import Source
from twofold.statistics import holm, share_by_cluster

JUDGES = ("reward:a", "reward:b")
SPEND = {"requests": 2, "prompt_tokens": 3, "completion_tokens": 4, "dollars": 0.5, "server": "h"}


def row(number: int, share: float | None, votes: list[float | None] | None = None, **more: Any) -> dict[str, Any]:
    return {"source": ["f", number], "prompt": f"p{number}", "own": "abc", "other": "ab", "cut": number == 1,
            "other_cut": number == 2, "share": share, "orders": None,
            **({} if votes is None else {"votes": votes}), **more}  # fmt: skip


def game(number: int, share: float, votes: tuple[float | None, ...] = (), nth: int = 1) -> Game:
    return Game((f"f:{number}", nth), f"p{number}", share, 3, 2, None, None, votes)


ROWS = [row(1, 1.0, [1.0, 1.0]), row(2, 0.5, [1.0, 0.0]), row(3, 0.0, [0.0, None]), row(4, None)]
GAMES = [game(1, 1.0, (1.0, 1.0)), game(2, 0.5, (1.0, 0.0)), game(3, 0.0, (0.0, None))]
OTHERS, OTHER_GAMES = (
    [row(1, 1.0, [1.0, 0.0]), row(3, 1.0, [1.0, 1.0])],
    [game(1, 1.0, (1.0, 0.0)), game(3, 1.0, (1.0, 1.0))],
)


def contests(*, voted: bool = True) -> dict[str, Line]:
    """a against b and against c; b never meets c."""
    several = {("a", "b"): ROWS, ("a", "c"): OTHERS}
    return {
        f"{a} against {b}": Line(
            [{k: v for k, v in each.items() if voted or k != "votes"} for each in rows],
            {"judge": {"kind": "panel"}, "model": a, "other": b, "temperature": None},
        )
        for (a, b), rows in several.items()
    }


def test_a_contest_of_a_panel() -> None:
    heard = Heard()
    how = ContestSettings(judge=JUDGES, samples=2, seed=5, max_new_tokens=9, progress=heard)
    found = contest_figures({**contests(), "spend": Line([SPEND])}, how)
    figures = found.figures
    assert {k: figures[k] for k in ("judge", "samples", "seed", "max_new_tokens")} == {
        "judge": {"kind": "panel"}, "samples": 2, "seed": 5, "max_new_tokens": 9,
    }  # fmt: skip
    assert figures["matches"] == [
        {"a": "a", "b": b, **summary(several), "missing": missing, "judges": by_judge(JUDGES, several)}
        for b, several, missing in (("b", GAMES, 1), ("c", OTHER_GAMES, 0))
    ]
    assert figures["panel"] == panel(JUDGES, [*GAMES, *OTHER_GAMES])
    matches = [Match(0, 1, g.prompt, g.share) for g in GAMES] + [Match(0, 2, g.prompt, g.share) for g in OTHER_GAMES]
    scores = bradley_terry(matches, 3).estimates
    assert {p["name"]: p["score"] for p in figures["players"]} == {
        name: score.as_dict() for name, score in zip("abc", scores, strict=True)
    }
    assert {p["name"]: p["truncated"] for p in figures["players"]} == {"a": 1, "b": 1, "c": 0}
    tests = [
        Shares(s).against(Shares([game(int(str(g.prompt)[1]), 1 - g.share) for g in s])) for s in (GAMES, OTHER_GAMES)
    ]
    p_values = holm([t.test.p_value for t in tests if t])
    assert figures["comparisons"] == [
        {"a": "a", "b": b, "metric": "win rate", **(t.as_dict() if t else {}), "p_holm": p}
        for b, t, p in zip("bc", tests, p_values, strict=True)
    ]
    assert figures["spend"][0]["dollars"] == 0.5
    assert heard.warnings == ["1 contest without a verdict are left out of n"]
    assert [(r["a"], r["b"], r["name"], r["share"]) for r in found.rows[3:5]] == [
        ("a", "b", "f:4", None), ("a", "c", "f:1", 1.0),
    ]  # fmt: skip
    assert not {"model", "temperature"} & set(found.rows[0])


def test_a_contest_of_one_judge_has_no_panel() -> None:
    heard = Heard()
    for judges, voted in ((JUDGES[:1], True), (JUDGES, False)):
        figures = contest_figures(contests(voted=voted), ContestSettings(judge=judges, progress=heard)).figures
        assert "panel" not in figures
        assert all("judges" not in match for match in figures["matches"])
    alone = contest_figures({"a against b": contests()["a against b"]}, ContestSettings(judge=JUDGES[:1])).figures
    assert "p_holm" not in alone["comparisons"][0]


def test_a_pair_without_verdicts_has_no_match(tmp_path: Path) -> None:
    """Its comparisons can be labeled; its players are in the table."""
    heard = Heard()
    several = contests(voted=False)
    several["a against c"] = Line([row(1, None), row(3, None)], several["a against c"].about)
    how = ContestSettings(judge=JUDGES[:1], progress=heard, out=tmp_path)
    figures = contest_figures(several, how).figures
    assert [(m["a"], m["b"]) for m in figures["matches"]] == [("a", "b")]
    assert [(p["name"], p["group"], p["length"]) for p in figures["players"]] == [
        ("a", 0, 3.0),
        ("b", 0, 2.0),
        ("c", 1, 0.0),
    ]
    assert [(t["a"], t["b"]) for t in figures["comparisons"]] == [("a", "b")]
    assert heard.warnings == [
        "3 contests without a verdict are left out of n",
        "2 groups of players never meet: scores can be compared only within a group",
    ]
    assert len((tmp_path / "comparisons.jsonl").read_text().splitlines()) == 4  # equal ones once


ABOUT = {"judge": {"kind": "panel"}, "against": "n"}


def rated(rows: list[dict[str, Any]], model: str = "m", temperature: float | None = 0.0, **more: Any) -> Line:
    return Line(rows, {**ABOUT, "model": model, "temperature": temperature, **more})


def test_a_win_rate_by_a_panel() -> None:
    heard = Heard()
    how = WinRateSettings(judge=JUDGES, temperatures=[0.0], samples=2, seed=5, max_new_tokens=9, progress=heard)
    canary = Line([row(1, 1.0, [1.0, 1.0], own="c"), row(2, 0.5, [1.0, 0.0], own="c")],
                  {"model": "canary", "temperature": 0.0})  # fmt: skip
    found = win_rate_figures({"of m": rated(ROWS), "of k": rated(OTHERS, "k"), "canary": canary}, how)
    figures = found.figures
    assert {k: figures[k] for k in ("judge", "against", "temperatures", "samples", "seed", "max_new_tokens")} == {
        **ABOUT, "temperatures": [0.0], "samples": 2, "seed": 5, "max_new_tokens": 9,
    }  # fmt: skip
    assert figures["win_rates"] == [
        {"model": "m", "temperature": 0.0, **summary(GAMES), "missing": 1, "truncated": 1,
         "judges": by_judge(JUDGES, GAMES)},
        {"model": "k", "temperature": 0.0, **summary(OTHER_GAMES), "missing": 0, "truncated": 1,
         "judges": by_judge(JUDGES, OTHER_GAMES)},
    ]  # fmt: skip
    assert figures["panel"] == panel(JUDGES, [*GAMES, *OTHER_GAMES])
    constant = [Game((f"f:{n}", 1), f"p{n}", s, 1, 2, None, None, v) for n, s, v in
                ((1, 1.0, (1.0, 1.0)), (2, 0.5, (1.0, 0.0)))]  # fmt: skip
    assert figures["canary"] == {
        "text": "c", **summary(constant), "wins_alone": share_by_cluster([True, False], ["p1", "p2"]).as_dict(),
    }  # fmt: skip
    tested = Shares(GAMES).against(Shares(OTHER_GAMES))
    assert tested is not None
    assert figures["comparisons"] == [{"a": "m", "b": "k", "metric": "temperature 0", **tested.as_dict()}]
    assert "people" not in figures
    assert [(r["model"], r["name"]) for r in found.rows] == [("m", f"f:{n}") for n in range(1, 5)] + [
        ("k", "f:1"), ("k", "f:3"),
    ]  # fmt: skip


def test_a_win_rate_by_one_judge() -> None:
    """A player without a verdict has no line, a canary without one no figures."""
    how = WinRateSettings(judge="reward:a", progress=Heard())
    silent = [row(1, None), row(2, None)]
    canary = Line(silent, {"model": "canary", "temperature": 0.0})
    figures = win_rate_figures({"of m": rated(ROWS), "of k": rated(silent, "k"), "canary": canary}, how).figures
    assert [rate["model"] for rate in figures["win_rates"]] == ["m"]
    assert not {"panel", "canary"} & set(figures)
    assert "judges" not in figures["win_rates"][0]
    assert figures["comparisons"] == []
    with pytest.raises(DataError) as refused:
        win_rate_figures({"of k": rated(silent, "k")}, how)
    assert (refused.value.what, refused.value.where) == ("no contest has a verdict", "--judge")


def test_a_players_name_has_its_temperature_where_it_has_one() -> None:
    played = [win_rate.ModelGames("m", t, [], [], 0) for t in (None, 0.0, 0.5)]
    assert [win_rate._name(each) for each in played] == ["m", "m@temperature:0", "m@temperature:0.5"]
    assert contest.SHARES == {"wins": 1.0, "ties": 0.5, "losses": 0.0}


def checked(*results: MatchResult | None) -> list[dict[str, Any]]:
    pairs = [LabeledPair(Matchup(f"q{n}", "aa", "b", Source("f", n + 1))) for n in range(len(results))]
    return verdict_rows(pairs, Referee({}, lambda matchups, progress: list(results)), Silent())


def test_a_panels_own_accuracy_has_its_agreement() -> None:
    rows = checked(MatchResult(1.0, votes=(1.0, 1.0)), MatchResult(0.5, votes=(1.0, 0.0)), None)
    line, how = Line(rows, {"judge": {"kind": "panel"}}), MatchSettings(judge=JUDGES, judge_pairs="pairs.jsonl")
    assert check_figures(line, how, JUDGES) == {"judge_check": {
        "pairs": "pairs.jsonl", **figures_of(rows, {"kind": "panel"}), "panel": panel(JUDGES, games_of(rows)),
    }}  # fmt: skip
    for judges in ((), JUDGES[:1]):
        assert "panel" not in check_figures(line, how, judges)["judge_check"]


def test_judges_that_never_agree_to_answer_have_no_panel() -> None:
    """Two judges, of whom never both have a verdict: each has its figures, and there is no line of a majority."""
    right = MatchResult(1.0)
    both = {"a": (right, None), "b": (None, right)}
    several = {name: Line(checked(*results), {"judge": {"kind": name}}) for name, results in both.items()}
    heard = Heard()
    of_both = judge_figures(several, JudgeSettings(progress=heard))
    assert [(line["name"], line["accuracy"]["count"]) for line in of_both.figures["judges"]] == [("a", 1), ("b", 1)]
    assert (of_both.figures["comparisons"], "panel" in of_both.figures) == ([], False)
    assert [row["judge"] for row in of_both.rows] == ["a", "a", "b", "b"]
    found = judge_figures({"a": several["a"], "spend": Line([SPEND])}, JudgeSettings(progress=Heard()))
    assert isinstance(found, Evaluation)
    assert (found.figures["spend"][0]["requests"], [r["judge"] for r in found.rows]) == (2, ["a", "a"])
