"""What sampling makes lies where the model is, and not where tensors lie by default; and it has its own dtypes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from support.placed import Placed
from support.seq2seq import bart
from twofold.sampling import beam, encoded, recompute
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.cache import own_columns
from twofold.sampling.encoded import EncodedStart, decoder_logits, new_cross_cache, selected
from twofold.sampling.local import CompletionQueue
from twofold.sampling.logits_processor import inverse_cdf, keep_min_p, keep_top_k, keep_top_p
from twofold.sampling.recompute import prefilled_rows

TABLE = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]], dtype=torch.float64)


class Chain:
    """A track whose next token depends on the last one."""

    def __init__(self, model: Any, prompt: Tensor, num_new: int) -> None:
        self.logp_KV = TABLE[prompt[-1:]].log()

    def feed(self, parent_K: Tensor, token_K: Tensor) -> None:
        self.logp_KV = TABLE[token_K].log()


@pytest.mark.parametrize("guided", [False, True])
def test_a_search_is_where_its_model_is(guided: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the best, [0, 0] and [1, 2], a guide prefers what begins with 1."""
    monkeypatch.setattr(beam, "Track", Chain)

    def guide(prompt: Tensor, token_MN: Tensor) -> Tensor:
        return (token_MN[:, 0] == 1).to(torch.float32)

    model, prompt = tiny.llama(), torch.tensor([2, 0])
    with torch.device("meta"):
        searched = BeamSearch(model, {2}, Beams(width=2, max_new_tokens=2), guide=guide if guided else None)
        found = searched._search(prompt)
    assert searched.stop_tokens.device.type == "cpu"
    sequences = [(one.completion.tokens.tolist(), one.completion.truncated) for one in found]
    assert sequences == ([([1, 2], False), ([0, 0], True)] if guided else [([0, 0], True), ([1, 2], False)])
    logps = [[0.3, 0.7], [0.5, 0.5]] if guided else [[0.5, 0.5], [0.3, 0.7]]
    for one, wanted in zip(found, logps, strict=True):
        torch.testing.assert_close(one.completion.logp.exp(), torch.tensor(wanted, dtype=torch.float64))


def test_a_draw_is_where_its_probabilities_are() -> None:
    probability = torch.tensor([[0.25, 0.5, 0.25]] * 4)
    with torch.device("meta"):
        drawn = inverse_cdf(probability, torch.tensor([0.0, 0.25, 0.7, 0.75], dtype=torch.float64, device="cpu"))
        columns = own_columns(torch.tensor([1, 3], device="cpu"), 3)
    assert drawn.tolist() == [0, 1, 1, 2]
    assert columns.tolist() == [[False, False, True], [True, True, True]]


def test_cuts_are_where_the_scores_are() -> None:
    score = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    with torch.device("meta"):
        cut = [keep_top_k(score, 2), keep_top_p(score, 0.6), keep_min_p(score, 0.5)]
    assert [row.isfinite().tolist() for row in cut] == [[[True, True, False]]] * 3
    assert {row.dtype for row in cut} == {torch.float64}


def test_rows_without_a_cache_are_64_bit_tokens_on_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "row_logits", lambda model, prompts: "logits")
    model = tiny.llama()
    prompts = [torch.tensor([7, 8, 9]), torch.tensor([5])]
    with Placed() as made:
        rows = prefilled_rows(prompts, model)
    assert (rows.cache, rows.logits_AV) == (None, "logits")
    assert (rows.token_AT.tolist(), rows.token_AT.dtype) == ([[7, 8, 9], [0, 0, 5]], torch.int64)
    assert rows.length_A.tolist() == [3, 1]
    assert made.calls == [("zeros", ("dtype",)), ("tensor", ("device",))]


def test_encoded_rows_begin_with_one_token_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(encoded.Encoded, "of", lambda model, prompts: "encoded")
    monkeypatch.setattr(encoded, "decoder_logits", lambda *arguments: calls.append(arguments) or torch.zeros(2, 3))
    model = bart(forced_bos_token_id=4)
    prompts = [torch.tensor([5, 6]), torch.tensor([7])]
    with torch.device("meta"):
        start = EncodedStart.reading(prompts, model, cached=False)
    begin = encoded.start_token(model)
    assert (start.token_AT.tolist(), start.length_A.tolist(), start.cross) == ([[begin]] * 2, [1, 1], None)
    assert (start.encoded, start.cache, start.forced) == ("encoded", None, encoded.forced_token(model))
    assert calls[0][0] is model
    assert calls[0][1] == "encoded"
    assert calls[0][2] is start.token_AT
    assert calls[0][3] is None
    assert EncodedStart.reading(prompts, model).cross is calls[1][3] is not None


@pytest.mark.parametrize("cross", [None, "cross"])
def test_a_decoder_is_called_with_its_encoded_prompts(cross: Any) -> None:
    calls: list[Any] = []

    class Decoder:
        def forward(self, cache: Any = None) -> None: ...

        def __call__(self, **arguments: Any) -> Any:
            calls.append(arguments)
            return SimpleNamespace(logits=torch.tensor([[[9.0, 9], [1, 2]]], dtype=torch.bfloat16))

    prompts: Any = SimpleNamespace(arguments=lambda: {"encoder_outputs": "hidden", "attention_mask": "mask"})
    token = torch.tensor([[1, 2]])
    logits = decoder_logits(Decoder(), prompts, token, cross)  # type: ignore[arg-type]  # as much as is used
    assert (logits.tolist(), logits.dtype) == ([[1.0, 2.0]], torch.float32)
    assert calls == [
        {"encoder_outputs": "hidden", "attention_mask": "mask", "cache": cross, "use_cache": cross is not None,
         "decoder_input_ids": token},
    ]  # fmt: skip


def test_chosen_rows_have_a_cache_of_their_own() -> None:
    model: Any = bart()
    prompts = [torch.tensor([5, 6]), torch.tensor([7, 8])]
    start = EncodedStart.reading(prompts, model)
    assert start.cross is not None
    whole: Any = start.cross
    part: Any = selected(start.cross, torch.tensor([1]))
    for name in ("self_attention_cache", "cross_attention_cache"):
        before, after = getattr(whole, name), getattr(part, name)
        assert (len(before.layers[0].keys), len(after.layers[0].keys)) == (2, 1)
        assert torch.equal(after.layers[0].keys[0], before.layers[0].keys[1])
        assert len(after.layers) == len(before.layers) == 3
    own: Any = new_cross_cache(model)
    assert own.self_attention_cache.layers == []
    assert own.self_attention_cache.layer_class_to_replicate is encoded.RoomyLayer


def test_new_completions_are_taken_where_the_model_is() -> None:
    """Of two prompts with two samples each: three, and then the last one."""
    indices: list[Any] = []
    group: Any = SimpleNamespace(select=lambda index: indices.append((index.tolist(), index.device.type)) or "rows")
    settings = SimpleNamespace(max_new_tokens=5, batch_size=4)
    sampler: Any = SimpleNamespace(
        model=tiny.llama(), settings=settings, refills=True, start=lambda prompts: group if len(prompts) == 2 else None
    )
    queue = CompletionQueue(sampler, [torch.tensor([1, 2]), torch.tensor([3])], 2, (7, 1))
    with torch.device("meta"):
        first, last = queue.take(3), queue.take(3)
    assert first is not None
    assert last is not None
    assert (first.rows, last.rows) == ([(0, 0), (0, 1), (1, 0)], [(1, 1)])
    assert indices == [([0, 0, 1], "cpu"), ([1], "cpu")]
    assert queue.take(3) is None
