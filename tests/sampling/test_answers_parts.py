"""Answers of a model in this process: best beams, reasoning apart, chunks, and which fields a server may leave out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from twofold.client.server import RetrySettings
from twofold.data.reasoning import Parted
from twofold.ledger import Ledger
from twofold.progress import Silent
from twofold.sampling import answers, beam
from twofold.sampling.answers import Draw, LocalAnswerer, ServerAnswerer, open_answerer
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.beam import Beams


class Encoder:
    """Prompts of one letter are their code; a completion is read as text, and what is before a bar is reasoning."""

    turns = "auto"

    def prompt(self, prompt: str) -> torch.Tensor:
        return torch.tensor([ord(prompt)])

    def text(self, tokens: torch.Tensor) -> str:
        return "".join(map(chr, tokens.tolist()))

    def parted(self, prompt: str, tokens: torch.Tensor) -> Parted:
        reasoning, _, answer = self.text(tokens).rpartition("|")
        return Parted(answer, reasoning)


def said(text: str, truncated: bool = False) -> Sample:
    return Sample(torch.tensor([ord(letter) for letter in text]), torch.zeros(len(text)), truncated)


@dataclass
class Sampler:
    calls: list[Any]

    def sample(self, prompts: Any, *, samples: int = 1, seed: tuple[int, int] = (0, 0)) -> list[list[Sample]]:
        self.calls.append(([int(p) for p in prompts], samples, seed))
        return [[said(f"w|{chr(int(p))}{i}", i == 1) for i in range(samples)] for p in prompts]


class Named:
    name = "mine"

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.encoder = Encoder()
        self.loaded = SimpleNamespace(model=nn.Linear(1, 1), tokenizer="tokenizer", stop_tokens=frozenset({3}))

    def sampler(self, sampling: Sampling, note: Any) -> Sampler:
        return Sampler(self.calls)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.jsonl") as opened:
        yield opened


def local(named: Named, **how: bool) -> LocalAnswerer:
    return LocalAnswerer(named, **how)  # type: ignore[arg-type]  # as much of a named model as is used


def test_reasoning_is_apart_in_the_ledger_and_where_it_is_asked_for_in_the_answer(ledger: Ledger) -> None:
    named, draw = Named(), Draw(Sampling(), 2, 7)
    (several,) = local(named).answers(["a"], draw, ledger, Silent())
    assert several is not None
    assert [(c.completion, c.truncated) for c in several] == [("w|a0", False), ("w|a1", True)]
    assert ledger.get(local(named)._request(torch.tensor([97]), draw, 1)) == {
        "text": "w|a1", "truncated": True, "answer": "a1", "reasoning": "w",
    }  # fmt: skip
    (apart,) = local(named, apart=True).answers(["a"], draw, ledger, Silent())
    assert apart is not None
    assert [c.completion for c in apart] == [Parted("a0", "w").completion, Parted("a1", "w").completion]
    assert len(named.calls) == 1, "the second call reads the ledger"
    assert local(named).turns == "auto"


@pytest.mark.parametrize(("samples", "sizes"), [(1, [64, 6]), (4, [64, 6]), (5, [51, 19]), (300, [1] * 3)])
def test_chunks_are_bounded_by_prompts_and_by_answers(samples: int, sizes: list[int], ledger: Ledger) -> None:
    assert (answers.CHUNK, answers.AT_ONCE, answers.MOST_ATTEMPTS, answers.STEP) == (64, 256, 64, 0)
    named = Named()
    prompts = [chr(200 + i) for i in range(sum(sizes))]
    local(named).answers(prompts, Draw(Sampling(), samples, 7), ledger, Silent())
    assert [(len(part), number, seed) for part, number, seed in named.calls] == [(n, samples, (7, 0)) for n in sizes]


@pytest.mark.parametrize("guided", [False, True])
def test_the_best_beam_is_recorded_with_how_it_was_searched(
    guided: bool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Search:
        def __init__(
            self, model: Any, stop_tokens: Any, beams: Beams, reference: Any = None, guide: Any = None
        ) -> None:
            made.append((model, stop_tokens, beams, reference, guide))

        def search(self, prompts: Any) -> Any:
            made.append([int(p) for p in prompts])
            first, second = (SimpleNamespace(completion=said(text)) for text in ("best", "next"))
            return [[first, second] for _ in prompts]

    monkeypatch.setattr(beam, "BeamSearch", Search)
    named, beams = Named(), Beams(width=3, max_new_tokens=5)
    guide: Any = ("digest", len) if guided else None
    found = local(named).best_beams(["a", "b"], beams, ledger, Silent(), guide)
    about = {"width": 3, "max_new_tokens": 5, **({"guide": "digest"} if guided else {})}
    loaded = named.loaded
    assert made == [(loaded.model, loaded.stop_tokens, beams, None, len if guided else None), [97], [98]]
    weights = local(named)._weights
    origin = {"model": "mine", "weights": weights[:12], "beams": about, "sample": 0}
    assert [[(c.completion, c.origin) for c in several or ()] for several in found] == [[("best", origin)]] * 2
    request = {"weights": weights, "tokens": answers._digest(torch.tensor([97])), "beams": about}
    assert ledger.get(request) == {"text": "best", "truncated": False}


@pytest.mark.parametrize(
    ("how", "fields"),
    [({}, ["seed", "top_p", "temperature"]), ({"temperature": 0.5}, ["seed", "top_p"]),
     ({"top_p": 0.5}, ["seed", "temperature"]), ({"top_p": 0.5, "temperature": 0.0}, ["seed"])],
)  # fmt: skip
def test_fields_that_say_what_everyone_does_may_be_left_out(how: dict[str, Any], fields: list[str]) -> None:
    assert answers._optional(Sampling(**how)) == fields


def test_a_name_is_opened_as_a_model_and_an_address_as_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def open_model(name: str, **how: Any) -> Named:
        asked.append((name, how))
        return Named()

    monkeypatch.setattr("twofold.sampling.named_model.open_model", open_model)
    with ExitStack() as resources:
        for apart in (False, True):
            made = open_answerer("here", resources, None, "never", apart=apart)  # type: ignore[arg-type]
            assert isinstance(made, LocalAnswerer)
            assert made._apart == apart
        open_answerer("here", resources)
        assert asked == [("here", {"chat": "never"})] * 2 + [("here", {"chat": "auto"})]
        server = open_answerer("http://localhost:1/v1#m", resources, RetrySettings(attempts=3))
        assert isinstance(server, ServerAnswerer)
        assert (server.name, server.raw, server._server.retry.attempts) == ("m", server._server.endpoint.raw, 3)
