"""`twofold score` by every judge: each shape of rows, whole files or none, nothing asked twice, short mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Body, Stub, said
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy

Run = Callable[..., Any]


@pytest.fixture
def reward(model_folder: Path, tmp_path: Path) -> Path:
    held, loaded = load_reward_model(ModelSettings(path=str(model_folder), precision="float32"))
    save_policy(held, loaded.tokenizer, tmp_path / "rm")
    return tmp_path / "rm"


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_get_two_scores_and_an_accuracy(twofold: Run, reward: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"{i}?", "chosen": f"yes {i}", "rejected": "no", "mine": i} for i in range(5)]
    rows = [{**row, "weight": 1 + 2 * i} for i, row in enumerate(rows)]
    file, out = lines(tmp_path / "pairs.jsonl", *rows), tmp_path / "new" / "out.jsonl"
    answer = twofold("score", file, "--judge", f"reward:{reward}", "--out", out, "--columns", "prompt=instruction")
    assert answer.code == 0, answer.err
    found = written(out)
    assert [{k: row[k] for k in rows[0]} for row in found] == rows
    right = sum(row["weight"] * (row["chosen_score"] > row["rejected_score"]) for row in found)
    assert "10 scores of 5 rows" in answer.out
    assert f"{100 * right / 25:.1f}%" in answer.out
    assert list(out.parent.iterdir()) == [out]


def test_rankings_and_single_completions(twofold: Run, reward: Path, tmp_path: Path) -> None:
    ranking = {"prompt": "a?", "completions": ["x", "yy", "z"], "scores": [1, 0, 0]}
    file, out = lines(tmp_path / "rankings.jsonl", ranking), tmp_path / "out.jsonl"
    assert twofold("score", file, "--judge", f"reward:{reward}", "--out", out).code == 0
    (row,) = written(out)
    assert row["scores"] == [1, 0, 0]
    assert len(row["reward_scores"]) == 3
    file = lines(tmp_path / "tasks.jsonl", {"question": "a?", "answer": "x"})
    assert twofold("score", file, "--judge", f"reward:{reward}", "--out", out).code == 0
    assert written(out)[0]["score"] == pytest.approx(row["reward_scores"][0], abs=1e-5)


SUMS = [
    {"prompt": f"{n} + 1?", "chosen": f"#### {n + 1}", "rejected": f"so {n + bad}", "answer": f"#### {n + 1}"}
    for n, bad in enumerate((1, 2, 3, 0))
]


def test_a_verifier_tells_how_much_is_right(twofold: Run, tmp_path: Path) -> None:
    file, out = lines(tmp_path / "pairs.jsonl", *SUMS), tmp_path / "out.jsonl"
    answer = twofold("score", file, "--judge", "verifier:flexible", "--out", out)
    assert answer.code == 0, answer.err
    assert [(r["chosen_score"], r["rejected_score"]) for r in written(out)] == [(1.0, 1.0), *[(1.0, 0.0)] * 3]
    assert {json.dumps(r["scored_by"]) for r in written(out)} == {'{"kind": "verifier", "metric": "flexible"}'}
    chosen, rejected, compared = (answer.out.splitlines()[i].split() for i in (2, 3, 5))
    assert chosen[:3] == ["chosen_score", "4", "100.0%"]
    assert rejected[:3] == ["rejected_score", "4", "25.0%"]
    assert (compared[0], compared[1]) == ("4", "75.0%")
    assert "25.0%" in compared[5]  # ties
    assert not (tmp_path / "out.ledger.jsonl").exists()


def test_answers_in_no_order_and_labelled_ones(twofold: Run, tmp_path: Path) -> None:
    file = lines(tmp_path / "answers.jsonl", {"prompt": "p", "answers": ["#### 1", "#### 2"], "answer": "#### 2"})
    out = tmp_path / "out.jsonl"
    assert twofold("score", file, "--judge", "verifier", "--out", out).code == 0
    assert written(out)[0]["reward_scores"] == [0.0, 1.0]
    rows = [{"prompt": "p", "completion": f"#### {n}", "answer": "#### 2"} for n in (1, 2)]
    assert twofold("score", lines(tmp_path / "one.jsonl", *rows), "--judge", "verifier", "--out", out).code == 0
    assert [r["score"] for r in written(out)] == [0.0, 1.0]
    told = [{"prompt": "p", "completion": f"#### {n}", "label": n == 2, "answer": "#### 2"} for n in (1, 2, 3)]
    answer = twofold("score", lines(tmp_path / "labels.jsonl", *told), "--judge", "verifier", "--out", out)
    assert [r["score"] for r in written(out)] == [0.0, 1.0, 0.0]
    assert answer.out.splitlines()[-1].split()[:2] == ["2", "100.0%"]  # the good one over each bad one


@pytest.fixture
def stub() -> Iterator[Stub]:
    def grade(body: Body) -> str:
        good = [a.startswith("####") for a in re.findall(r'part="answer[^"]*">\n(.*?)\n</text-', said(body), re.DOTALL)]
        if len(good) == 2:
            return f"Verdict: {'A' if good[0] else 'B'}"
        return "Score: 9" if good[0] else "Score: 2"

    server = Stub(grade)
    yield server
    server.close()


def test_a_language_model_is_asked_once(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    file, out = lines(tmp_path / "pairs.jsonl", *SUMS), tmp_path / "out.jsonl"
    command = ("score", file, "retry.attempts=3", "retry.pause=0.01", "--judge", f"llm-score:{stub.url}#m",
               "--out", out)  # fmt: skip
    stub.behave = lambda body, nth: "garbage" if "so 5" in said(body) else "good"
    answer = twofold(*command)
    assert answer.code == 4, answer.err
    assert "1 of 4 rows lack a verdict" in answer.err
    assert [r["prompt"] for r in written(out)] == ["0 + 1?", "1 + 1?", "3 + 1?"]
    assert len(stub.good) == 7
    stub.behave = lambda body, nth: "good"
    answer = twofold(*command)
    assert answer.code == 0, answer.err
    assert len(stub.good) == 8
    assert [(r["chosen_score"], r["rejected_score"]) for r in written(out)] == [(9.0, 2.0)] * 4
    assert "100.0%" in answer.out
    assert "8 scores of 4 rows, mean 5.5" in answer.out
    out.unlink()
    assert twofold(*command).code == 0
    assert len(stub.good) == 8


def test_a_language_model_compares_what_a_row_holds(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    file = lines(tmp_path / "rankings.jsonl", {"prompt": "p", "completions": ["#### 1", "b", "#### 3"]})
    out = tmp_path / "out.jsonl"
    answer = twofold("score", file, "--judge", f"llm:{stub.url}#m", "--out", out)
    assert answer.code == 0, answer.err
    assert written(out)[0]["reward_scores"] == [0.75, 0.0, 0.75]  # the two good ones tie: A in either order
    assert answer.out.splitlines()[-1].split()[:2] == ["3", "33.3%"]


@pytest.mark.parametrize(
    ("row", "judge", "told"),
    [
        ({"prompt": "p", "completion": "c"}, (), "requires a judge"),
        ({"prompt": "p", "completion": "c"}, ("--reward", "x"), "--judge reward:x"),
        ({"prompt": "p", "completion": "c"}, ("--judge", "verifer"), "no judge is called 'verifer'"),
        ({"prompt": "p", "completion": "c"}, ("--judge", "verifier:loose"), "a verifier's rule is one of"),
        ({"prompt": "p", "completion": "c"}, ("--judge", "reward"), "the judge is written reward:FOLDER"),
        ({"prompt": "p", "completion": "c"}, ("--judge", "human"), "human makes pairs"),
        (
            {"prompt": "p", "completion": "c"},
            ("--judge", "verifier", "--rubric", "x"),
            "--rubric: a rubric goes with llm",
        ),
        ({"prompt": "p", "completion": "c"}, ("--judge", "verifier", "--steps"), "--steps: verifier rates no steps"),
        (
            {"prompt": "p", "completion": "c"},
            ("retry.parallel=0", "--judge", "verifier"),
            "override `retry.parallel=0`",
        ),
        ({"prompt": "p", "completion": "c"}, ("--judge", "llm:http://127.0.0.1:9/v1#m"), "nothing to compare it with"),
        ({"prompt": "p", "completion": "c"}, ("--judge", "verifier"), "has no answer to compare with"),
        ({"prompt": "p", "completion": "c", "answer": "x"}, ("--judge", "verifier"), "holds no number"),
        ({"prompt": "p", "answer": "#### 1"}, ("--judge", "verifier"), "no completion to verify"),
        ({"prompt": "p"}, ("--judge", "verifier"), "is a prompt without an answer"),
        ({"prompt": "p", "completion": 3}, ("--judge", "verifier"), "`completion`: is a number"),
    ],
)
def test_what_a_judge_cannot_score_is_one_message(
    twofold: Run, tmp_path: Path, row: Any, judge: Any, told: str
) -> None:
    file, out = lines(tmp_path / "rows.jsonl", row), tmp_path / "out.jsonl"
    answer = twofold("score", file, "--out", out, *judge)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == [file]


def test_mistakes_leave_no_file(twofold: Run, reward: Path, model_folder: Path, tmp_path: Path) -> None:
    file, out = lines(tmp_path / "a.jsonl", {"prompt": "a", "completion": "b" * 99}), tmp_path / "out.jsonl"
    for options, told in (
        (("--judge", f"reward:{model_folder}", "--out", out), "no trained score head"),
        (("--judge", f"reward:{reward}", "--out", file), "would overwrite"),
        (("--judge", f"reward:{reward}", "--out", out, "--max-length", 20), "max_length is 20"),
        (("--judge", f"reward:{tmp_path / 'nowhere'}", "--out", out), "no such folder"),
        (("--judge", f"reward:{reward}", "--out", out, "--columns", "prompt"), "OURS=THEIRS"),
    ):
        answer = twofold("score", file, *options)
        assert answer.code == 2, answer.err
        assert told in answer.err
        assert not out.exists()


def test_a_completion_too_long_for_the_model_is_named(twofold: Run, reward: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "a" * 40, "completion": "b" * n} for n in (5, 99)]
    file, out = lines(tmp_path / "a.jsonl", *rows), tmp_path / "out.jsonl"
    answer = twofold("score", file, "--judge", f"reward:{reward}", "--out", out, "--max-length", 20, "--cut-prompt")
    assert answer.code == 2
    assert f"{file}:2: a completion is longer than max_length (20)" in answer.err
    assert not out.exists()
