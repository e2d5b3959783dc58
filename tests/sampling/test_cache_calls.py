"""A cache's call of the model, its trial of a store, and when rows and columns leave it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from support.placed import Placed
from twofold.sampling import cache
from twofold.sampling.cache import GrowingStore, Prefilled, max_positions, next_logits, rows_to_keep, step_error


class Recording:
    """A model that records how it is called; its logits are 1, 2, 3 at each token."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.calls = dtype, list[dict[str, Any]]()

    def forward(self, cache: Any = None) -> None: ...

    def __call__(self, **arguments: Any) -> Any:
        self.calls.append(arguments)
        return SimpleNamespace(logits=torch.tensor([[[9.0, 9, 9], [1, 2, 3]]], dtype=self.dtype))


@pytest.mark.parametrize("mask", [None, torch.ones(1, 2)])
def test_a_model_is_called_with_its_cache_and_for_its_last_logits(mask: Tensor | None) -> None:
    model, token, position, store = Recording(torch.bfloat16), torch.ones(1, 2), torch.zeros(1, 2), object()
    logits = next_logits(model, store, token, position, mask)  # type: ignore[arg-type]  # as much as is used
    assert (logits.tolist(), logits.dtype) == ([[1, 2, 3]], torch.float32)
    assert model.calls == [
        {"input_ids": token, "position_ids": position, "attention_mask": mask, "use_cache": True, "logits_to_keep": 1,
         "cache": store},
    ]  # fmt: skip


def test_rows_of_one_length_have_no_mask_and_others_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    logits = torch.zeros(2, 3)
    monkeypatch.setattr(cache, "next_logits", lambda *arguments: calls.append(arguments) or logits)
    model = tiny.llama()
    even, uneven = ([torch.tensor(p) for p in some] for some in ([[7, 8], [5, 6]], [[7, 8, 9], [5]]))
    with Placed() as made:
        Prefilled.of(even, model)
        Prefilled.of(uneven, model)
    assert [(token.tolist(), position.tolist()) for _, _, token, position, _ in calls] == [
        ([[7, 8], [5, 6]], [[0, 1], [0, 1]]), ([[7, 8, 9], [0, 0, 5]], [[0, 1, 2], [0, 0, 0]]),
    ]  # fmt: skip
    assert calls[0][4] is None
    assert calls[1][4].tolist() == [[True, True, True], [False, False, True]]
    assert [call for call in made.calls if call[0] == "tensor"] == [("tensor", ("device",))] * 2
    assert [call for call in made.calls if call[0] == "zeros"] == [("zeros", ("dtype",))] * 2


def test_a_growing_store_begins_empty_and_settles_once_after_a_change() -> None:
    model = tiny.llama().double()
    store = GrowingStore(model, refills=True)
    assert (store.cache, store.width, store.padded, store._moved) == (None, 0, False, False)
    store.fill(torch.arange(2), Prefilled.of([torch.tensor([7, 8, 9]), torch.tensor([5])], model))
    assert (store.width, store._moved) == (3, True)
    store.settle(torch.tensor([3, 1]), torch.arange(2))
    assert (store.width, store.padded, store._moved) == (3, True, False)
    store.settle(torch.tensor([9, 9]), torch.arange(2))  # nothing has moved
    assert (store.width, store.padded) == (3, True)
    store.keep(torch.tensor([1]))
    assert store._moved
    store.settle(torch.tensor([1]), torch.arange(1))
    assert (store.width, store.padded, store._moved) == (1, False, False)
    cached: Any = store.cache
    assert cached.layers[0].keys.shape == (1, 2, 1, 8)


def test_a_store_that_is_not_refilled_keeps_its_columns() -> None:
    model = tiny.llama().double()
    store = GrowingStore(model, refills=False)
    store.fill(torch.arange(1), Prefilled.of([torch.tensor([7, 8, 9])], model))
    store.settle(torch.tensor([2]), torch.arange(1))
    assert (store.width, store.padded) == (3, True)
    cached: Any = store.cache
    assert cached.layers[0].keys.shape[2] == 3
    store.fill(torch.arange(1), Prefilled.of([torch.tensor([1])], model))
    assert (store.width, store._moved) == (3, True)


