"""Memory of a step by hand: layers between two depths, phases of the backward pass, products of groups."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import nn

from support import tiny
from twofold.models import footprint
from twofold.models.footprint import (
    BETWEEN,
    FIRST_LAYER,
    FORWARD,
    HEAD,
    LAST_LAYER,
    Build,
    Tally,
    _grouped,
    _layers,
    _marked,
    _without_data,
    step_bytes,
)

NO_BUILD: Any = Build(lambda config: None, lambda model: None, lambda model, adapter: None)  # type: ignore[arg-type, return-value]


def test_peaks_grow_by_the_layers_between_two_depths(monkeypatch: pytest.MonkeyPatch) -> None:
    """21 layers of a pattern of two are measured at 4 and 6: (forward) 100 + 30·17/2, (head) 300 + 5·17/2."""
    peaks = {4: {FORWARD: 100, HEAD: 300}, 6: {FORWARD: 130, HEAD: 305}, 3: {FORWARD: 7, HEAD: 9}}
    calls: list[Any] = []

    def measured(build: Build, config: Any, groups: Any, *, several: bool) -> dict[str, int]:
        calls.append((config.num_hidden_layers, several))
        return peaks[config.num_hidden_layers]

    monkeypatch.setattr(footprint, "_peaks", measured)
    deep, short = (tr.LlamaConfig(**{**tiny.DECODER, "num_hidden_layers": n}) for n in (21, 3))
    assert step_bytes(NO_BUILD, deep, [], several=True, period=2) == 355
    peaks[6] = {FORWARD: 130, HEAD: 400}
    assert step_bytes(NO_BUILD, deep, [], several=True, period=2) == 300 + 850
    assert step_bytes(NO_BUILD, short, [], several=False) == 9
    assert calls == [(4, True), (6, True)] * 2 + [(3, False)]


def test_a_product_of_groups_is_by_rows_or_by_group() -> None:
    def shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        made = _grouped(torch.empty(a, device="meta"), torch.empty(b, device="meta"), torch.empty(3, device="meta"))
        return tuple(made.shape)

    assert shape((7, 4), (3, 4, 6)) == (7, 6)
    assert shape((4, 7), (7, 6)) == (3, 4, 6)


def test_a_step_has_its_phases_in_the_order_of_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny.llama(num_hidden_layers=4)
    begun: list[str] = []
    tally: Any = SimpleNamespace(begin=begun.append)
    held: Any = nn.ModuleDict({"model": model})
    held.model = model
    assert _layers(held) == list(model.model.layers)
    hooks = _marked(held, tally)
    assert len(hooks) == 4
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 2]]))
    model(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()
    assert begun == [LAST_LAYER, BETWEEN, BETWEEN, FIRST_LAYER]
    model.config.num_hidden_layers = 5
    assert _layers(held) == []


def test_tensors_without_data_report_the_cpu_and_tied_ones_stay_one() -> None:
    with torch.device("meta"):
        model: Any = tr.LlamaForCausalLM(tr.LlamaConfig(**{**tiny.DECODER, "tie_word_embeddings": True}))
    model.model.norm.weight.requires_grad_(False)
    _without_data(model)
    assert {p.device.type for p in (*model.parameters(), *model.buffers())} == {"cpu"}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["model.norm.weight"]


def test_the_peak_of_a_phase_is_the_most_that_lived_in_it() -> None:
    with Tally() as tally:
        first = torch.zeros(8)  # 32 bytes
        tally.begin(HEAD)
        del first
        tally.begin(LAST_LAYER)
        second = torch.zeros(2)
        del second
    assert (tally.peaks, tally.now) == ({FORWARD: 32, HEAD: 32, LAST_LAYER: 8}, 0)
