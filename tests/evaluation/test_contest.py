"""`contest` of players that are known by heart: scores, rates, tests, and that each answer is drawn once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from support.judge_replies import longer
from support.openai_stub import Stub, said
from support.speakers import speaker
from twofold.errors import DataError, RecipeError
from twofold.evaluation.answers import accuracy
from twofold.evaluation.contest import contest
from twofold.evaluation.pass_at_k import pass_at_k
from twofold.evaluation.win_rate import win_rate
from twofold.records import Request, Source, Task
from twofold.statistics import holm

PROMPTS = ("one four", "five", "la")
PROBLEMS = [
    Task(prompt, answer, Source("t.jsonl", i))
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ("#### 4", "#### 5", "#### 1"), strict=True), 1)
]
SIMPLE, WISE = ("#### 4", "5", "la la la la la la"), ("#### 5", "#### 5", "1")
HOW: dict[str, Any] = {"judge": "verifier:flexible", "max_new_tokens": 6}


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(longer)
    yield server
    server.close()


@pytest.fixture(scope="session")
def dice(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Says 1 or 2 to roll. To walk its first word is more often `a`, but the likeliest answer is `b 5`."""
    table = {"roll": {"1": 0.5, "2": 0.5}, "walk": {"a": 0.6, "b": 0.4}, "a": {"1": 0.4, "2": 0.3, "3": 0.3}, "b": "5"}
    return speaker(tmp_path_factory.mktemp("dice"), table)


@pytest.mark.parametrize("heat", [0, 1])
def test_two_players_have_the_win_rate_of_one_against_the_other(simple: str, wise: str, heat: int) -> None:
    how = {**HOW, "samples": 2, "seed": 4}
    found = contest([f"{p}@temperature:{heat}" for p in (simple, wise)], PROBLEMS, **how).figures
    alone = win_rate([simple], PROBLEMS, **how, against=wise, temperatures=[heat]).figures["win_rates"][0]
    (match,) = found["matches"]
    assert {k: v for k, v in match.items() if k not in ("a", "b")} == {
        k: v for k, v in alone.items() if k not in ("model", "temperature", "truncated")
    }
    rates = {player["name"]: player["rate"] for player in found["players"]}
    assert rates[match["a"]]["value"] == alone["value"] == 1 - rates[match["b"]]["value"]


def test_every_two_meet_and_the_table_is_of_all(simple: str, wise: str, tmp_path: Path) -> None:
    """By the verifier simple is right on four and five, wise on five and la, the rows' own answers always."""
    found = contest([simple, wise, "reference", simple], PROBLEMS, **HOW, out=tmp_path)
    names = [f"{simple}@temperature:0", f"{wise}@temperature:0", "reference"]
    assert [(m["a"], m["b"]) for m in found.figures["matches"]] == [*combinations(names, 2)]
    assert [(m["wins"], m["ties"], m["losses"]) for m in found.figures["matches"]] == [(1, 1, 1), (0, 2, 1), (0, 2, 1)]
    table = found.figures["players"]
    assert [p["name"] for p in table] == ["reference", *names[:2]]
    assert [p["rate"]["value"] for p in table] == pytest.approx([4 / 6, 2.5 / 6, 2.5 / 6])
    assert sum(p["score"]["value"] for p in table) == pytest.approx(0, abs=1e-9)
    assert table[0]["score"]["value"] > 0 > table[1]["score"]["value"] == pytest.approx(table[2]["score"]["value"])
    assert [(p["truncated"], p["group"]) for p in table] == [(0, 0), (1, 0), (0, 0)]
    assert table[0]["length"] == 6
    tests = found.figures["comparisons"]
    assert [t["p_holm"] for t in tests] == holm([t["p_value"] for t in tests])
    assert [t["difference"]["value"] for t in tests] == pytest.approx([0, 1 / 3, 1 / 3])
    assert found.rows[2] == {
        "a": names[0], "b": names[1], "name": "t.jsonl:3", "prompt": "la", "completion": SIMPLE[2], "other": WISE[2],
        "share": 0.0,
    }  # fmt: skip
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 6  # two models, three prompts
    assert contest([simple, wise, "reference"], PROBLEMS, **HOW, out=tmp_path) == found
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 6


def test_a_language_model_reads_each_two_answers_once(stub: Stub, simple: str, wise: str, tmp_path: Path) -> None:
    """A file that repeats another player's answers has ties with it, and no request of its own."""
    path = tmp_path / "said.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": t, "sample": 0}) + "\n"
                            for p, t in zip(PROMPTS, WISE, strict=True)))  # fmt: skip
    found = contest([simple, wise, str(path)], PROBLEMS, judge=f"llm:{stub.url}#j", out=tmp_path, max_new_tokens=6)
    both, same, other = found.figures["matches"]
    assert (other["ties"], other["n"]) == (3, 3)
    assert {k: both[k] for k in ("value", "wins", "orders")} == {k: same[k] for k in ("value", "wins", "orders")}
    assert len(stub.requests) == 6
    assert all("#### 4\n" in said(body) for body in stub.requests if "one four" in said(body))


def test_a_sweep_of_temperatures_is_several_players(dice: str) -> None:
    rows = [Task("roll", "#### 2", Source("t", 1))]
    found = contest([f"{dice}@temperature:0,0.5,1"], rows, **{**HOW, "samples": 4}).figures
    assert {p["name"] for p in found["players"]} == {f"{dice}@temperature:{t}" for t in ("0", "0.5", "1")}
    assert [m["n"] for m in found["matches"]] == [4, 4, 4]  # who is greedy repeats its answer


