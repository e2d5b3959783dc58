"""What requests cost: before, after, and at a limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.openai_stub import Stub
from twofold.client.cost import Forecast, SpendLimitError, total
from twofold.client.server import CompletionRequest, Endpoint, RetrySettings, Server
from twofold.errors import RecipeError
from twofold.ledger import Ledger

PRICES = {"m": (100_000.0, 50_000.0)}
"""A reply of the stub has 3 prompt and 2 completion tokens: 40 cents."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "yes")
    yield server
    server.close()


def asked(stub: Stub, path: Path, count: int, notes: list[str], **retry: object) -> Server:
    how = RetrySettings(**{"parallel": 1, "pause": 0.01, "attempts": 1, **retry})  # type: ignore[arg-type]
    with Server(Endpoint.of(f"{stub.url}#m"), how) as server, Ledger(path) as ledger:
        server.note = notes.append
        bodies = [server.body(f"{n}: " + "x" * 37, max_tokens=100) for n in range(count)]
        assert len(list(server.ask([CompletionRequest(b, lambda reply: reply.text) for b in bodies], ledger))) == count
    return server


def test_an_estimate_before_and_the_servers_counts_after(stub: Stub, tmp_path: Path) -> None:
    notes: list[str] = []
    server = asked(stub, tmp_path / "l.jsonl", 3, notes, prices=PRICES)
    where = f"{stub.url}/chat/completions#m"
    assert notes == [
        f"{where}: 3 requests to send, about 30 prompt tokens, at most 300 completion tokens: at most about $18"
    ]
    spend = {"server": where, "requests": 3, "prompt_tokens": 9, "completion_tokens": 6, "estimated": 0}
    assert server.meter.as_dict() == {**spend, "dollars": pytest.approx(1.2)}
    again = asked(stub, tmp_path / "l.jsonl", 4, notes)
    assert notes[1] == f"{where}: 1 request to send, about 10 prompt tokens, at most 100 completion tokens"
    assert again.meter.as_dict() == {**spend, "requests": 4, "prompt_tokens": 12, "completion_tokens": 8}
    assert total([again.meter.as_dict(), spend])[0]["requests"] == 7
    assert Forecast.of([{"prompt": "x"}]) == Forecast(1, 1, None)


def test_tokens_that_a_server_does_not_count_are_estimated(stub: Stub, tmp_path: Path) -> None:
    stub.usage = None
    found = asked(stub, tmp_path / "l.jsonl", 2, [], prices=PRICES).meter.as_dict()
    assert (found["prompt_tokens"], found["completion_tokens"], found["estimated"]) == (20, 2, 2)


def test_a_limit_ends_the_work_and_more_resumes_it(stub: Stub, tmp_path: Path) -> None:
    """Two requests are 80 cents, and a third would be $1.20. Recorded replies count as spent."""
    path = tmp_path / "l.jsonl"
    with pytest.raises(SpendLimitError) as stopped:
        asked(stub, path, 9, [], prices=PRICES, max_spend=1.0)
    assert (len(stub.requests), stopped.value.exit_code) == (2, 2)
    assert str(stopped.value) == (
        f"{stub.url}/chat/completions#m: $0.8 of max_spend $1 are spent, and 7 requests are left\n"
        "  → what was answered is stored: raise max_spend, and the same command resumes"
    )
    with pytest.raises(SpendLimitError, match="4 requests are left"):
        asked(stub, path, 9, [], prices=PRICES, max_spend=2.1)
    assert len(stub.requests) == 5
    asked(stub, path, 9, [], prices=PRICES, max_spend=100.0)
    assert len(stub.requests) == 9


def test_a_limit_requires_a_price(stub: Stub) -> None:
    with pytest.raises(RecipeError, match="max_spend requires the model's price") as refused:
        Server(Endpoint.of(f"{stub.url}#other"), RetrySettings(max_spend=1.0, prices=PRICES))
    assert "--price other=0.15,0.60" in refused.value.remedy
    for wrong in ({"max_spend": 0.0}, {"per_minute": 0.0}, {"prices": {"m": (-1.0, 0.0)}}):
        with pytest.raises(ValueError, match="must be"):
            RetrySettings(**wrong)  # type: ignore[arg-type]


def test_requests_per_minute(stub: Stub, tmp_path: Path) -> None:
    """1200 a minute: the fourth one waits 150 ms, also where several are under way."""
    begun = time.monotonic()
    asked(stub, tmp_path / "l.jsonl", 4, [], per_minute=1200.0, parallel=4)
    assert time.monotonic() - begun >= 0.15
