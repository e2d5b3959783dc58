"""Labeled pairs and the verdicts on them: authors, figures of two judges by hand, what is missing, what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import read
from twofold.data.reading import Reading
from twofold.errors import DataError, RecipeError
from twofold.evaluation.judging import (
    CHECK_LINE,
    SPEND_LINE,
    JudgeSettings,
    LabeledPair,
    _own,
    check_figures,
    check_line,
    figures_of,
    games_of,
    judge_figures,
    labeled_pairs,
    measure_judges,
    spend_figures,
    spend_line,
    verdict_rows,
)
from twofold.evaluation.matches import MatchSettings
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup, Referee
from twofold.progress import Silent
from twofold.records import Source
from twofold.statistics import mcnemar, wilson

HOW = JudgeSettings()


def rows(path: Path, *several: dict[str, Any]) -> str:
    made = [{"prompt": f"q{n}", "chosen": "aa", "rejected": "b", **row} for n, row in enumerate(several)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def referee(*shares: MatchResult | None, **provenance: Any) -> Referee:
    """Decides as told, in order."""
    return Referee({"kind": "reward", **provenance}, lambda matchups, progress: shares[: len(matchups)])


def test_pairs_have_their_authors_and_reference_answers(tmp_path: Path) -> None:
    origin = {"chosen": {"model": "c"}, "rejected": {"model": "d"}}
    path = rows(
        tmp_path / "a.jsonl", {}, {"chosen_model": "a", "rejected_model": "b"}, {"chosen_model": "a"},
        {"provenance": origin}, {"provenance": {**origin, "rejected": "d"}},
        {"provenance": origin, "chosen_model": "a"}, {"chosen_model": 3, "rejected_model": "b"},
    )  # fmt: skip
    found = labeled_pairs(read(Reading(path, ignore=("provenance",))).records)
    assert [pair.authors for pair in found] == [None, ("a", "b"), None, ("c", "d"), None, ("a", "d"), None]
    assert found[1].matchup == Matchup("q1", "aa", "b", Source(path, 2), None)
    answered = rows(tmp_path / "b.jsonl", {"answer": "4"}, {"answer": 4})
    records = read(Reading(answered, ignore=("answer",))).records
    assert [pair.matchup.truth for pair in labeled_pairs(records)] == ["4", None]


def pairs(number: int) -> list[LabeledPair]:
    authors = [("x/m", "o"), ("o", "M/"), None, ("m", "m")]
    return [
        LabeledPair(Matchup(f"q{n}", "aa", "b", Source("f", n + 1)), authors[n % len(authors)]) for n in range(number)
    ]


RESULTS = MatchResult(1.0), MatchResult(0.0, ("A", "B")), None, MatchResult(0.5)


def test_verdicts_are_rows_and_games() -> None:
    made = json.loads(json.dumps(verdict_rows(pairs(4), referee(*RESULTS), Silent())))
    assert made[1] == {
        "source": "f:2", "prompt": "q1", "chosen": "aa", "rejected": "b", "authors": ["o", "M/"], "share": 0.0,
        "orders": ["A", "B"],
    }  # fmt: skip
    assert [row["authors"] for row in made] == [["x/m", "o"], ["o", "M/"], None, ["m", "m"]]
    games = games_of(made)
    assert [(g.item, g.prompt, g.share, g.length, g.other, g.orders) for g in games] == [
        ("f:1", "q0", 1.0, 2, 1, None), ("f:2", "q1", 0.0, 2, 1, ("A", "B")), ("f:4", "q3", 0.5, 2, 1, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("authors", "judge", "own"),
    [
        (("org/M", "o"), {"model": "/x/m"}, True),
        (("o", "m/"), {"model": "org/m"}, False),
        (("m", "m"), {"model": "m"}, None),
        (("o", "p"), {"model": "m"}, None),
        (None, {"model": "m"}, None),
        (("m", "o"), {}, None),
    ],
)
def test_whose_answer_is_the_judges_own(authors: Any, judge: dict[str, str], own: bool | None) -> None:
    assert _own(authors, judge) is own


def test_figures_leave_out_what_is_missing() -> None:
    made = verdict_rows(pairs(4), referee(*RESULTS), Silent())
    figures = figures_of(made, {"kind": "reward", "model": "m"})
    assert (figures["missing"], figures["judge"]) == (1, {"kind": "reward", "model": "m"})
    assert figures["accuracy"]["n"] == 3
    with pytest.raises(DataError, match="the judge has no verdict on any labeled pair") as refused:
        figures_of(made[2:3], {"kind": "reward"})
    assert refused.value.where == "reward"
    with pytest.raises(DataError, match=r"^llm:http://here/v1#small: .*\n.*read its replies"):
        figures_of(made[2:3], {"kind": "llm", "server": "http://here/v1", "model": "small", "rubric": "26659a"})


class Warned(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def lines(*several: tuple[MatchResult | None, ...]) -> dict[str, Line]:
    names = [chr(ord("a") + n) for n in range(len(several))]
    return {
        name: Line(verdict_rows(pairs(len(results)), referee(*results), Silent()), {"judge": {"kind": name}})
        for name, results in zip(names, several, strict=True)
    }


def test_two_judges_are_compared_on_the_pairs_that_both_decided() -> None:
    right, wrong = MatchResult(1.0), MatchResult(0.0)
    progress = Warned()
    how = JudgeSettings(progress=progress)
    first, second = (right, right, wrong, None, right), (wrong, wrong, wrong, right, None)
    found = judge_figures(lines(first, second), how)
    assert progress.warnings == ["2 verdicts missing: left out of n"]
    table = {line["name"]: line for line in found.figures["judges"]}
    assert list(table) == ["a", "b", "majority"]
    assert (table["a"]["accuracy"]["value"], table["b"]["accuracy"]["value"]) == (wilson(3, 4).value, 0.25)
    assert [table[name]["missing"] for name in table] == [1, 1, 2]
    (test,) = [t for t in found.figures["comparisons"] if (t["a"], t["b"]) == ("a", "b")]
    want = mcnemar([True, True, False], [False, False, False])
    assert (test["only_a"], test["only_b"], test["n"], test["metric"]) == (2, 0, 3, "accuracy")
    assert test["p_value"] == want.p_value
    assert "panel" in found.figures
    assert [row["judge"] for row in found.rows] == ["a"] * 5 + ["b"] * 5 + ["majority"] * 5
    assert [row["share"] for row in found.rows[10:]] == [0.5, 0.5, 0.0, None, None]


def test_one_judge_is_no_panel() -> None:
    progress = Warned()
    found = judge_figures(lines((MatchResult(1.0), MatchResult(0.0))), JudgeSettings(progress=progress))
    assert [line["name"] for line in found.figures["judges"]] == ["a"]
    assert found.figures["comparisons"] == []
    assert "panel" not in found.figures
    assert SPEND_LINE not in found.figures
    assert progress.warnings == []


def test_people_are_not_measured() -> None:
    with pytest.raises(RecipeError, match="people are not measured") as refused:
        measure_judges(["reward:m", "human:f"], pairs(1), HOW, WHOLE)
    assert refused.value.where == "--task judge"


def test_what_judges_cost_is_added_up() -> None:
    def spender(cost: float) -> Referee:
        row = {"requests": 2, "prompt_tokens": 3, "completion_tokens": 4, "dollars": cost, "server": "h"}
        return Referee({}, lambda matchups, progress: [], lambda: [row])

    assert spend_line(referee()) == {}
    line = spend_line(spender(0.5), spender(0.25), referee())[SPEND_LINE]
    assert [row["dollars"] for row in line.rows] == [0.5, 0.25]
    assert spend_figures(None) == {}
    (total,) = spend_figures(line)[SPEND_LINE]
    assert (total["server"], total["requests"], total["dollars"]) == ("h", 4, 0.75)


@pytest.mark.parametrize(("first", "number"), [(0, 2), (1, 0)])
def test_the_first_shard_measures_a_tasks_judge(first: int, number: int, tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", {}, {})
    how = MatchSettings(judge="reward:m", judge_pairs=path)
    line = check_line(how, referee(MatchResult(1.0), MatchResult(0.5)), Part(first=first))[CHECK_LINE]
    assert (len(line.rows), line.about) == (number, {"judge": {"kind": "reward"}})
    if number:
        figures = check_figures(line, how)[CHECK_LINE]
        assert (figures["pairs"], figures["accuracy"]["n"], figures["missing"]) == (path, 2, 0)
        assert "panel" not in figures
    assert check_line(MatchSettings(judge="reward:m"), referee(), WHOLE) == {}
    assert check_figures(None, how) == {}
