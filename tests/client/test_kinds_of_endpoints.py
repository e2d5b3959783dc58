"""Endpoints that take other fields than ours: strict, old, new and rude ones, and fields of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.endpoint_kinds import new, old, rude, strict
from support.openai_stub import Behaviour, Body, Stub
from twofold.client.http import BadRequestError, RefusedFieldError
from twofold.client.server import CompletionRequest, Endpoint, Reply, RetrySettings, Server
from twofold.errors import RecipeError
from twofold.ledger import Ledger
from twofold.progress import Silent
from twofold.sampling.answers import Draw, open_answerer
from twofold.sampling.base import Sampling

ONE_BY_ONE = RetrySettings(attempts=1, pause=0.01, parallel=1)
PROMPTS = ["one", "two", "three"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.jsonl") as opened:
        yield opened


LEFT_OUT = "it is left out, the server's own default holds"


@pytest.mark.parametrize(
    ("behave", "taken", "requests", "notes"),
    [
        (strict, {"temperature", "max_tokens"}, 5, [f"`seed`: {LEFT_OUT}", f"`top_p`: {LEFT_OUT}"]),
        (old, {"temperature", "max_tokens", "seed", "top_p"}, 3, []),
        (
            new, {"max_completion_tokens", "seed", "top_p"}, 5,
            ["`max_tokens`: `max_completion_tokens` is sent in its place", f"`temperature`: {LEFT_OUT}"],
        ),
        (rude, {"temperature", "max_tokens"}, 5, [f"`seed`: {LEFT_OUT}", f"`top_p`: {LEFT_OUT}"]),
    ],
)  # fmt: skip
def test_what_an_endpoint_refuses_is_learnt_once_and_reported_once(
    behave: Behaviour, taken: set[str], requests: int, notes: list[str], ledger: Ledger
) -> None:
    server, progress = Stub(lambda body: "yes", behave), Silent()
    with ExitStack() as stack:
        stack.callback(server.close)
        answerer = open_answerer(f"{server.url}#m", stack, ONE_BY_ONE)
        draw = Draw(Sampling(max_new_tokens=5), 1, 0)
        answers = answerer.answers(PROMPTS, draw, ledger, progress)
        assert [[c.text for c in several or ()] for several in answers] == [["yes"]] * 3
        assert (len(server.requests), set(server.requests[-1])) == (requests, taken | {"model", "messages"})
        assert [note.partition(" does not take ")[2] for note in progress.warnings] == notes
        refused = sorted(note.split("`")[1] for note in notes if LEFT_OUT in note)
        assert answers[0] is not None
        assert answers[0][0].origin.get("not taken", []) == refused
        assert answerer.answers(PROMPTS, draw, ledger, progress) is not None
        assert len(server.requests) == requests


def test_a_temperature_that_matters_is_not_left_out(ledger: Ledger) -> None:
    """Neither at first nor after a draw at 1, which the server's default is as good for."""
    server = Stub(lambda body: "yes", new)
    with ExitStack() as stack:
        stack.callback(server.close)
        answerer = open_answerer(f"{server.url}#m", stack, ONE_BY_ONE)
        for heat in (0.7, 1.0, 0.7):
            draw = Draw(Sampling(temperature=heat, max_new_tokens=5), 1, 0)
            if heat == 1:
                assert answerer.answers(PROMPTS, draw, ledger, Silent())[2] is not None
                continue
            with pytest.raises(RefusedFieldError) as refused:
                answerer.answers(PROMPTS, draw, ledger, Silent())
            assert "refuses `temperature` of the request" in refused.value.remedy
        own = open_answerer(f"{server.url}#m?temperature=null", stack, ONE_BY_ONE)
        assert own.answers(PROMPTS, draw, ledger, Silent())[0] is not None


def ask(server: Stub, name: str, ledger: Ledger, **settings: Any) -> Body:
    with Server(Endpoint.of(f"{server.url}{name}"), ONE_BY_ONE, optional=("seed",)) as client:
        assert dict(client.ask([CompletionRequest(client.body("a", **settings), _text)], ledger)) == {0: "yes"}
    return server.requests[-1]


def _text(reply: Reply) -> str:
    return reply.text


def test_fields_of_the_user_are_in_every_request(ledger: Ledger) -> None:
    """JSON, or else text; null leaves a field out; they come before ours."""
    server = Stub(lambda body: "yes")
    name = (
        "#m@v1?reasoning_effort=low&top_k=20&seed=null&temperature=0.5&chat_template_kwargs=%7B%22thinking%22:false%7D"
    )
    body = ask(server, name, ledger, seed=7, temperature=0.0, max_tokens=3)
    server.close()
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "m@v1", "reasoning_effort": "low", "top_k": 20, "temperature": 0.5, "max_tokens": 3,
        "chat_template_kwargs": {"thinking": False},
    }  # fmt: skip


@pytest.mark.parametrize("query", ["top_k", "=3", "model=x", "messages=[]", "a-b=1"])
def test_what_is_no_field_is_refused(query: str) -> None:
    with pytest.raises(RecipeError, match="is no field of a request"):
        Endpoint.of(f"http://127.0.0.1:9/v1#m?{query}")


def test_a_refusal_that_no_field_helps_is_the_servers_own(ledger: Ledger) -> None:
    server = Stub(lambda body: "yes", lambda body, nth: "400 Bad Request")
    with pytest.raises(BadRequestError, match="HTTP 400: Bad Request"):
        ask(server, "#m", ledger, seed=1, temperature=0.0)
    server.close()
    assert [set(body) - {"model", "messages"} for body in server.requests] == [{"seed", "temperature"}, {"temperature"}]
