"""Answers of a model that reasons: the answer is scored, the reasoning is next to it in rows and ledgers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.speakers import speaker
from twofold.evaluation.answers import accuracy
from twofold.evaluation.matches import ModelGames, as_row
from twofold.evaluation.pass_at_k import pass_at_k
from twofold.evaluation.win_rate import win_rate
from twofold.judges.base import JudgeNameError
from twofold.judges.matchups import MatchResult
from twofold.judges.registry import BEST_OF, SCORE, WIN_RATE, parse_judge
from twofold.records import Source, Task

THINKS = "{% for m in messages %}{{ m.content }} {% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
TABLE = {"<think>": "9", "9": "</think>", "</think>": "####", "####": "5"}
ROWS = [Task("four", "#### 5", Source("t.jsonl", 1)), Task("five", "#### 9", Source("t.jsonl", 2))]


@pytest.fixture(scope="session")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reasons `9`, which is the second row's answer, and answers `#### 5`, which is the first one's."""
    return speaker(tmp_path_factory.mktemp("thinker"), TABLE, words="four five", chat_template=THINKS)


def ledger(out: Path) -> list[Any]:
    return [json.loads(line) for line in (out / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("player", ["{}", "{}@temperature:1"])
def test_the_answer_is_scored_and_the_reasoning_is_beside_it(thinker: str, tmp_path: Path, player: str) -> None:
    """A model here is sampled directly, a player with a temperature from the ledger."""
    found = accuracy([player.format(thinker)], ROWS, max_new_tokens=8, out=tmp_path)
    told = [(row["completion"], row["reasoning"], row["strict"], row["flexible"]) for row in found.rows]
    assert told == [("#### 5", "9", True, True), ("#### 5", "9", False, False)]
    cut = accuracy([player.format(thinker)], ROWS, max_new_tokens=1, out=tmp_path / "cut").rows
    assert [(row["completion"], row["reasoning"], row["flexible"]) for row in cut] == [("", "9", False)] * 2


@pytest.mark.parametrize("player", ["{}", "{}@best-of:2?reward=verifier:flexible"])
def test_samples_are_counted_by_their_answers(thinker: str, tmp_path: Path, player: str) -> None:
    found = pass_at_k([player.format(thinker)], ROWS, ks=[1], samples=2, max_new_tokens=8, out=tmp_path)
    assert [(row["strict"]["right"], row["flexible"]["wrong"]) for row in found.rows] == [(2, []), (0, [2])]


def test_a_ledger_has_both_parts(thinker: str, simple: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"judge": "verifier", "temperatures": [0.0], "max_new_tokens": 8, "out": tmp_path}
    found = win_rate([thinker], ROWS, against=simple, **how)
    (row, _) = found.rows
    turn = {"role": "assistant", "content": "#### 5", "reasoning_content": "9"}
    assert (row["completion"], row["share"]) == ([turn], 1.0)
    replies = [entry["reply"] for entry in ledger(tmp_path) if "reasoning" in str(entry)]
    assert [(r["text"], r["answer"], r["reasoning"]) for r in replies] == [("9 </think> #### 5", "#### 5", "9")] * 2


def test_lengths_are_those_of_answers() -> None:
    turn = [{"role": "assistant", "content": "12345", "reasoning_content": "long reasoning"}]
    row = {"source": ["t", 1], "prompt": "p", "own": turn, "other": "abc", "cut": False, "other_cut": False}
    played = ModelGames.of([row | as_row(MatchResult(1.0))], {"model": "m", "temperature": 0.0})
    assert [(game.length, game.other) for game in played.games] == [(5, 3)]


@pytest.mark.parametrize(
    ("name", "argument", "reads"),
    [
        ("llm:http://h/v1#m?with_reasoning=true", "http://h/v1#m", True),
        ("llm-score:http://h/v1#m?seed=1&with_reasoning=true", "http://h/v1#m?seed=1", True),
        ("llm-prob:http://h/v1#m?with_reasoning=true&seed=1&top_p=1", "http://h/v1#m?seed=1&top_p=1", True),
        ("reward:runs/rm?with_reasoning=true", "runs/rm", True),
        ("reward:runs/rm?with_reasoning=false", "runs/rm", False),
        ("llm:http://h/v1#m", "http://h/v1#m", False),
    ],
)
def test_a_judge_reads_reasoning_if_its_name_says_so(name: str, argument: str, reads: bool) -> None:
    kind = parse_judge(name, WIN_RATE if name.startswith("llm:") or "prob" in name else BEST_OF)
    assert (kind.argument, kind.with_reasoning) == (argument, reads)


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("verifier:strict?with_reasoning=true", WIN_RATE, "verifier reads no reasoning"),
        ("human:labels?with_reasoning=true", WIN_RATE, "human reads no reasoning"),
        ("reward:rm?with_reasoning=true", SCORE, "score --judge does not choose it"),
        ("reward:rm?with_reasoning=yes", WIN_RATE, "with_reasoning is true or false, not 'yes'"),
        ("ensemble:mean:reward:a?with_reasoning=true,reward:b", WIN_RATE, "ensemble reads no reasoning"),
    ],
)
def test_where_nothing_reads_it_the_option_is_refused(name: str, place: Any, words: str) -> None:
    with pytest.raises(JudgeNameError) as error:
        parse_judge(name, place)
    assert words in error.value.what
