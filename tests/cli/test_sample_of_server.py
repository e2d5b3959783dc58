"""`twofold sample` of a model behind a server: its answers as rows, each requested once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Stub

Run = Callable[..., Any]


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub(lambda body: f"{body['messages'][-1]['content']} {body['seed'] % 7}")
    yield made
    made.close()


def test_answers_of_a_server_are_printed_with_the_settings_of_sampling(twofold: Run, stub: Stub) -> None:
    answer = twofold("sample", f"{stub.url}#m", "--prompt", "Hi?", "temperature=0.5", "--max-new-tokens", 9)
    assert answer.code == 0, answer.err
    (body,) = stub.requests
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.5, 9)
    assert body["messages"] == [{"role": "user", "content": "Hi?"}]
    assert answer.out.splitlines() == ["Hi?", "[0] stopped", f"Hi? {body['seed'] % 7}"]


def test_rows_of_a_file_are_written_and_no_answer_is_requested_twice(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    how = ("sample", f"{stub.url}#m", "--file", tmp_path / "p.jsonl", "-n", 2, "--out", tmp_path / "o.jsonl")
    assert twofold(*how).code == 0
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["sample"], row["truncated"]) for row in rows] == [
        ("a", 0, False), ("a", 1, False), ("b", 0, False), ("b", 1, False),
    ]  # fmt: skip
    assert [row["completion"][0] for row in rows] == ["a", "a", "b", "b"]
    assert len({body["seed"] for body in stub.requests}) == 2
    assert twofold(*how).code == 0
    assert len(stub.requests) == 4


def test_a_server_without_an_answer_ends_with_a_message(twofold: Run, stub: Stub) -> None:
    stub.behave = lambda body, nth: "400 no such model"
    answer = twofold("sample", f"{stub.url}#m", "--prompt", "Hi?")
    assert answer.code == 4
    assert "no such model" in answer.err
