"""`win_rate` of models that are known by heart: every figure and row from games that are written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.frozen import refuse_changes
from support.heard import Heard
from support.speakers import speaker
from twofold.errors import DataError, RecipeError
from twofold.evaluation.games import Game, Shares, summary
from twofold.evaluation.win_rate import CANARY, ModelGames, WinRateSettings, win_rate
from twofold.records import Request, Source, Task
from twofold.statistics import holm, wilson

PROMPTS = ("one four", "five", "la")
PROBLEMS = [
    Task(prompt, answer, Source("a/b/t.jsonl", i))
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ("#### 4", "#### 5", "#### 1"), strict=True), 1)
]
FOURS = Task("five", "#### 4", Source("a/b/t.jsonl", 4))
SIMPLE, WISE = ("#### 4", "5", "la la la la la la"), ("#### 5", "#### 5", "1")
HOW: dict[str, Any] = {"judge": "verifier:flexible", "max_new_tokens": 6}


def game(row: int, share: float, own: str, other: str, nth: int = 1) -> Game:
    return Game((f"a/b/t.jsonl:{row}", nth), PROMPTS[row - 1], share, len(own), len(other))


def games(shares: tuple[float, ...], own: tuple[str, ...], other: tuple[str, ...], times: int = 1) -> list[Game]:
    """One game of each prompt, or several alike."""
    rows = list(zip(range(1, 4), shares, own, other, strict=True))
    return [game(row, share, a, b, nth) for row, share, a, b in rows for nth in range(1, times + 1)]


def test_every_figure_and_every_row_against_another_model(simple: str, wise: str) -> None:
    """By the verifier simple is right on four and five, wise on five and la."""
    heard = Heard()
    found = win_rate([simple, wise, simple], PROBLEMS, **HOW, against=wise, temperatures=(0.0, 1.0), samples=2, seed=4,
                     progress=heard)  # fmt: skip
    shares, even = (1.0, 0.5, 0.0), (0.5, 0.5, 0.5)
    played = {
        (model, t): games(s, said, WISE, 1 + (t > 0))
        for model, s, said in ((simple, shares, SIMPLE), (wise, even, WISE)) for t in (0.0, 1.0)
    }  # fmt: skip
    assert found.figures["win_rates"] == [
        {"model": m, "temperature": t, **summary(g), "missing": 0, "truncated": (1 + (t > 0)) * (m == simple)}
        for (m, t), g in played.items()
    ]
    tests = [Shares(played[simple, t]).against(Shares(played[wise, t])) for t in (0.0, 1.0)]
    adjusted = holm([test.test.p_value for test in tests if test])
    assert found.figures["comparisons"] == [
        {"a": simple, "b": wise, "metric": f"temperature {t:g}", **(test.as_dict() if test else {}), "p_holm": p}
        for t, test, p in zip((0.0, 1.0), tests, adjusted, strict=True)
    ]
    canary = games((0.5, 0.0, 0.0), (CANARY,) * 3, WISE)
    assert found.figures["canary"] == {"text": CANARY, **summary(canary), "wins_alone": wilson(0, 3).as_dict()}
    about = {"judge": {"kind": "verifier", "metric": "flexible"}, "against": "/".join(wise.split("/")[-2:]),
             "temperatures": [0.0, 1.0], "samples": 2, "seed": 4, "max_new_tokens": 6}  # fmt: skip
    assert {key: found.figures[key] for key in about} == about
    assert found.figures.keys() == {*about, "win_rates", "comparisons", "canary"}
    assert found.rows == [
        {"model": model, "temperature": t, "name": f"a/b/t.jsonl:{row + 1}", "prompt": PROMPTS[row],
         "completion": texts[row], "other": WISE[row], "share": own[row]}
        for model, texts, own in ((simple, SIMPLE, shares), (wise, WISE, even)) for t in (0.0, 1.0)
        for row in range(3) for _ in range(1 + (t > 0))
    ]  # fmt: skip
    assert heard.notes == [f"{model}: 3 prompts at temperature {t}" for model in (wise, simple) for t in (0, 1)]
    assert heard.warnings == []


def test_the_rows_own_answers_are_the_other_side(wise: str) -> None:
    found = win_rate([wise], PROBLEMS, judge="verifier", samples=3, canary="#### 4").figures
    assert (found["against"], found["seed"], found["max_new_tokens"]) == ("the answers of a/b/t.jsonl", 0, 256)
    assert [rate["temperature"] for rate in found["win_rates"]] == found["temperatures"] == [0, 0.25, 0.5, 0.75, 1]
    assert [rate["n"] for rate in found["win_rates"]] == [3, 9, 9, 9, 9]
    assert (found["win_rates"][0]["value"], found["win_rates"][0]["other_length"]) == (pytest.approx(0.5 / 3), 6)
    assert found["canary"] == {
        "text": "#### 4", **summary(games((0.5, 0, 0), ("#### 4",) * 3, ("#### 4", "#### 5", "#### 1"))),
        "wins_alone": wilson(0, 3).as_dict(),
    }  # fmt: skip


def test_a_prompt_alone_needs_an_opponent() -> None:
    with pytest.raises(DataError) as refused:
        win_rate(["no such model"], [Request("one", Source("r.jsonl", 3))], **HOW)
    assert str(refused.value) == (
        "r.jsonl:3: has no answer to compare with\n"
        "  → rows need an answer to win against; or name a model: --against MODEL"
    )


@pytest.mark.parametrize(
    "how", [{"judge": "llm:http://x/v1#j"}, {"against": "http://x/v1#m"}, {"models": ["a", "http://x/v1#m"]}]
)
def test_who_uses_a_server_must_name_a_folder(how: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as refused:
        win_rate(how.pop("models", ["a"]), PROBLEMS, **{**HOW, **how})
    assert str(refused.value) == (
        "twofold evaluate: no folder for a server's answers\n"
        "  → add --out FOLDER: the same command then resumes an interrupted evaluation"
    )


CAREFUL = "to an answer without content (the canary): its win rates may not be reliable"


@pytest.mark.parametrize(
    ("rows", "against", "canary", "warned"),
    [
        (PROBLEMS[1:2], "simple", "#### 5", False),  # a tie with a model may be that model's fault
        (PROBLEMS[:1], "wise", "#### 4", "100.0%"),  # a single win of one is at least 21% …
        (PROBLEMS[:2], "wise", "#### 4", False),  # … and one of two (the other lost) 9%
        ([PROBLEMS[0], FOURS], None, "4", "50.0%"),  # ties with rows' own answers are too good, of two at least 15% …
        (PROBLEMS[:1], None, "4", False),  # … and one alone 9%
    ],
)
def test_a_judge_that_likes_a_constant_answer_is_named(
    simple: str, wise: str, rows: list[Task], against: str | None, canary: str, warned: str | bool
) -> None:
    heard, models = Heard(), {"simple": simple, "wise": wise, None: None}
    found = win_rate([simple], rows, **HOW, against=models[against], temperatures=[0], canary=canary, progress=heard)
    assert [w for w in heard.warnings if "canary" in w] == ([f"the judge gives {warned} {CAREFUL}"] if warned else [])
    assert found.figures["canary"]["text"] == canary


def test_without_a_constant_answer_there_is_none(simple: str) -> None:
    assert "canary" not in win_rate([simple], PROBLEMS, **HOW, temperatures=[0], canary="").figures


def test_lengths_of_one_side_are_told(simple: str, wise: str) -> None:
    """`5` is always shorter than `#### 5`, so that nobody saw answers of equal lengths."""
    heard = Heard()
    win_rate([simple, wise], PROBLEMS[1:2], **HOW, against=wise, temperatures=[0], progress=heard)
    assert heard.warnings == [
        "answers are almost always longer (or shorter) than the other: LC reaches beyond what was seen"
    ]


def test_the_seed_draws_the_answers(tmp_path_factory: pytest.TempPathFactory) -> None:
    dice = speaker(tmp_path_factory.mktemp("dice"), {"roll": {str(n): 1 / 8 for n in range(8)}})
    rows = [Task("roll", "#### 1", Source("t", 1))]

    def drawn(**how: Any) -> list[str]:
        found = win_rate([dice], rows, **{**HOW, "samples": 6, "temperatures": [1.0], **how})
        return [row["completion"] for row in found.rows]

    assert drawn() == drawn(seed=0) != drawn(seed=1)
    assert len(set(drawn())) > 1
    assert len(drawn(temperatures=[0])) == 1  # the greedy answer is the same each time


def test_each_temperature_draws_by_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of two answers, nine to one: at 0.1 the rarer one never comes, at 9 nearly as often as the other."""
    dice = speaker(tmp_path_factory.mktemp("dice"), {"roll": {"1": 0.9, "2": 0.1}})
    rows = [Task("roll", "#### 1", Source("t", 1))]
    played = win_rate([dice], rows, **HOW, samples=40, temperatures=[0.1, 9.0]).rows
    drawn = {t: [row["completion"] for row in played if row["temperature"] == t].count("2") for t in (0.1, 9.0)}
    assert drawn[0.1] == 0
    assert drawn[9.0] > 5


def test_prompts_are_put_by_style(chatty: str) -> None:
    for style, completion in (("auto", "7"), ("chat", "7"), ("text", "")):
        found = win_rate([chatty], PROBLEMS[:1], **HOW, temperatures=[0], style=style)
        assert [row["completion"] for row in found.rows] == [completion]


def test_what_was_drawn_is_drawn_once(simple: str, tmp_path: Path) -> None:
    how = {**HOW, "temperatures": [0.0], "out": tmp_path / "out"}
    first, ledger = win_rate([simple], PROBLEMS, **how), tmp_path / "out" / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    assert len(lines) == 3
    assert win_rate([simple], PROBLEMS, **how) == first
    assert ledger.read_text().splitlines() == lines


def test_settings_and_what_was_played_stay(simple: str) -> None:
    how = WinRateSettings(judge="verifier")
    with pytest.raises(TypeError):
        WinRateSettings("verifier")  # type: ignore[misc]  # settings are keywords
    with pytest.raises(DataError):
        win_rate([simple], [], **HOW)
    refuse_changes(how, ModelGames("m", 0.0, [], [], 0))