def test_the_best_of_several_is_chosen_by_its_reward_from_samples_of_its_own(dice: str) -> None:
    rows = [Task("roll", "#### 2", Source("t", 1))]
    best = f"{dice}@best-of:8?reward=verifier:flexible"
    found = contest([f"{dice}@temperature:1", best], rows, **{**HOW, "samples": 20})
    own, others = ([row[side] for row in found.rows] for side in ("completion", "other"))
    assert others == ["2"] * 20
    assert 3 < own.count("2") < 17
    rate = accuracy([dice, best], rows, max_new_tokens=2).figures["models"][1]["flexible"]
    assert (rate["value"], rate["n"]) == (1.0, 1)
    assert pass_at_k([best], rows, ks=[1], samples=3, max_new_tokens=2).figures["models"][0]["figures"][2]["value"] == 1


def test_five_beams_say_what_is_likelier_than_the_greedy_answer(dice: str) -> None:
    rows = [Task("walk", "#### 5", Source("t", 1))]
    found = accuracy([dice, f"{dice}@beam:5", f"{dice}@shots:0", "reference"], rows, max_new_tokens=4)
    assert [row["completion"] for row in found.rows] == ["a 1", "b 5", "a 1", "#### 5"]
    assert [m["flexible"]["count"] for m in found.figures["models"]] == [0, 1, 0, 1]
    rates = win_rate([dice, f"{dice}@beam:5"], rows, **HOW, temperatures=[0]).figures
    assert [(r["model"], r["temperature"], r["value"]) for r in rates["win_rates"]] == [
        (dice, 0.0, 0.0), (f"{dice}@beam:5", None, 0.5),
    ]  # fmt: skip
    assert [(c["a"], c["b"], c["metric"]) for c in rates["comparisons"]] == [
        (f"{dice}@temperature:0", f"{dice}@beam:5", "win rate")
    ]
    with pytest.raises(RecipeError, match="has fewer than 2 answers to a prompt"):
        pass_at_k([f"{dice}@beam:5"], rows, ks=[2])


def test_worked_examples_come_before_prompts_of_a_server_too(stub: Stub, simple: str, tmp_path: Path) -> None:
    examples = tmp_path / "train.jsonl"
    examples.write_text('{"prompt": "one", "chosen": "#### 7", "rejected": "2"}\n')
    stub.say = lambda body: "#### 4"
    name, how = f"{stub.url}#m", {**HOW, "examples": str(examples), "out": tmp_path}
    found = contest([f"{name}@shots:1", f"{simple}@shots:1", name], PROBLEMS[:1], **how)
    assert [m["ties"] for m in found.figures["matches"]] == [1, 1, 1]
    turns = [[turn["content"] for turn in body["messages"]] for body in stub.requests]
    assert turns == [["one", "#### 7", "one four"], ["one four"]]
    assert stub.requests[0]["temperature"] == 0
    with pytest.raises(RecipeError, match="@shots: no worked examples"):
        contest([f"{simple}@shots:1", "reference"], PROBLEMS, **HOW)


def test_people_who_never_let_two_groups_meet_are_noted(simple: str, wise: str, tmp_path: Path) -> None:
    from twofold.judges.people import HumanVerdicts, content_key, verdicts_path

    labels, heard = tmp_path / "labels.jsonl", Heard()
    with HumanVerdicts(verdicts_path(labels)) as verdicts:
        verdicts.give(content_key("one four", SIMPLE[0], WISE[0]), "first")
    found = contest([simple, wise, "reference"], PROBLEMS[:1] + PROBLEMS[2:], **{**HOW, "judge": f"human:{labels}"},
                    progress=heard)  # fmt: skip
    assert [p["group"] for p in found.figures["players"]] == [0, 0, 0]  # `#### 4` is the row's own answer: a tie
    few = contest([simple, wise, "reference"], [Task("one four", "#### 9", Source("t", 1))],
                  **{**HOW, "judge": f"human:{labels}"}, progress=heard)  # fmt: skip
    assert [p["group"] for p in few.figures["players"]] == [0, 0, 1]
    assert "2 groups of players never meet: scores can be compared only within a group" in heard.warnings


def test_mistakes_are_known_before_anything_is_drawn(simple: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a contest has two players or more, here is 1 player"):
        contest(["no such model"], PROBLEMS, **HOW)
    with pytest.raises(DataError, match="has no answer to compare with"):
        contest(["no such model", "reference"], [Request("one", Source("r", 1))], **{**HOW, "judge": "reward:x"})
    path = tmp_path / "few.jsonl"
    path.write_text('{"prompt": "five", "completion": "5"}\n')
    with pytest.raises(DataError) as refused:
        contest(["no such model", str(path)], PROBLEMS, **HOW)
    assert str(refused.value).startswith(f"{path}: has no answer to 2 prompts, the first of t.jsonl:1\n")
    with pytest.raises(DataError, match="no answer to compare with"):
        contest(["no such model@best-of:2?reward=verifier", simple], [Request("one", Source("r", 1))],
                judge="llm:http://127.0.0.1:1/v1#j", out=tmp_path)  # fmt: skip
    with pytest.raises(RecipeError, match="add --out FOLDER"):
        contest([simple, f"{simple}@best-of:2?reward=llm-score:http://127.0.0.1:1/v1#j"], PROBLEMS, **HOW)
