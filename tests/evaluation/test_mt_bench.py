"""`mt-bench`: conversations of two turns, scored by a server, with figures as of FastChat's `show_result.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.benchmark_judges import written
from support.heard import Heard
from support.judge_replies import QUICK, parts
from support.openai_stub import Body, Stub, said
from twofold.errors import DataError, RecipeError
from twofold.evaluation.mt_bench import mt_bench

RECORDED = json.loads((Path(__file__).parents[1] / "parity" / "mt_bench.json").read_text(encoding="utf-8"))


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "Score: 7")
    yield server
    server.close()


def questions(path: Path, categories: list[str]) -> str:
    rows = [
        {"question_id": 81 + i, "category": category, "turns": [f"first {i}?", f"then {i}?"]}
        for i, category in enumerate(categories)
    ]
    rows[1]["reference"] = ["own one", "own two"]
    rows[-1].setdefault("reference", ["not", "read"])
    return written(path / "question.jsonl", rows)


def answers(path: Path, name: str, n: int) -> str:
    """As FastChat writes them: each answer names its model, question and turn."""
    return written(
        path / f"{name}.jsonl",
        [{"question_id": 81 + i, "choices": [{"index": 0, "turns": [f"{name} {i} 0", f"{name} {i} 1"]}]}
         for i in range(n)],
    )  # fmt: skip


def test_figures_are_those_of_fastchat(stub: Stub, tmp_path: Path) -> None:
    scores = RECORDED["scores"]

    def say(body: Body) -> str:
        name, i, turn = parts(body)[-1].split()
        score = scores[name][int(i)][int(turn)]
        return "I cannot say." if score == -1 else f"Fine. [[{score}]]" if name == "m" else f"Score: {score}"

    stub.say = say
    data = questions(tmp_path, RECORDED["categories"])
    files = {name: answers(tmp_path, name, 20) for name in scores}
    heard = Heard()
    found = mt_bench([*files.values()], data, judge=f"llm-score:{stub.url}#j", out=tmp_path / "out", retry=QUICK,
                     progress=heard)  # fmt: skip
    figures = found.figures
    for model, name in zip(figures["models"], scores, strict=True):
        for metric, value in RECORDED["figures"][name].items():
            assert model[metric]["value"] == pytest.approx(value, abs=1e-9)
        missing = sum(score == -1 for both in scores[name] for score in both)
        some = sum(both != [-1, -1] for both in scores[name])
        assert (model["missing"], model["average"]["n"], model["average"]["clusters"]) == (missing, 40 - missing, some)
        math = [s for both in scores[name][1::4] for s in both if s != -1]
        assert model["subsets"]["math"]["average"]["value"] == pytest.approx(sum(math) / len(math))
        assert list(model["subsets"]) == ["writing", "math", "stem", "humanities"]
    tests = figures["comparisons"]
    assert [test["metric"] for test in tests] == ["turn_1", "turn_2", "average"]
    both = zip(scores["m"], scores["n"], strict=True)
    assert tests[2]["n"] == sum(any(-1 not in pair for pair in zip(a, b, strict=True)) for a, b in both)
    assert (figures["judge"]["kind"], figures["max_new_tokens"]) == ("llm-score", 1024)
    assert "pretraining" in figures["note"]
    assert heard.warnings == [
        f"{sum(m['missing'] for m in figures['models'])} answers without a score are left out of n"
    ]
    assert found.rows[0]["completions"] == ["m 0 0", "m 0 1"]


def test_a_player_answers_after_its_own_answer_at_the_category_s_temperature(stub: Stub, tmp_path: Path) -> None:
    player = Stub(lambda body: f"reply to {body['messages'][-1]['content']}")
    try:
        data, name = questions(tmp_path, ["writing", "math", "stem"]), f"{player.url}#p"
        found = mt_bench([name, f"{name}@temperature:0.3"], data, judge=f"llm-score:{stub.url}#j", out=tmp_path / "out")
        asked = [(body["messages"], body["temperature"], body["max_tokens"]) for body in player.requests]
    finally:
        player.close()
    assert {(body[1], len(body[0])) for body in asked} == {(t, n) for t in (0.7, 0.0, 0.1, 0.3) for n in (1, 3)}
    assert {body[2] for body in asked} == {1024}
    second = next(messages for messages, heat, _ in asked if heat == 0.1 and len(messages) == 3)
    assert [m["content"] for m in second] == ["first 2?", "reply to first 2?", "then 2?"]
    assert [row["temperature"] for row in found.rows] == [0.7, 0.0, 0.1, 0.3, 0.3, 0.3]
    assert found.figures["models"][0]["average"]["value"] == 7
    shown = [said(body) for body in stub.requests]
    assert sum("reply to first 2?" in text and "then 2?" in text for text in shown) == 1  # both players answer alike
    assert sum("own one" in text for text in shown) == 2
    assert sum("own two" in text for text in shown) == 1
    assert not any("a correct answer" in text for text in shown if "first 2?" in text)


def test_reference_answers_are_the_published_ones(stub: Stub, tmp_path: Path) -> None:
    data = questions(tmp_path, ["coding", "math"])
    rows = [{"question_id": 82, "choices": [{"turns": ["file one", "file two"]}]}]
    written(tmp_path / "reference_answer" / "gpt-4.jsonl", rows)
    how: dict[str, Any] = {"judge": f"llm-score:{stub.url}#j", "out": tmp_path / "out"}
    file = answers(tmp_path, "m", 2)
    mt_bench([file], data, **how)
    shown = [said(body) for body in stub.requests]
    assert [sum(text in each for each in shown) for text in ("file one", "file two", "own one")] == [2, 1, 0]
    written(tmp_path / "reference_answer" / "other.jsonl", rows)
    with pytest.raises(DataError, match=r"has 2 files of reference answers: gpt-4.jsonl, other.jsonl"):
        mt_bench([file], data, **how)


def test_rows_of_any_format_are_answers_by_the_conversation(stub: Stub, tmp_path: Path) -> None:
    data = questions(tmp_path, ["math", "math"])
    chat = [{"role": "user", "content": "first 0?"}, {"role": "assistant", "content": "one"},
            {"role": "user", "content": "then 0?"}]  # fmt: skip
    rows = [{"prompt": "first 0?", "completion": "one"}, {"prompt": chat, "completion": "two"}]
    file = written(tmp_path / "rows.jsonl", rows)
    one = written(tmp_path / "one.jsonl", [json.loads(Path(data).read_text(encoding="utf-8").splitlines()[0])])
    found = mt_bench([file], one, judge=f"llm-score:{stub.url}#j", out=tmp_path / "out")
    assert found.rows[0]["completions"] == ["one", "two"]
    with pytest.raises(DataError, match="has no answer to 1 prompt"):
        mt_bench([file], data, judge=f"llm-score:{stub.url}#j", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"category": "math", "turns": ["a", "b"]}, r"question.jsonl:2: lacks the key `question_id`"),
        ({"question_id": 9, "turns": ["a", "b"]}, r"question.jsonl:2: lacks the key `category`"),
        ({"question_id": 9, "category": "math", "turns": ["a"]}, r"question.jsonl:2: `turns` are not two texts"),
        ({"question_id": 8, "category": "math", "turns": ["a", "b"]}, r"question.jsonl:2: repeats question_id 8"),
        ({"question_id": 7, "category": "math", "turns": ["a", "b"]}, r"m.jsonl: has no answer to question_id 8"),
    ],
)
def test_wrong_data_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    first = {"question_id": 8, "category": "math", "turns": ["a", "b"]}
    data, file = written(tmp_path / "question.jsonl", [first, row]), answers(tmp_path, "m", 2)
    with pytest.raises(DataError, match=message):
        mt_bench([file], data, judge="llm-score:http://127.0.0.1:9/v1#j", out=tmp_path)


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    data, file = questions(tmp_path, ["math", "math"]), answers(tmp_path, "m", 2)
    with pytest.raises(RecipeError, match="requires one judge"):
        mt_bench([file], data, judge=["llm-score:http://h/v1#a", "llm-score:http://h/v1#b"], out=tmp_path)
    with pytest.raises(RecipeError, match="compares answers and gives no reward"):
        mt_bench([file], data, judge="llm:http://h/v1#a", out=tmp_path)
    with pytest.raises(RecipeError, match="reference has no meaning here"):
        mt_bench(["reference"], data, judge="llm-score:http://h/v1#a", out=tmp_path)
    with pytest.raises(RecipeError, match="a rubric goes with llm-score"):
        mt_bench([file], data, judge="reward:nowhere", rubric="r.txt", out=tmp_path)
    broken = written(tmp_path / "broken.jsonl", [{"question_id": 81, "choices": [{"turns": ["only one"]}]}])
    with pytest.raises(DataError, match=r"broken.jsonl:1: has no two turns in `choices`"):
        mt_bench([broken], data, judge="llm-score:http://h/v1#a", out=tmp_path)
