"""Answers of servers with calls of tools or reasoning: they stay messages in rows, for judges and for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from support.openai_stub import Body, Stub
from support.openai_stub import said as asked_of
from support.tool_templates import ASK, WEATHER
from twofold.client.server import RetrySettings
from twofold.data.formats import read
from twofold.datagen.build import BuildSettings, build, read_for
from twofold.datagen.label import Labelling
from twofold.datagen.score import ScoreSettings, score
from twofold.errors import ServerError
from twofold.evaluation.win_rate import win_rate
from twofold.judges.questions import read_questions
from twofold.progress import Silent
from twofold.records import Message, Pair, Source, Task

QUICK = RetrySettings(timeout=5, attempts=2, pause=0.01)
Answer = dict[str, Any]


def call(city: Any, number: str) -> Answer:
    """A message as OpenAI-compatible servers write it."""
    arguments = city if isinstance(city, str) and city.startswith("{") else json.dumps({"city": city})
    made = {"id": number, "type": "function", "index": 0, "function": {"name": "weather", "arguments": arguments}}
    return {"content": None, "tool_calls": [made], "function_call": None, "refusal": None, "annotations": []}


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Body], str | Answer]], Stub]]:
    made: list[Stub] = []

    def start(say: Callable[[Body], str | Answer]) -> Stub:
        made.append(Stub(say))
        return made[-1]

    yield start
    for server in made:
        server.close()


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def built(source: Path, out: Path, heard: Heard | Silent | None = None, **how: Any) -> list[Any]:
    settings = BuildSettings(**{"retry": QUICK, **how})
    build(read_for(settings, str(source)), settings, out, pytest.fail, heard or Silent())
    return list(read(str(out)).records)


def test_calls_of_a_server_become_rows(tmp_path: Path, serve: Any) -> None:
    """Three samples: two calls that differ only in their ids, and a text. The judge likes calls."""
    numbers = iter(range(99))

    def say(body: Body) -> str | Answer:
        if body["model"] == "judge":
            return "Score: 9" if '[assistant, call]\nweather({"city": "Rome"})' in asked_of(body) else "Score: 2"
        number = next(numbers)
        return "I do not know." if number == 1 else call("Rome", f"call-{number}")

    stub = serve(say)
    source = lines(tmp_path / "p.jsonl", {"prompt": [ASK], "tools": [WEATHER]})
    how = {"models": (f"{stub.url}#m",), "judge": f"llm-score:{stub.url}#judge", "samples": 3}
    (pair,) = built(source, tmp_path / "out.jsonl", **how, retry=RetrySettings(parallel=1))
    assert isinstance(pair, Pair)
    (turn,) = pair.chosen
    assert isinstance(turn, Message)
    (made,) = turn.keys()["tool_calls"]
    assert made["function"] == {"name": "weather", "arguments": {"city": "Rome"}}
    assert (made["id"], pair.rejected) == ("call-0", "I do not know.")
    assert stub.requests[0]["tools"] == [WEATHER]
    assert sum(body["model"] == "judge" for body in stub.requests) == 2  # equal calls count once
    count = len(stub.requests)
    assert built(source, tmp_path / "out.jsonl", **how) == [pair]
    assert len(stub.requests) == count


def test_reasoning_of_a_server_stays_apart_from_its_answer(tmp_path: Path, serve: Any) -> None:
    """A text prompt becomes a chat in the row; the older name of the same reasoning is no second one."""

    def say(body: Body) -> Answer:
        number = 4 + body["seed"] // 64 % 2
        thought = f"2 and 2, so {number}?"
        return {"content": f"#### {number}", "reasoning": thought, "reasoning_content": thought}

    stub = serve(say)
    source = lines(tmp_path / "p.jsonl", {"prompt": "2 + 2?", "answer": "#### 4"})
    how = {"models": (f"{stub.url}#m",), "judge": "verifier", "samples": 6}
    (pair,) = built(source, tmp_path / "out.jsonl", **how)
    assert pair.prompt == (Message("user", "2 + 2?"),)
    turns = [Message("assistant", f"#### {n}", json.dumps({"reasoning_content": f"2 and 2, so {n}?"})) for n in (4, 5)]
    assert (pair.chosen, pair.rejected) == ((turns[0],), (turns[1],))


def test_keys_that_no_message_has_are_named(tmp_path: Path, serve: Any) -> None:
    stub = serve(lambda body: {"content": f"#### {body['seed'] % 3}", "reasoning_details": [{"text": "so"}]})
    source, heard = lines(tmp_path / "p.jsonl", {"prompt": "2 + 2?", "answer": "#### 1"}), Heard()
    built(source, tmp_path / "out.jsonl", heard, models=(f"{stub.url}#m",), form="labels", samples=2)
    assert "the answers' key `reasoning_details` is not read (2 of them have it)" in heard.warnings


def test_a_malformed_call_is_asked_again(tmp_path: Path, serve: Any) -> None:
    seen = set[str]()

    def say(body: Body) -> Answer:
        first = len(seen) < 1
        seen.add(str(body["seed"]))
        return call('{"city": ' if first else "Rome", "call-1")

    stub = serve(say)
    source = lines(tmp_path / "p.jsonl", {"prompt": [ASK], "tools": [WEATHER], "answer": "#### 1"})
    how = {"models": (f"{stub.url}#m",), "form": "labels", "samples": 1}
    (label,) = built(source, tmp_path / "out.jsonl", **how)
    assert (label.desirable, label.completion[0].keys()["tool_calls"][0]["id"]) == (False, "call-1")
    always = serve(lambda body: call('{"city": ', "call-1"))
    with pytest.raises(ServerError, match="its `arguments` are no JSON object"):
        built(source, tmp_path / "other.jsonl", **{**how, "samples": 14, "models": (f"{always.url}#m",)})


def test_an_answer_that_is_cut_within_a_call_is_a_truncated_one(tmp_path: Path, serve: Any) -> None:
    stub, heard = serve(lambda body: {**call('{"city": ', "call-1"), "content": "Let me see."}), Heard()
    stub.behave = lambda body, nth: "cut"
    source = lines(tmp_path / "p.jsonl", {"prompt": [ASK], "tools": [WEATHER], "answer": "#### 1"})
    how = {"models": (f"{stub.url}#m",), "form": "labels", "samples": 1, "keep_truncated": True}
    (label,) = built(source, tmp_path / "out.jsonl", heard, **how)
    assert label.completion == "Let me see."
    assert "the answers' key `tool_calls` is not read (1 of them have it)" in heard.warnings


def test_an_answer_with_reasoning_alone_is_empty(tmp_path: Path, serve: Any) -> None:
    stub = serve(lambda body: {"content": None, "reasoning_content": "Hm."})
    source = lines(tmp_path / "p.jsonl", {"prompt": "2 + 2?", "answer": "#### 4"})
    settings = BuildSettings(retry=QUICK, models=(f"{stub.url}#m",), form="labels", samples=2)
    done = build(read_for(settings, str(source)), settings, tmp_path / "out.jsonl", pytest.fail, Silent())
    assert (done.rows, done.left_out["empty or truncated answers"]) == (0, 1)


def test_a_judge_that_thinks_or_refuses_is_read_by_its_text(tmp_path: Path, serve: Any) -> None:
    stub = serve(lambda body: {"content": "Score: 3", "reasoning_content": "Score: 9"})
    source = lines(tmp_path / "p.jsonl", {"prompt": "p", "completion": "a"})
    how = ScoreSettings(judge=f"llm-score:{stub.url}#j", retry=QUICK)
    assert score(str(source), how, tmp_path / "out.jsonl", pytest.fail, Silent()).scores == [[3.0]]
    refusing = serve(lambda body: {"content": None, "refusal": "I cannot grade this.\nScore: 1"})
    how = ScoreSettings(judge=f"llm-score:{refusing.url}#j", retry=QUICK)
    assert score(str(source), how, tmp_path / "other.jsonl", pytest.fail, Silent()).scores == [[1.0]]


@pytest.mark.parametrize("shown", [False, True])
def test_win_rates_of_a_model_that_thinks(tmp_path: Path, serve: Any, shown: bool) -> None:
    """The judge reads the answer, and the reasoning if it is set to. People get the answer; their verdict counts."""

    def say(body: Body) -> str | Answer:
        if body["model"] == "judge":
            text = asked_of(body)
            assert ("So four." in text) is shown
            assert "with_reasoning" not in body
            own = text.index("[assistant, reasoning_content]\nSo four.\n\n[assistant]\n#### 4" if shown else "#### 4")
            return f"Verdict: {'A' if own < text.index('It is 5.') else 'B'}"
        return {"content": "#### 4", "reasoning_content": "So four."}

    stub = serve(say)
    rows, out = [Task("2 + 2?", "It is 5.", Source("t.jsonl", 1))], tmp_path / "out"
    how: dict[str, Any] = {"temperatures": [0.0], "canary": "", "out": out}
    judge = f"llm:{stub.url}#judge{'?with_reasoning=true&top_p=1' if shown else ''}"
    found = win_rate([f"{stub.url}#m"], rows, judge=judge, **how)
    assert found.figures["judge"].get("with_reasoning", False) is shown
    assert found.figures["win_rates"][0]["value"] == 1.0
    assert found.rows[0]["completion"] == [{"role": "assistant", "content": "#### 4", "reasoning_content": "So four."}]
    comparisons, labels = out / "comparisons.jsonl", tmp_path / "labels.jsonl"
    with Labelling.open(read_questions(str(comparisons)).questions, labels) as labelling:
        row = labelling.state()["row"]
        left = "".join(piece[0] for piece in row["left"])
        labelling.give(row["key"], "left" if "It is 5." in left else "right", 1.0)
        labelling.write()
    people = win_rate([f"{stub.url}#m"], rows, judge=f"human:{labels}", **how)
    assert people.figures["win_rates"][0]["value"] == 0.0
