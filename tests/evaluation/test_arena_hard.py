"""`arena-hard` from answers in files: graded verdicts of a server, scores as of arena-hard-auto's `show_result.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.benchmark_judges import request, written
from support.heard import Heard
from support.judge_replies import QUICK, parts
from support.openai_stub import Body, Stub, said
from twofold.errors import DataError, RecipeError
from twofold.evaluation.alpaca_eval import alpaca_eval
from twofold.evaluation.arena_hard import Battles, arena_hard, battles_of

RECORDED = json.loads((Path(__file__).parents[1] / "parity" / "arena_hard.json").read_text(encoding="utf-8"))
CATEGORIES = ("hard_prompt", "creative_writing")


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "Mine. [[A>B]]")
    yield server
    server.close()


def answers(path: Path, name: str, n: int, metadata: Mapping[str, Any] | None = None) -> str:
    """As arena-hard-auto writes them."""
    return written(
        path / f"{name}.jsonl",
        [{"uid": f"q{i}", "model": name, "messages": [
            {"role": "user", "content": f"prompt {i}"},
            {"role": "assistant", "content": {"answer": f"{name} says {i}"}}],
          **({} if metadata is None else {"metadata": metadata[f"q{i}"]})} for i in range(n)],
    )  # fmt: skip


def questions(path: Path, n: int) -> str:
    rows = [{"uid": f"q{i}", "category": CATEGORIES[i % 2], "prompt": f"prompt {i}"} for i in range(n)]
    return written(path / "question.jsonl", rows)


def test_scores_are_those_of_the_package(stub: Stub, tmp_path: Path) -> None:
    games = RECORDED["games"]

    def say(body: Body) -> str:
        i, (first, second) = int(request(body).split()[1]), parts(body)
        name = (second if first.startswith("base") else first).split()[0]
        verdict = games[name][i][0 if first.startswith("base") else 1]
        return "I cannot say." if verdict is None else f"Well. [[{verdict}]]"

    stub.say = say
    files, base = [answers(tmp_path, name, 30) for name in games], answers(tmp_path, "base", 30)
    heard = Heard()
    found = arena_hard(files, questions(tmp_path, 30), judge=f"llm:{stub.url}#j", against=base, out=tmp_path / "out",
                       retry=QUICK, progress=heard)  # fmt: skip
    for model, name in zip(found.figures["models"], games, strict=True):
        assert model["score"]["value"] == pytest.approx(RECORDED["scores"][name], abs=1e-9)
        for category in CATEGORIES:
            value = RECORDED["subsets"][f"{name}/{category}"]
            assert model["subsets"][category]["score"]["value"] == pytest.approx(value, abs=1e-9)
        missing = sum(None in both for both in games[name])
        assert (model["missing"], model["score"]["n"], model["truncated"]) == (missing, 30 - missing, 0)
        assert model["wins"] + model["ties"] + model["losses"] == RECORDED["battles"][name]
        assert 3 * model["strong"] < RECORDED["battles"][name]
        assert model["score"]["low"] < model["score"]["value"] < model["score"]["high"]
    (test,) = found.figures["comparisons"]
    assert test["metric"] == "score"
    assert test["n"] == sum(None not in (*a, *b) for a, b in zip(games["m"], games["n"], strict=True))
    assert found.figures["judge"]["kind"] == "llm, five grades"
    assert found.figures["against"].endswith("/base.jsonl")
    assert found.figures["max_new_tokens"] == 4096
    assert all(body["max_tokens"] == 4096 for body in stub.requests)
    lacks, missing = heard.warnings
    assert "the tokens of answers of" in lacks or "the tokens of answers of" in missing
    assert all("style_score" not in model for model in found.figures["models"])


def test_scores_at_equal_style_are_those_of_the_package(stub: Stub, tmp_path: Path) -> None:
    games, control = RECORDED["games"], RECORDED["controlled"]

    def say(body: Body) -> str:
        i, (first, second) = int(request(body).split()[1]), parts(body)
        name = (second if first.startswith("base") else first).split()[0]
        return f"[[{games[name][i][0 if first.startswith('base') else 1]}]]"

    stub.say = say
    files = [answers(tmp_path, name, 30, RECORDED["metadata"][name]) for name in (*games, "base")]
    heard = Heard()
    found = arena_hard(files[:2], questions(tmp_path, 30), judge=f"llm:{stub.url}#j", against=files[2],
                       out=tmp_path / "out", retry=QUICK, progress=heard)  # fmt: skip
    assert len(heard.warnings) == 1
    for model, name in zip(found.figures["models"], games, strict=True):
        figure = model["style_score"]
        assert figure["value"] == pytest.approx(control["all"][name], abs=1e-6)
        assert figure["value"] == pytest.approx(control["as_published"][name], abs=0.002)
        assert figure["low"] < figure["value"] < figure["high"]
        assert figure["n"] == model["score"]["n"]
        for category in CATEGORIES:
            value = model["subsets"][category]["style_score"]["value"]
            assert value == pytest.approx(control[category][name], abs=1e-6)
        assert model["equal_style_score"]["value"] < figure["value"] - 0.005
    styles = found.figures["style_control"]
    assert list(styles) == ["tokens", "headers", "lists", "bold"]
    assert [each["weight"] for each in styles.values()] == pytest.approx(control["all"]["weights"], abs=1e-6)
    assert styles["tokens"]["mean"] > 0.1
    assert [test["metric"] for test in found.figures["comparisons"]] == ["score", "style_score", "equal_style_score"]
    metadata = RECORDED["metadata"]["m"]["q0"]
    assert found.rows[0]["style"] == [metadata["token_len"], *(sum(metadata[f"{k}_count"].values())
                                                              for k in ("header", "list", "bold"))]  # fmt: skip


def test_the_older_form_and_equal_answers(stub: Stub, tmp_path: Path) -> None:
    rows = [{"question_id": f"q{i}", "category": "arena-hard-v0.1", "turns": [{"content": f"p {i}"}]} for i in (0, 1)]
    data = written(tmp_path / "question.jsonl", rows)
    files = [
        written(tmp_path / f"{name}.jsonl", [{"question_id": f"q{i}", "choices": [{"turns": [{"content": text}]}]}
                                             for i, text in enumerate(texts)])
        for name, texts in (("m", ("same", "long")), ("base", ("same", "b")))
    ]  # fmt: skip
    stub.say = lambda body: f"[[{'A>>B' if parts(body)[0] == 'long' else 'B>A'}]]"
    found = arena_hard(files[:1], data, judge=f"llm:{stub.url}#j", against=files[1], out=tmp_path / "out")
    (model,) = found.figures["models"]
    assert model["score"]["value"] == pytest.approx((0.5 + 0.5 + 4) / 6)
    assert (model["wins"], model["ties"], model["losses"], model["strong"], model["subsets"]) == (4, 2, 0, 1, {})
    assert [row["battles"] for row in found.rows] == [[0.5, 0.5], [1, 1, 1, 1]]
    assert len(stub.requests) == 2
    assert "[[A>>B]]" in said(stub.requests[0])


def test_outputs_as_alpaca_eval_has_them_are_a_player(stub: Stub, tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", [{"instruction": "p", "output": "b", "generator": "x", "dataset": "d"}])
    file = written(tmp_path / "m.jsonl", [{"instruction": "p", "output": "mm", "generator": "y", "dataset": "d"}])
    stub.say = lambda body: f"Verdict: {'A' if parts(body)[0] == 'mm' else 'B'}"
    found = alpaca_eval([file], data, judge=f"llm:{stub.url}#j", out=tmp_path / "out")
    assert found.figures["models"][0]["win_rate"]["value"] == 1
    other = written(tmp_path / "o.jsonl", [{"instruction": "q", "output": "mm"}])
    with pytest.raises(DataError, match=r"o.jsonl: has no answer to 1 of 1 prompts, the first of .*data.jsonl:1"):
        alpaca_eval([other], data, judge=f"llm:{stub.url}#j", out=tmp_path / "out")


def test_strong_verdicts_are_three_battles() -> None:
    assert battles_of(("A>>B", "A>B")) == [1, 1, 1, 0]
    assert battles_of(("A=B", "B>>A")) == [0.5, 1, 1, 1]
    assert battles_of(None) == [0.5, 0.5]


def test_two_players_are_compared_on_common_prompts() -> None:
    one = Battles([0, 1, 1, 0] * 10, [2, 2, 2, 0] * 10, range(40))
    same = one.against(one)
    assert same is not None
    assert (same.difference.value, same.test.p_value, same.test.n) == (0, 1, 30)
    other = Battles([2, 2, 3, 2] * 10, [2, 2, 4, 2] * 10, range(40))
    moved = one.against(other)
    assert moved is not None
    assert moved.difference.value == pytest.approx(7 / 8 - 2 / 6)
    assert 0.3 < moved.difference.low < moved.difference.high < 0.8
    assert moved.test.p_value < 0.001
    assert (moved.test.only_a, moved.test.only_b) == (0, 30)
    equal = Battles([1, 3, 0, 2, 1], [2, 4, 2, 2, 2], range(5)).against(
        Battles([2, 3, 1, 1, 1], [4, 4, 2, 2, 1], range(5))
    )
    assert equal is not None
    assert (equal.test.only_a, equal.test.only_b) == (1, 2), "0.5 of two battles and of four are the same"
    assert one.against(Battles([1.0], [2], [7])) is None
    assert Battles([0.0, 1.0], [0, 1], [0, 1]).against(Battles([1.0, 0.0], [1, 0], [0, 1])) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"category": "hard_prompt", "prompt": "p"}, r"question.jsonl:1: lacks the key `uid`"),
        ({"uid": "a", "prompt": "p"}, r"question.jsonl:1: lacks the key `category`"),
        ({"uid": "a", "category": "c", "prompt": 3}, r"question.jsonl:1: has 3 as `prompt`, not a text"),
    ],
)
def test_wrong_questions_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        arena_hard(
            ["m.jsonl"], written(tmp_path / "question.jsonl", [row]), judge="llm:http://h/v1#j", against="b.jsonl"
        )


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    data, file = questions(tmp_path, 2), answers(tmp_path, "m", 2)
    for how, message in (
        ({"judge": "llm:http://h/v1#j"}, "requires the baseline"),
        ({"judge": "llm:http://h/v1#j", "against": "reference"}, "requires the baseline"),
        ({"judge": "llm-prob:http://h/v1#j", "against": file}, "requires one judge that grades two answers"),
        ({"judge": ["llm:http://h/v1#j", "llm:http://h/v1#k"], "against": file}, "requires one judge"),
    ):
        with pytest.raises(RecipeError, match=message):
            arena_hard([file], data, out=tmp_path, **how)  # type: ignore[arg-type]  # settings by name
    broken = written(tmp_path / "broken.jsonl", [{"uid": "q0", "messages": [{"role": "user", "content": "x"}]}])
    with pytest.raises(DataError, match=r"broken.jsonl:1: has no answer"):
        arena_hard([broken], data, judge="llm:http://h/v1#j", against=file, out=tmp_path)
