"""Verdicts of five grades as a language model writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.judge_replies import QUICK
from support.openai_stub import Body, Stub
from twofold.client.server import Endpoint, Server
from twofold.judges.language_model import Match, ModelJudge, Rubric
from twofold.ledger import Ledger


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("[[A>>B]]", "A>>B"), ("so [[ B>A ]].", "B>A"), ("[[A<<B]]", "B>>A"), ("[[B<A]]", "A>B"), ("[[B=A]]", "A=B"),
        ("first [[A>B]], no: [[A=B]]", "A=B"), ("[[A>A]]", None), ("A>B", None), ("[[A>>>B]]", None),
    ],
)  # fmt: skip
def test_the_last_mark_is_the_verdict(tmp_path: Path, reply: str, verdict: str | None) -> None:
    stub = Stub(lambda body: reply)
    try:
        with Ledger(tmp_path / "l.jsonl") as ledger, Server(Endpoint.of(f"{stub.url}#m"), QUICK) as server:
            judge = ModelJudge(server, Rubric.load("grade"), max_tokens=9)
            assert list(judge.grades([Match("p", "one", "two")], ledger)) == [(0, (verdict, verdict))]
    finally:
        stub.close()
    assert {body["max_tokens"] for body in stub.requests} == {9}


@pytest.mark.parametrize(("reply", "score"), [("Rating: [[7]]", 7), ("[[ 6.5 ]]", 6.5), ("Score: 3\n[[9]]", 3)])
def test_a_rating_in_brackets_is_a_score(tmp_path: Path, reply: str, score: float) -> None:
    def say(body: Body) -> str:
        return reply

    stub = Stub(say)
    try:
        with Ledger(tmp_path / "l.jsonl") as ledger, Server(Endpoint.of(f"{stub.url}#m"), QUICK) as server:
            judge = ModelJudge(server, Rubric.load("score"))
            assert list(judge.score([("p", "answer", None)], ledger)) == [(0, score)]
    finally:
        stub.close()