@pytest.mark.parametrize(("live", "size", "rows"), [(8, 8, 8), (7, 8, 7), (15, 16, 16), (14, 16, 14), (0, 4, 0)])
def test_rows_leave_once_they_are_an_eighth(live: int, size: int, rows: int) -> None:
    assert rows_to_keep(live, size) == rows


class Steps:
    """A store that records what a trial does with it; its logits are `scale` times fixed ones, and one is `off`."""

    def __init__(self, off: float, scale: float = 1.0) -> None:
        self.off, self.scale, self.log = off, scale, list[Any]()

    def fill(self, slot_A: Tensor, start: Any) -> None:
        self.log.append(("fill", slot_A.tolist(), start))

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        self.log.append(("settle", position_A.tolist(), live_A.tolist()))

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        self.log.append(("feed", token_A.tolist(), position_A.tolist()))
        return self.scale * torch.tensor([[4.0, -8.0], [2.0, 1.0]]) + torch.tensor([[0.0, 0.0], [0.0, self.off]])


class Start:
    logits_AV = torch.zeros(2, 2)

    def __init__(self, prompt: list[int], rows: int = 1) -> None:
        self.prompt, self.rows = prompt, rows

    def select(self, index: Tensor) -> Start:
        assert index.tolist() == [0, 0]
        return Start(self.prompt, 2)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Start) and (self.prompt, self.rows) == (other.prompt, other.rows)

    __hash__ = None  # type: ignore[assignment]  # compared only


@pytest.mark.parametrize(("largest", "off", "error"), [(8.0, 2.0, 0.25), (0.5, 0.25, 0.25), (0.5, 0.0, 0.0)])
def test_a_trial_of_steps_by_hand(largest: float, off: float, error: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of five tokens in both slots; after a step one of three takes the second, and both go on. The error is
    a share of the largest logit, of 1 at least."""
    rows: list[list[int]] = []
    scale = largest / 8.0
    wanted = iter([torch.tensor([[4.0, -8.0]]) * scale, torch.tensor([[2.0, 1.0]]) * scale])

    def of(prompts: Any, model: Any) -> Any:
        rows.extend(p.tolist() for p in prompts)
        return SimpleNamespace(logits_AV=next(wanted))

    monkeypatch.setattr(Prefilled, "of", of)
    model: Any = tiny.llama()
    steps = Steps(off, scale)
    noise = torch.Generator().manual_seed(0)
    long, short, other = (torch.randint(61, (n,), generator=noise).tolist() for n in (9, 6, 1))
    torch.manual_seed(5)  # the trial has its own noise
    found = step_error(model, steps, lambda prompts: Start(prompts[0].tolist()))  # type: ignore[arg-type,return-value]
    assert found == pytest.approx(error)
    begin, again = Start(long[:5], 2), Start(short[:3])
    assert steps.log == [
        ("fill", [0, 1], begin), ("settle", [5, 5], [0, 1]), ("feed", [long[5], other[0]], [5, 5]),
        ("fill", [1], again), ("settle", [6, 3], [0, 1]), ("feed", [long[6], short[3]], [6, 3]),
        ("settle", [7, 4], [0, 1]), ("feed", [long[7], short[4]], [7, 4]),
        ("settle", [8, 5], [0, 1]), ("feed", [long[8], short[5]], [8, 5]),
    ]  # fmt: skip
    assert rows == [long, short]


def test_without_a_limit_of_its_own_a_model_has_two_billion_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "positions", lambda model: None)
    assert max_positions(tiny.llama()) == 2_147_483_648
    monkeypatch.setattr(cache, "positions", lambda model: 77)
    assert max_positions(tiny.llama()) == 77


def test_a_trial_makes_its_tensors_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny.llama()
    monkeypatch.setattr(Prefilled, "of", lambda prompts, model: SimpleNamespace(logits_AV=torch.ones(1, 2)))
    with Placed() as made:
        step_error(model, Steps(0.0), lambda prompts: Start([1]))  # type: ignore[arg-type,return-value]
    own = [call for call in made.calls if call[0] in ("arange", "tensor") and "dtype" not in call[1]]
    assert own.count(("arange", ("device",))) == 1
    assert own.count(("tensor", ("device",))) == 4
