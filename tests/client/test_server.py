"""A server may do what servers do: nothing that it answered is lost, and nothing secret is written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Stub, said
from twofold.client.http import RefusedFieldError, _seconds, api_key, loads
from twofold.client.server import CompletionRequest, Endpoint, Reply, RetrySettings, Server, UnparsableReply
from twofold.errors import RecipeError, ServerError
from twofold.ledger import Ledger

QUICK = RetrySettings(timeout=0.4, attempts=4, pause=0.01, parallel=4)
PATIENT = replace(QUICK, timeout=2.0)  # a good answer arrives in time on a loaded machine
Make = Callable[..., Stub]


@pytest.fixture
def stub() -> Iterator[Make]:
    made: list[Stub] = []

    def make(*arguments: Any) -> Stub:
        made.append(Stub(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def whole(reply: Reply) -> str:
    return reply.text


def ask(url: str, ledger: Path, texts: list[str], retry: RetrySettings = QUICK) -> dict[int, Any]:
    with Server(Endpoint.of(f"{url}#m"), retry) as server, Ledger(ledger) as kept:
        questions = [CompletionRequest(server.body(text, seed=7), whole) for text in texts]
        return dict(server.ask(questions, kept))


def test_every_fault_is_asked_again_until_there_is_an_answer(stub: Make, tmp_path: Path) -> None:
    faults = ["429", "500", "garbage", "empty", "half", "silent", "drip", "good"]
    texts = [str(n) for n in range(len(faults))]
    first = 7  # a later attempt carries another seed
    server = stub(
        lambda body: said(body).upper(), lambda body, nth: faults[int(said(body))] if body["seed"] == first else "good"
    )
    answers = ask(server.url, tmp_path / "l.jsonl", texts, PATIENT)
    assert answers == {n: text.upper() for n, text in enumerate(texts)}
    assert len(server.requests) == 2 * len(faults) - 1
    rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    failures = [row["failure"] for row in rows if "failure" in row]
    assert len(failures) == len(faults) - 1
    assert "HTTP 429: not now" in failures
    assert sum("timed out" in f or "within" in f for f in failures) == 2
    assert [row["raw"] for row in rows if "<html>" in row.get("raw", "")] == ["<html>so sorry</html>"]


def test_what_was_recorded_is_not_asked_for_again(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "yes")
    ask(server.url, tmp_path / "l.jsonl", ["a", "b"])
    assert ask(server.url, tmp_path / "l.jsonl", ["a", "b", "c"]) == {0: "yes", 1: "yes", 2: "yes"}
    assert len(server.requests) == 3


def test_one_hopeless_question_leaves_the_others_answered(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "yes", lambda body, nth: "garbage" if said(body) == "b" else "good")
    assert ask(server.url, tmp_path / "l.jsonl", ["a", "b", "c"]) == {0: "yes", 1: None, 2: "yes"}


def test_a_dead_server_ends_the_run_early(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="3 questions in a row stayed unanswered") as caught:
        ask("http://127.0.0.1:9/v1", tmp_path / "l.jsonl", [str(n) for n in range(100)])
    assert caught.value.exit_code == 4
    rows = (tmp_path / "l.jsonl").read_text().splitlines()
    assert len(rows) <= (2 * QUICK.parallel + 3) * QUICK.attempts


def test_a_refusal_is_told_at_once(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "yes", lambda body, nth: "401")
    with pytest.raises(ServerError, match="HTTP 401: not now") as caught:
        ask(server.url, tmp_path / "l.jsonl", ["a"])
    assert caught.value.remedy == "set TWOFOLD_API_KEY"
    assert len(server.requests) == 1


def test_garbage_that_only_the_reader_knows_is_asked_again_with_another_seed(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: str(body["seed"]))

    def odd(reply: Reply) -> int:
        if int(reply.text) % 2 == 0:
            raise UnparsableReply("even")
        return int(reply.text)

    with Server(Endpoint.of(f"{server.url}#m"), QUICK) as client, Ledger(tmp_path / "l.jsonl") as ledger:
        assert list(client.ask([CompletionRequest(client.body("a", seed=4), odd)], ledger)) == [(0, 5)]


def test_the_key_is_sent_and_never_written(stub: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_API_KEY", "sk-secret")
    server = stub(lambda body: "you sent sk-secret", lambda body, nth: "good" if body["seed"] > 7 else "500")
    assert ask(server.url, tmp_path / "l.jsonl", ["a"]) == {0: "you sent [key]"}
    assert server.authorizations == ["Bearer sk-secret"] * 2
    assert "sk-secret" not in (tmp_path / "l.jsonl").read_text()


def test_a_key_goes_to_its_host_and_not_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_API_KEY", "general")
    monkeypatch.setenv("TWOFOLD_API_KEY_API_EXAMPLE_COM", "own")
    assert api_key("https://api.example.com/v1") == "own"
    assert api_key("https://other.example.com/v1") == "general"
    assert api_key("http://127.0.0.1:8000/v1") == "general"
    with pytest.raises(RecipeError, match="would be sent in clear"):
        api_key("http://other.example.com/v1")


def test_addresses() -> None:
    assert Endpoint.of("https://h/v1/#a/b") == Endpoint("https://h/v1/chat/completions", "a/b", raw=False)
    assert Endpoint.of("http://h/v1/completions#m") == Endpoint("http://h/v1/completions", "m", raw=True)
    for wrong in ("http://h/v1", "ftp://h/v1#m", "https://me:word@h/v1#m", "https://h/v1?key=1#m", "http://#m"):
        with pytest.raises(RecipeError):
            Endpoint.of(wrong)


def test_a_text_is_a_user_s_turn_for_a_chat_server_and_itself_for_the_other(tmp_path: Path) -> None:
    with Server(Endpoint.of("http://127.0.0.1:9/v1#m")) as chat:
        assert chat.body("a") == {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    with Server(Endpoint.of("http://127.0.0.1:9/v1/completions#m")) as raw:
        assert raw.body("a", seed=1) == {"model": "m", "prompt": "a", "seed": 1}
        with pytest.raises(RecipeError, match="continues text"):
            raw.body([{"role": "user", "content": "a"}])


def test_a_model_that_never_says_anything_of_use_is_not_paid_for_ever(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "no")

    def read(reply: Reply) -> str:
        raise UnparsableReply("not what was asked for")

    with Server(Endpoint.of(f"{server.url}#m"), QUICK) as client, Ledger(tmp_path / "l.jsonl") as ledger:
        questions = [CompletionRequest(client.body(str(n)), read) for n in range(100)]
        with pytest.raises(ServerError, match=r"12 questions in a row .*: not what was asked for"):
            list(client.ask(questions, ledger))
    assert len(server.requests) <= (12 + 2 * QUICK.parallel) * QUICK.attempts


def picky(*refused: str, message: str = "Unsupported parameter: '{}' is not supported with this model.") -> Any:
    """A server's behaviour that refuses the first of these settings that a request has."""

    def behave(body: dict[str, Any], nth: int) -> str:
        first = next((name for name in refused if name in body), None)
        return "good" if first is None else "400 " + message.format(first)

    return behave


