"""`win_rate` before language models, people and reward models, on answers that are known by heart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from support.judge_replies import longer
from support.openai_stub import Body, Stub, said
from twofold.errors import DataError, ServerError
from twofold.evaluation.games import Game, agreement, summary
from twofold.evaluation.win_rate import win_rate
from twofold.judges.people import HumanVerdicts, content_key, verdicts_path
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy
from twofold.records import Demonstration, Pair, Record, Request, Source, Task
from twofold.statistics import wilson

PROMPTS = ("one four", "five", "la")
SIMPLE, WISE = ("#### 4", "5", "la la la la"), ("#### 5", "#### 5", "1")
ROWS = [Task(p, "#### 12 secret", Source("t.jsonl", i)) for i, p in enumerate(PROMPTS, 1)]
FAST: dict[str, Any] = {"max_new_tokens": 4, "temperatures": [0.0]}


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(longer)
    yield server
    server.close()


def labelled(out: Path, choices: Mapping[tuple[str, str, str], str]) -> Path:
    """What people said of (prompt, first answer, second answer), as `data label` keeps it for `out`."""
    with HumanVerdicts(verdicts_path(out)) as verdicts:
        for comparison, choice in choices.items():
            verdicts.give(content_key(*comparison), choice)  # type: ignore[arg-type]  # one of its words
    return out


def test_a_language_model_is_asked_in_both_orders(stub: Stub, simple: str, wise: str, tmp_path: Path) -> None:
    """It likes the longer of `5` and `#### 5`, of `la la la la` and `1`; what is as long is a tie."""
    how: dict[str, Any] = {**FAST, "judge": f"llm:{stub.url}#j", "against": wise, "out": tmp_path}
    found = win_rate([simple], ROWS, **how, canary="")
    shares, orders = (0.5, 0.0, 1.0), (("tie", "tie"), ("B", "A"), ("A", "B"))
    games = [
        Game((f"t.jsonl:{i + 1}", 1), PROMPTS[i], shares[i], len(SIMPLE[i]), len(WISE[i]), orders[i]) for i in range(3)
    ]
    assert found.figures["win_rates"] == [
        {"model": simple, "temperature": 0.0, **summary(games), "missing": 0, "truncated": 1}
    ]
    assert found.figures["judge"]["kind"] == "llm"
    assert [(row["share"], row["orders"]) for row in found.rows] == [
        (s, list(o)) for s, o in zip(shares, orders, strict=True)
    ]
    assert len(stub.requests) == 6
    assert all("12 secret" in said(body) for body in stub.requests)  # what is right, for the judge alone
    comparisons = [json.loads(line) for line in (tmp_path / "comparisons.jsonl").read_text().splitlines()]
    assert comparisons == [{"prompt": p, "answers": [a, b]} for p, a, b in zip(PROMPTS, SIMPLE, WISE, strict=True)]
    again = win_rate([simple], ROWS, **how, canary="")
    assert (again, len(stub.requests)) == (found, 6)


def test_the_judge_is_not_shown_a_truth_that_is_the_other_answer(stub: Stub, wise: str, tmp_path: Path) -> None:
    win_rate([wise], ROWS[:1], judge=f"llm:{stub.url}#j", out=tmp_path, canary="", **FAST)
    assert [said(body).count("12 secret") for body in stub.requests] == [1, 1]


@pytest.mark.parametrize(
    ("record", "other"),
    [
        (Pair("five", "chosen", "rejected", Source("t", 1)), "chosen"),
        (Demonstration("five", "completion", Source("t", 1)), "completion"),
    ],
)
def test_a_row_s_best_answer_is_the_other_side(
    stub: Stub, simple: str, tmp_path: Path, record: Record, other: str
) -> None:
    rows = win_rate([simple], [record], judge=f"llm:{stub.url}#j", out=tmp_path, **FAST).rows
    assert [(row["completion"], row["other"], row["share"]) for row in rows] == [("5", other, 0.0)]


def test_prompts_alone_have_a_model_to_beat(stub: Stub, simple: str, wise: str, tmp_path: Path) -> None:
    rows = [Request(prompt, Source("r.jsonl", i)) for i, prompt in enumerate(PROMPTS)]
    found = win_rate([simple], rows, judge=f"llm:{stub.url}#j", against=wise, out=tmp_path, **FAST)
    assert [row["share"] for row in found.rows] == [0.5, 0.0, 1.0]
    assert found.figures["canary"]["wins"] == 3


def test_a_constant_answer_meets_each_other_answer_once(stub: Stub, simple: str, wise: str, tmp_path: Path) -> None:
    """Two models and two samples: the canary is judged beside the first model's opponents, once each."""
    how: dict[str, Any] = {"max_new_tokens": 4, "temperatures": [1.0], "samples": 2, "against": wise}
    found = win_rate([simple, wise], ROWS, judge=f"llm:{stub.url}#j", canary="9", out=tmp_path, **how)
    games = [Game(i, PROMPTS[i], (0.0, 0.0, 0.5)[i], 1, len(WISE[i]), o)
             for i, o in enumerate([("B", "A"), ("B", "A"), ("tie", "tie")])]  # fmt: skip
    assert found.figures["canary"] == {"text": "9", **summary(games), "wins_alone": wilson(0, 3).as_dict()}
    assert sum("\n9\n</text-" in said(body) for body in stub.requests) == 6


