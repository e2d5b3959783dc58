"""A beam search by hand: over chains whose every distribution stands in a table, and with the start of a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from support.seq2seq import bart
from twofold.errors import NonFiniteError
from twofold.sampling import beam
from twofold.sampling.beam import Beams, BeamSearch, Track

TABLE = torch.tensor(
    [[0.5, 0.3, 0.15, 0.05], [0.2, 0.2, 0.5, 0.1], [0.6, 0.3, 0.05, 0.05], [0.25, 0.25, 0.25, 0.25]],
    dtype=torch.float64,
)


def search(width: int, stops: tuple[int, ...], new: int, table: Tensor = TABLE) -> list[tuple[list[int], bool, float]]:
    (several,) = BeamSearch(tiny.chain(table.log()), stops, Beams(width=width, max_new_tokens=new)).search(
        [torch.tensor([3, 0])]
    )
    return [(one.completion.tokens.tolist(), one.completion.truncated, one.score) for one in several]


def probability(tokens: list[int]) -> float:
    whole = 1.0
    for before, token in zip([0, *tokens], tokens, strict=False):
        whole *= TABLE[before, token].item()
    return whole


@pytest.mark.parametrize(
    ("width", "stops", "new", "sequences"),
    [
        (1, (), 2, [([0, 0], True)]),
        (2, (), 2, [([0, 0], True), ([0, 1], True)]),
        (1, (1,), 3, [([0, 0, 0], True)]),  # a stop token that is second is not among the best one
        (2, (1,), 3, [([1], False), ([0, 1], False)]),
        (2, (0,), 2, [([0], False), ([1, 2], True)]),
        (1, (0,), 5, [([0], False)]),
        (3, (0, 1), 2, [([0], False), ([1], False), ([2, 0], False)]),
    ],
)
def test_sequences_by_hand(
    width: int, stops: tuple[int, ...], new: int, sequences: list[tuple[list[int], bool]]
) -> None:
    found = search(width, stops, new)
    assert [(tokens, cut) for tokens, cut, _ in found] == sequences
    scores = [torch.tensor(probability(tokens)).log().item() for tokens, _ in sequences]
    assert [score for _, _, score in found] == pytest.approx(scores, rel=1e-5)


@pytest.mark.parametrize(("most", "length"), [(30, 9), (9, 9), (8, 8)])
def test_a_decoder_begins_with_one_token(most: int, length: int) -> None:
    """Of ten positions nine are left, whatever the length of the prompt."""
    model = bart(max_position_embeddings=10)
    (found,) = BeamSearch(model, (), Beams(width=1, max_new_tokens=most)).search([torch.tensor([5, 6, 7, 8])])
    assert len(found[0].completion.tokens) == length


def test_sums_have_the_dtype_of_the_models_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the default is, and wherever tensors lie by default."""
    dtypes: list[Any] = []
    ranked = BeamSearch._ranked

    def watched(self: BeamSearch, prompt: Tensor, token_MN: Tensor, sum_M: Tensor) -> Any:
        dtypes.append((token_MN.dtype, sum_M.dtype))
        return ranked(self, prompt, token_MN, sum_M)

    monkeypatch.setattr(BeamSearch, "_ranked", watched)
    made = BeamSearch(tiny.llama(), (), Beams(width=2, max_new_tokens=2))
    torch.set_default_dtype(torch.float64)
    try:
        (found,) = made.search([torch.tensor([5, 6])])
    finally:
        torch.set_default_dtype(torch.float32)
    assert dtypes == [(torch.int64, torch.float32)] * 2
    assert {r.completion.logp.dtype for r in found} == {torch.float32}
    assert {r.completion.tokens.dtype for r in found} == {torch.int64}
    assert made.stop_tokens.dtype == torch.int64


def test_logits_that_are_no_numbers_name_the_length_of_the_prompt() -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[6] = torch.nan  # type: ignore[index]  # an nn.Embedding
    with pytest.raises(NonFiniteError) as refused:
        BeamSearch(model, (), Beams()).search([torch.tensor([5, 4, 6])])
    assert refused.value.where == "a prompt of 3 tokens"
    assert refused.value.what.startswith("the model's logits are not finite at token 1 of a completion")


@pytest.mark.parametrize(
    ("copied", "recompute", "way"),
    [("", "", "shared"), ("why", "", "copies"), ("", "why", "rows"), ("why", "why", "rows")],
)
def test_the_way_of_a_track(copied: str, recompute: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    start = SimpleNamespace(length_A=torch.tensor([2]), forced=1, logits_AV=torch.zeros(1, 2))

    class Store:
        def fill(self, slot: Tensor, begun: Any) -> None:
            calls.append(("fill", slot.tolist(), slot.dtype, begun))

        def keep(self, parent: Tensor) -> None:
            calls.append(("keep", parent.tolist()))

        def feed(self, token: Tensor, position: Tensor) -> Tensor:
            calls.append(("feed", token.tolist(), position.tolist()))
            return torch.zeros(len(token), 2)

    def why(*arguments: Any) -> str:
        calls.append(arguments)
        return recompute

    monkeypatch.setattr(beam, "why_copied", lambda model: copied)
    monkeypatch.setattr(beam, "why_recompute", why)
    monkeypatch.setattr(beam, "started", lambda *arguments: calls.append(arguments) or start)
    monkeypatch.setattr(beam, "store_of", lambda *arguments: calls.append(arguments) or Store())
    model, prompt = tiny.llama(), torch.tensor([5, 6])
    track = Track(model, prompt, 7)
    assert track.logp_KV.tolist() == [[-torch.inf, pytest.approx(-0.6931, abs=1e-4)]]
    for step in (2, 3):
        track.feed(torch.tensor([0, 0]), torch.tensor([8, 9]))
        assert track.position == step + 1
    assert calls == [
        (model, [prompt], 7, beam.draw_for_trial), ([prompt], model, way), (model, way),
        ("fill", [0], torch.int64, start), ("keep", [0, 0]), ("feed", [8, 9], [2, 2]), ("keep", [0, 0]),
        ("feed", [8, 9], [3, 3]),
    ]  # fmt: skip


@pytest.mark.parametrize("with_reference", [False, True])
def test_models_are_searched_as_they_are_evaluated(with_reference: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own attention and in evaluation mode, without gradients; one track for each model."""
    log: list[Any] = []

    def context(name: str) -> Any:
        @contextmanager
        def inside(model: Any) -> Iterator[None]:
            log.append((name, model))
            yield
            log.append((f"end of {name}", model))

        return inside

    monkeypatch.setattr(beam, "stock_attention", context("attention"))
    monkeypatch.setattr(beam, "evaluating", context("evaluating"))
    monkeypatch.setattr(BeamSearch, "_search", lambda self, prompt: log.append((len(prompt), torch.is_grad_enabled())))
    model, other = tiny.llama(), tiny.llama(seed=1) if with_reference else None
    BeamSearch(model, (), Beams(), other).search([torch.tensor([1]), torch.tensor([1, 2])])
    inner = [(1, False), (2, False)]
    if other is not None:
        inner = [("attention", other), ("evaluating", other), *inner, ("end of evaluating", other),
                 ("end of attention", other)]  # type: ignore[list-item]  # fmt: skip
    assert log == [
        ("attention", model), ("evaluating", model), *inner, ("end of evaluating", model), ("end of attention", model),
    ]  # fmt: skip