def test_a_setting_that_a_server_does_not_take_is_sent_otherwise_or_not_at_all(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "yes", picky("max_tokens", "temperature", "seed"))
    with (
        Server(Endpoint.of(f"{server.url}#m"), PATIENT, optional=("temperature", "seed")) as client,
        Ledger(tmp_path / "l.jsonl") as ledger,
    ):
        questions = [
            CompletionRequest(client.body(str(n), max_tokens=9, temperature=0.0, seed=7), whole) for n in range(12)
        ]
        assert dict(client.ask(questions, ledger)) == dict.fromkeys(range(12), "yes")
        assert client.refused == ["seed", "temperature"]
        notes = client.take_notes()
        assert [note.partition(" does not take ")[2] for note in notes] == [
            "`max_tokens`: `max_completion_tokens` is sent in its place",
            "`temperature`: it is left out, the server's own default holds",
            "`seed`: it is left out, the server's own default holds",
        ]
        assert client.take_notes() == []
        good = server.requests[-1]
        assert set(good) == {"model", "messages", "max_completion_tokens"}
        before = len(server.requests)
        assert dict(client.ask(questions, ledger)) == dict.fromkeys(range(12), "yes")
        assert len(server.requests) == before  # what was recorded is known by what was asked for


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("Unsupported value: '{}' does not support 0 with this model. Only the default (1) value is supported.", {}),
        ("{}: Extra inputs are not permitted", {}),
        ("{} is too large: 9. This model's maximum context length is 4 tokens.", {"optional": ("temperature",)}),
    ],
)
def test_a_refusal_that_cannot_be_helped_names_the_setting(
    stub: Make, tmp_path: Path, message: str, settings: dict[str, Any]
) -> None:
    server = stub(lambda body: "yes", picky("temperature", message=message))
    with Server(Endpoint.of(f"{server.url}#m"), PATIENT, **settings) as client, Ledger(tmp_path / "l.jsonl") as ledger:
        with pytest.raises(RefusedFieldError, match="HTTP 400") as error:
            list(client.ask([CompletionRequest(client.body("a", temperature=0.0), whole)], ledger))
        assert "`temperature`" in error.value.remedy
        assert "check the address" not in error.value.remedy
        assert len(server.requests) == 1


def test_a_refusal_of_something_else_shows_what_the_server_says(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "yes", lambda body, nth: "400 The prompt holds a word that is not allowed")
    with pytest.raises(ServerError, match="a word that is not allowed") as error:
        ask(server.url, tmp_path / "l.jsonl", ["a"])
    assert "refuses the request" in error.value.remedy


def test_replies_of_brackets_are_asked_again(stub: Make, tmp_path: Path) -> None:
    server = stub(lambda body: "yes", lambda body, nth: "brackets" if body["seed"] == 7 else "good")
    assert ask(server.url, tmp_path / "l.jsonl", ["a"], PATIENT) == {0: "yes"}
    with pytest.raises(ValueError, match="nested too deep"):
        loads("[" * 200_000)


def test_how_long_a_server_wants_to_be_left_alone() -> None:
    assert _seconds("2.5") == 2.5
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") < 0  # type: ignore[operator]  # a number
    for odd in (
        None,
        "NaN",
        "inf",
        "-inf",
        "1e999",
        "soon",
        "",
        "Mon, 99 Foo 99999 00:00:00 GMT",
        "1 2 3 4 5 6",
        "1" * 400,
    ):
        assert _seconds(odd) is None, odd