def test_a_rubric_of_one_s_own_is_what_the_judge_reads(stub: Stub, simple: str, tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.jinja"
    rubric.write_text("Mine. {{ prompt }} {{ first }} {{ second }} {{ truth }} {{ fence }} Verdict: X")
    stub.say = lambda body: "Verdict: A"
    win_rate([simple], ROWS[:1], judge=f"llm:{stub.url}#j", rubric=str(rubric), out=tmp_path, **FAST)
    assert all(said(body).startswith("Mine. one four") for body in stub.requests)


def test_a_server_s_answers_that_stay_out_end_the_call(stub: Stub, tmp_path: Path) -> None:
    def behave(body: Body, nth: int) -> str:
        return "429" if "five" in said(body) else "good"

    stub.say, stub.behave, name = (lambda body: "#### 4"), behave, f"{stub.url}#m"
    with pytest.raises(ServerError) as refused:
        win_rate([name], ROWS, judge="verifier", out=tmp_path, **FAST)
    assert str(refused.value) == (
        f"{name}: answers to 1 prompt are missing\n  → run the same command again: only what is missing is asked for"
    )
    stub.behave = lambda body, nth: "good"
    found = win_rate([name], ROWS, judge="verifier", out=tmp_path, **FAST)
    assert [row["completion"] for row in found.rows] == ["#### 4"] * 3


def test_people_decide_what_they_have_labelled(simple: str, wise: str, tmp_path: Path) -> None:
    """Either order of the two answers will do; what is skipped or not labelled is left out of n."""
    labels = labelled(tmp_path / "labels.jsonl", {
        (PROMPTS[0], SIMPLE[0], WISE[0]): "first", (PROMPTS[1], SIMPLE[1], WISE[1]): "skip",
        (PROMPTS[2], WISE[2], SIMPLE[2]): "first",
    })  # fmt: skip
    heard = Heard()
    found = win_rate([simple], ROWS, judge=f"human:{labels}", against=wise, progress=heard, **FAST)
    (rate,) = found.figures["win_rates"]
    games = [Game(("t.jsonl:1", 1), PROMPTS[0], 1.0, 6, 6), Game(("t.jsonl:3", 1), PROMPTS[2], 0.0, 11, 1)]
    assert rate == {"model": simple, "temperature": 0.0, **summary(games), "missing": 1, "truncated": 1}
    assert [row["share"] for row in found.rows] == [1.0, None, 0.0]
    assert "orders" not in found.rows[0]
    assert "canary" not in found.figures  # people are not bothered with it
    assert heard.warnings[0] == "1 contest without a verdict are left out of n"


def test_a_model_without_verdicts_has_no_line(simple: str, wise: str, tmp_path: Path) -> None:
    labels = labelled(tmp_path / "labels.jsonl", {(PROMPTS[0], WISE[0], ROWS[0].answer): "tie"})
    found = win_rate([simple, wise], ROWS, judge=f"human:{labels}", **FAST)
    assert [(r["model"], r["value"], r["missing"]) for r in found.figures["win_rates"]] == [(wise, 0.5, 2)]
    assert found.figures["comparisons"] == []
    with pytest.raises(DataError) as refused:
        win_rate([simple], ROWS, judge=f"human:{labels}", **FAST)
    assert str(refused.value) == "--judge: no contest has a verdict\n  → label some of OUT/comparisons.jsonl first"


def test_comparisons_are_there_to_label_before_anyone_has(simple: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no verdicts"):
        win_rate([simple], ROWS, judge=f"human:{tmp_path / 'none.jsonl'}", out=tmp_path / "out", **FAST)
    assert len((tmp_path / "out" / "comparisons.jsonl").read_text().splitlines()) == 3
    with pytest.raises(DataError, match="no verdicts"):
        win_rate(["no such model"], ROWS, judge="verifier", people=str(tmp_path / "none.jsonl"), **FAST)


def test_a_judge_stands_beside_people(simple: str, wise: str, tmp_path: Path) -> None:
    """On what both have seen, once, however often it was drawn; equal texts say nothing of either."""
    rows = [Task(p, a, Source("t.jsonl", i)) for i, (p, a) in enumerate(zip(PROMPTS, ("4", "5", "1"), strict=True), 1)]
    labels = labelled(tmp_path / "labels.jsonl", {
        (PROMPTS[0], SIMPLE[0], WISE[0]): "first", (PROMPTS[1], SIMPLE[1], WISE[1]): "tie",
        (PROMPTS[2], SIMPLE[2], WISE[2]): "first",
    })  # fmt: skip
    how: dict[str, Any] = {**FAST, "temperatures": [0.0, 1.0], "against": wise, "judge": "verifier:flexible"}
    found = win_rate([simple, wise], rows, people=str(labels), **how)
    assert found.figures["people"] == agreement([1.0, 0.5, 0.0], [1.0, 0.5, 1.0]).as_dict()
    with pytest.raises(DataError) as refused:
        win_rate([wise], rows, people=str(labels), **how)
    assert str(refused.value) == (
        "--people: none of the contests has their verdict\n"
        "  → label the comparisons of this evaluation: OUT/comparisons.jsonl"
    )


def test_a_reward_model_reads_as_many_tokens_as_it_is_let(simple: str, wise: str, tmp_path: Path) -> None:
    model, loaded = load_reward_model(ModelSettings(path=simple, precision="float32"))
    save_policy(model, loaded.tokenizer, tmp_path / "rm")
    how: dict[str, Any] = {**FAST, "judge": f"reward:{tmp_path / 'rm'}", "against": wise, "canary": "1"}
    found = win_rate([simple], ROWS, **how)
    assert {row["share"] for row in found.rows} <= {0.0, 0.5, 1.0}
    with pytest.raises(DataError, match=r"longer than|max_length"):
        win_rate([simple], ROWS, **how, max_length=3)
