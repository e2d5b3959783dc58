"""Whole rows in every step: which share a call, what a store holds, and why a cache is not used."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from support import tiny
from twofold.errors import ModelError, NonFiniteError
from twofold.sampling import recompute
from twofold.sampling.base import Sample
from twofold.sampling.cache import Prefilled
from twofold.sampling.recompute import RowStore, cache_fault, prefilled_rows, row_logits, why_recompute


class Summing(nn.Module):
    """Its logits are the sum of a row, its length and its last token; it records the shapes of its calls."""

    def __init__(self, positions: int | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = tr.LlamaConfig(max_position_embeddings=positions or 0)  # 0: no limit
        self.device, self.dtype, self.calls = torch.device("cpu"), dtype, list[tuple[int, ...]]()

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        assert not use_cache
        self.calls.append(tuple(input_ids.shape))
        facts = [input_ids.sum(-1), torch.full_like(input_ids[:, 0], input_ids.shape[1]), input_ids[:, -1]]
        last = torch.stack(facts, -1).to(self.dtype)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(last), last], 1))


def row(*tokens: int) -> Tensor:
    return torch.tensor(tokens)


def test_rows_of_one_length_share_a_call_of_2048_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recompute.AT_ONCE == 2048
    model: Any = Summing()
    rows = [row(1, 2), row(3), row(4, 5), row(6), row(7, 8)]
    assert row_logits(model, rows).tolist() == [[3, 2, 2], [3, 1, 3], [9, 2, 5], [6, 1, 6], [15, 2, 8]]
    assert model.calls == [(3, 2), (2, 1)]
    for most, shapes in ((4, [(2, 2), (1, 2), (2, 1)]), (1, [(1, 2)] * 3 + [(1, 1)] * 2)):
        model.calls.clear()
        monkeypatch.setattr(recompute, "AT_ONCE", most)
        assert row_logits(model, rows)[:, 0].tolist() == [3, 3, 9, 6, 15]
        assert model.calls == shapes


@pytest.mark.parametrize(
    ("dtype", "found"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_logits_are_float32_at_least(dtype: torch.dtype, found: torch.dtype) -> None:
    model: Any = Summing(dtype=dtype)
    assert row_logits(model, [row(1)]).dtype == found


def test_prompts_end_together() -> None:
    model: Any = Summing()
    start = prefilled_rows([row(1, 2, 3), row(4)], model)
    assert (start.cache, start.forced) == (None, None)
    assert start.token_AT.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert start.length_A.tolist() == [3, 1]
    assert start.logits_AV.tolist() == [[6, 3, 3], [4, 1, 4]]


def started(*rows: Tensor) -> Prefilled:
    model: Any = Summing()
    return prefilled_rows(rows, model)


@pytest.mark.parametrize(("positions", "held"), [(None, [1, 2, 9, 8]), (4, [1, 2, 9, 8]), (3, [2, 9, 8])])
def test_a_store_has_the_rows_up_to_the_models_positions(positions: int | None, held: list[int]) -> None:
    model: Any = Summing(positions)
    store = RowStore(model)
    assert (store.refills, store.most, store.size_for(3, 8)) == (True, positions, 3)
    store.fill(torch.arange(3), started(row(1, 2), row(3), row(4, 5)))
    assert [r.tolist() for r in store.rows] == [[1, 2], [3], [4, 5]]
    assert store.feed(torch.tensor([9, 9, 9]), torch.tensor([2, 1, 2])).tolist() == [[12, 3, 9], [12, 2, 9], [18, 3, 9]]
    store.keep(torch.tensor([2, 0]))
    store.settle(torch.tensor([3, 3]), torch.tensor([0, 1]))
    assert [r.tolist() for r in store.rows] == [[4, 5, 9], [1, 2, 9]]
    store.fill(torch.tensor([0]), started(row(7)))
    assert store.feed(torch.tensor([8, 8]), torch.tensor([1, 3]))[0].tolist() == [15, 2, 8]
    assert [r.tolist() for r in store.rows] == [[7, 8], held]


SAID = [torch.tensor([1, 2]), torch.tensor([3])]


def drawn(logp: float = 0.0, tokens: Sequence[Tensor] = SAID, dtype: torch.dtype = torch.float64) -> list[list[Sample]]:
    return [[Sample(t, torch.full((len(t),), logp, dtype=dtype), False)] for t in tokens]


@pytest.mark.parametrize(
    ("cached", "fault"),
    [
        (drawn(), ""),
        (drawn(9e-7), ""),
        (drawn(-9e-7), ""),
        (drawn(1.1e-6), "completions with its cache differ from those of whole rows"),
        (drawn(torch.nan), "completions with its cache differ from those of whole rows"),
        (drawn(tokens=[torch.tensor([1, 2]), torch.tensor([4])]),
         "completions with its cache differ from those of whole rows"),
        (NonFiniteError("nan", where="", remedy=""), "in this precision, its attention returns NaN for padded prompts"),
        (ModelError("has no cache", where="m", remedy="r"), "has no cache"),
        (KeyError("x"), "its cache fails (KeyError)"),
    ],
)  # fmt: skip
def test_why_a_cache_is_not_used(cached: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of 10, 7 and 3 tokens with 9 new ones, once for each kind of model."""
    monkeypatch.setattr(recompute, "_known", {})
    calls: list[Any] = []

    def draw(model: Any, way: Literal["cache", "rows"], prompts: Sequence[Tensor], most: int) -> list[list[Sample]]:
        calls.append((way, [len(p) for p in prompts], most, model.dtype))
        if way == "cache" and isinstance(cached, Exception):
            raise cached
        return cached if way == "cache" else drawn()

    model = tiny.llama().double()
    assert cache_fault(model, draw, padded=True) == fault
    assert calls == [(way, [10, 7, 3], 9, torch.float64) for way in ("rows", "cache")]
    assert cache_fault(model, draw) == ("" if "padded" in fault else fault)
    assert len(calls) == 2
    cache_fault(tiny.llama(), draw)
    assert len(calls) == 4


def test_a_model_that_computes_no_rows_is_one_of_those(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "_known", {})

    def draw(*_: Any) -> Any:
        raise RuntimeError("no rows\nat all")

    assert cache_fault(tiny.llama(), draw) == "it computes no rows: no rows"


@pytest.mark.parametrize(("positions", "lengths", "most"), [(64, [10, 7, 3], 9), (14, [10, 7, 3], 4), (11, [1] * 3, 1)])
def test_a_trial_fits_the_models_positions(
    positions: int, lengths: list[int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recompute, "_known", {})
    monkeypatch.setattr(recompute, "small_copy", lambda model, dtypes: asked.append(dtypes))
    asked: list[Any] = []

    def draw(model: Any, way: str, prompts: Sequence[Tensor], new: int) -> list[list[Sample]]:
        asked.append(([len(p) for p in prompts], new))
        return drawn(0.0 if way == "rows" else 9e-3, dtype=torch.float32)

    assert cache_fault(tiny.llama(max_position_embeddings=positions), draw) == ""
    assert asked == [(torch.float32,), (lengths, most), (lengths, most)]


@pytest.mark.parametrize(("lengths", "padded"), [((5, 5), False), ((5, 6), True), ((4,), False)])
def test_prompts_of_several_lengths_are_padded(
    lengths: tuple[int, ...], padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(recompute, "cache_fault", lambda model, draw, padded: asked.append(padded) or "why")
    prompts = [torch.zeros(n, dtype=torch.int64) for n in lengths]
    assert why_recompute(tiny.llama(), prompts, 3, lambda *_: []) == "why"
    assert asked == [padded]
