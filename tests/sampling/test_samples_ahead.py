"""Samples of the next step, requested while this one trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from support.openai_stub import GOOD, Engine
from twofold.errors import ServerError
from twofold.models.load import save_policy
from twofold.sampling.ahead import SamplesAhead
from twofold.sampling.base import Sample, SampleRequest, Sampling, ServerSettings
from twofold.sampling.servers import ServerSampler

STOP = 4
PROMPTS = [torch.tensor([7, 8, 9]), torch.tensor([10, 11])]
Start = Callable[..., tuple[SamplesAhead, Engine, list[str]]]


def draw(model: Any, prompt: list[int], given: dict[str, Any]) -> tuple[list[int], list[float]]:
    return [5 + given["seed"] % 50, STOP], [-1.0, -2.0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[tuple[Engine, SamplesAhead]] = []

    def begin(fault: Callable[[str, int], str] = lambda path, nth: GOOD) -> tuple[SamplesAhead, Engine, list[str]]:
        engine, notes = Engine(lambda folder: folder, draw, fault), list[str]()
        policy = tiny.lora_policy(dtype=torch.float32, moved=True)
        server = ServerSettings(url=engine.url, attempts=2, pause=0.01, timeout=60.0)
        settings = Sampling(max_new_tokens=3, server=server)
        servers = ServerSampler(
            policy, [STOP], settings, lambda f: save_policy(policy, tiny.tokenizer(), f), tmp_path, notes.append
        )
        made.append((engine, SamplesAhead(servers)))
        return made[-1][1], engine, notes

    yield begin
    for engine, ahead in made:
        ahead.close()
        engine.close()


def request(step: int) -> SampleRequest:
    return SampleRequest(PROMPTS, 2, (0, step))


def drawn(ahead: SamplesAhead, step: int) -> list[list[int]]:
    rows: list[list[Sample]] = ahead.sample(PROMPTS, samples=2, seed=(0, step))
    return [sample.tokens.tolist() for row in rows for sample in row]


def test_a_step_gets_what_the_step_before_it_requested(start: Start) -> None:
    ahead, engine, _ = start()
    ahead.turn(1, request(1), request(2))
    first = drawn(ahead, 1)
    assert ahead.metrics["served/behind"] == 0
    assert [len(tokens) for tokens in first] == [2] * 4
    with pytest.raises(ValueError, match=r"no completions were requested for seed and step \(0, 2\)"):
        drawn(ahead, 2)
    state = json.loads(json.dumps(ahead.state_dict()))
    assert (state["seed"], state["pushed_at"], state["lost"], len(state["replies"])) == ([0, 2], 1, 0, 4)
    requests = len(engine.requests)
    ahead.turn(2, request(2), None)
    second = drawn(ahead, 2)
    assert second != first
    assert ahead.metrics["served/behind"] == 1
    assert (ahead.state_dict(), dict(ahead.tensors())) == ({}, {})
    resumed = SamplesAhead(ahead.servers)
    resumed.restore({}, state)
    resumed.turn(2, request(2), None)
    assert drawn(resumed, 2) == second
    assert len(engine.requests) == requests
    resumed.restore({}, state)
    resumed.turn(3, request(3), None)  # the stored samples are of another step
    assert resumed.metrics["served/behind"] == 1
    assert drawn(resumed, 3) not in (first, second)
    assert resumed.metrics["served/behind"] == 0
    resumed.restore({}, {})
    assert resumed.state_dict() == {}


def test_a_checkpoint_is_written_without_samples_that_failed(start: Start) -> None:
    ahead, _, notes = start(lambda path, nth: "404" if path == "/v1/completions" else GOOD)
    ahead.turn(1, None, request(2))
    assert ahead.state_dict() == {}
    assert notes[-1].startswith("a run that resumes here requests its samples again, with newer weights: ")
    with pytest.raises(ServerError):
        ahead.turn(2, request(2), None)
