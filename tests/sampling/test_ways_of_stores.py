"""Which store holds unfinished completions: by the way of sampling, and by the kind of model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import tiny
from twofold.sampling import stores
from twofold.sampling.cache import GrowingStore, Prefilled
from twofold.sampling.encoded import EncodedStart, EncodedStore
from twofold.sampling.recompute import RowStore
from twofold.sampling.shared_prompt import SharedStart, SharedStore
from twofold.sampling.stores import started, store_of

PROMPTS = [group.prompt for group in tiny.groups((3, 1), (5, 1))]


@pytest.mark.parametrize(
    ("way", "store", "start"),
    [("rows", RowStore, Prefilled), ("shared", SharedStore, SharedStart), ("copies", GrowingStore, Prefilled)],
)
def test_each_way_has_its_store(way: Any, store: type, start: type) -> None:
    model = tiny.llama()
    with torch.no_grad():
        made = started(PROMPTS, model, way)
    assert type(store_of(model, way)) is store
    assert type(made) is start
    assert (made.cache is None) == (way != "copies")
    want = model(PROMPTS[1][None]).logits[0, -1]
    torch.testing.assert_close(made.logits_AV[1], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["rows", "shared", "copies"])
def test_an_encoder_decoder_has_one_of_its_own(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bool] = []

    def reading(prompts: Any, model: Any, *, cached: bool) -> str:
        read.append(cached)
        return "encoded"

    monkeypatch.setattr(stores, "encodes_prompts", lambda model: True)
    monkeypatch.setattr(EncodedStart, "reading", reading)
    model = tiny.llama()
    assert started(PROMPTS, model, way) == "encoded"  # type: ignore[comparison-overlap]  # as patched
    assert read == [way != "rows"]
    assert type(store_of(model, way)) is EncodedStore


@pytest.mark.parametrize("refills", [True, False])
def test_copies_are_refilled_where_every_layer_can_be(refills: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "refillable", lambda model: refills)
    assert store_of(tiny.llama(), "copies").refills == refills
