"""The win rate during training: against the start's answers and against the rows', by value, and what is refused."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from support.recital import Letters, Recites
from twofold.errors import DataError, RecipeError
from twofold.evaluation.rate_in_training import RateInTraining, WinRateInTraining
from twofold.statistics import clustered_share, wilson

ROWS = [{"question": f"q{i}", "answer": f"#### {i}"} for i in range(4)]


def opened(tmp_path: Path, rows: list[dict[str, Any]] = ROWS, **how: Any) -> RateInTraining:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = WinRateInTraining(prompts=str(file), **({"judge": "verifier"} | how))
    return RateInTraining.open(settings, tmp_path / "samples.jsonl", ExitStack())


def figures(rate: RateInTraining, *numbers: int) -> dict[str, float]:
    """Of a model that answers so."""
    sampler = Recites({f"q{i}": f"#### {n}" for i, n in enumerate(numbers)})
    found, rows = rate(sampler, Letters(), 0, Heard())
    assert [row["completion"] for row in rows] == [f"#### {n}" for n in numbers]
    return found


def test_the_first_answers_are_the_opponent(tmp_path: Path) -> None:
    """First right on q0 only; then on q0, q1 and q2: two wins and two ties; then on none: a loss and three ties."""
    rate = opened(tmp_path)
    assert figures(rate, 0, 9, 9, 9)["win_rate/rate"] == 0.5
    found, interval = figures(rate, 0, 1, 2, 8), clustered_share([1, 2, 2, 1], [2, 2, 2, 2])
    assert found == {
        "win_rate/rate": 0.75, "win_rate/low": interval.low, "win_rate/high": interval.high, "win_rate/n": 4.0,
    }  # fmt: skip
    assert figures(rate, 7, 7, 7, 7)["win_rate/rate"] == 0.375


def test_a_resumed_run_finds_its_first_answers(tmp_path: Path) -> None:
    rate = opened(tmp_path)
    _, rows = rate(Recites({f"q{i}": "#### 0" for i in range(4)}), Letters(), 0, Heard())
    lines = [{"step": 0, **row} for row in rows] + [{"step": 0, "name": "x", "completion": "other"}]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert figures(opened(tmp_path), 0, 1, 2, 3)["win_rate/rate"] == 0.875


def test_the_rows_answers_can_be_the_opponent(tmp_path: Path) -> None:
    rate = opened(tmp_path, against="answers")
    assert figures(rate, 0, 1, 9, 9)["win_rate/rate"] == 0.25, "two ties, two losses"
    assert opened(tmp_path, limit=2).records == rate.records[:2]


@pytest.mark.parametrize(
    ("how", "rows", "error", "message"),
    [
        ({"judge": "llm:http://127.0.0.1:1/v1#x"}, ROWS, RecipeError, "does not judge during training"),
        ({"judge": "human:x"}, ROWS, RecipeError, "does not judge during training"),
        ({}, [{"prompt": "q"}], DataError, "has no reference answer"),
        ({"against": "answers", "judge": "reward:x"}, [{"prompt": "q"}], DataError, "has no answer to compare with"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    tmp_path: Path, how: dict[str, Any], rows: list[dict[str, Any]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(tmp_path, rows, **how)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"max_length": 1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WinRateInTraining(prompts="x", judge="verifier", **wrong)


def test_the_judges_own_accuracy_is_next_to_the_rate(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "#### 7", "rejected": "#### 8", "answer": a} for i, a in enumerate("788")]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rate = opened(tmp_path, judge_pairs=str(pairs))
    heard = Heard()
    sampler = Recites({f"q{i}": "#### 0" for i in range(4)})
    first, _ = rate(sampler, Letters(), 0, heard)
    interval = wilson(1, 3)
    assert {name: value for name, value in first.items() if "judge" in name} == {
        "win_rate/judge_accuracy": interval.value, "win_rate/judge_low": interval.low,
        "win_rate/judge_high": interval.high, "win_rate/judge_n": 3.0,
    }  # fmt: skip
    again, _ = rate(sampler, Letters(), 0, heard)
    assert again["win_rate/judge_n"] == 3
    assert len([each for each in heard.notes if "labeled pairs" in each]) == 1, "measured once"
