"""Corners of sampling: static steps that do not fit, tolerances of trials, rare models, what a server is sent."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from support import tiny
from support.placed import Placed
from support.seq2seq import t5
from twofold.client.server import Endpoint
from twofold.records import Message
from twofold.sampling import recompute, shared_prompt, static
from twofold.sampling.answers import Draw, ServerAnswerer, _optional
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.cache import Prefilled
from twofold.sampling.dealt import all_completions
from twofold.sampling.encoded import EncodedStart
from twofold.sampling.logits_processor import LogitsProcessor
from twofold.sampling.recompute import cache_fault, prefilled_rows
from twofold.sampling.shared_prompt import SharedStore, SharingMask
from twofold.sampling.slots import Slots, StopCriteria
from twofold.sampling.static import StaticStore, Unfit, Windows, refuse_unfit_model


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-3), (torch.float32, 1e-3), (torch.bfloat16, 0.1), (torch.float16, 0.1)]
)
def test_a_static_step_may_be_off_by_as_much_as_its_precision(
    dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    errors = iter([bound, bound * 1.02, torch.nan])
    monkeypatch.setattr(static, "StaticStore", lambda *arguments: calls.append(arguments) or "store")
    monkeypatch.setattr(static, "step_error", lambda model, store, start: next(errors))
    model: Any = nn.Module.to(tiny.llama(), dtype)
    refuse_unfit_model(model, 7)
    for off in (bound * 1.02, torch.nan):
        with pytest.raises(Unfit) as refused:
            refuse_unfit_model(model, 7)
        assert str(refused.value) == f"a static step is off by {off:.1e} of the logits"
    assert calls == [(model, 2, 9, 7)] * 3


def test_static_steps_that_fail_say_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: Any, store: Any, start: Any) -> float:
        raise RuntimeError("no such shape\nat all")

    monkeypatch.setattr(static, "step_error", fails)
    with pytest.raises(Unfit, match=r"^a static step fails: no such shape$"):
        refuse_unfit_model(tiny.llama(), 8)
    with pytest.raises(Unfit, match=r"^its prompts are read by an encoder$"):
        refuse_unfit_model(t5(), 8)


@pytest.mark.parametrize(
    ("layers", "kinds", "message"),
    [
        ([], None, "layers of no known kind"), ([object()], None, "a cache of object has no static form here"),
        ([tr.cache_utils.DynamicLayer()], ["full_attention", "b", "a"], "layers of a, b"),
    ],
)  # fmt: skip
def test_caches_without_a_static_form(
    layers: list[Any], kinds: list[str] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "new_cache", lambda model: SimpleNamespace(layers=layers))
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(layer_types=kinds))
    with pytest.raises(Unfit) as refused:
        Windows.of(cast(Any, SimpleNamespace(config=config)))
    assert str(refused.value) == message


@pytest.mark.parametrize(("name", "additive"), [("sdpa", None), ("eager", torch.float64)])
def test_a_mask_is_added_where_the_attention_takes_no_truth_values(
    name: str, additive: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "stock_name", lambda model: name)
    store = StaticStore(tiny.llama().double(), 3, 70, 5)
    assert (store.additive, store.stride, store.columns, store.sizes, store.refills) == (additive, 5, 128, [3], True)
    assert (store.frame.row_A.tolist(), store.frame.column_A.tolist(), store.key) == ([0, 1, 2], [0, 0, 0], (3, 128))
    assert [layer.columns for layer in store.layers] == [128, 128]


def drawn(logp: float, dtype: torch.dtype) -> list[list[Sample]]:
    return [[Sample(torch.tensor([1, 2]), torch.tensor([0.0, logp], dtype=dtype), False)]]


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float64, 1e-6), (torch.float32, 1e-2), (torch.bfloat16, 0.5), (torch.float16, 0.5)],
)
def test_a_cache_may_be_off_by_as_much_as_its_precision(
    dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In nats of one token, of either sign."""
    monkeypatch.setattr(recompute, "small_copy", lambda model, dtypes: None)
    model: Any = nn.Module.to(tiny.llama(), dtype)
    for share, same in ((0.98, True), (-0.98, True), (1.02, False), (-1.02, False)):
        monkeypatch.setattr(recompute, "_known", {})

        def draw(
            model: Any, way: Literal["cache", "rows"], prompts: Sequence[Tensor], new: int, off: float = share * bound
        ) -> list[list[Sample]]:
            return drawn(off if way == "cache" else 0.0, torch.float64)

        assert (cache_fault(model, draw) == "") is same


@pytest.mark.parametrize(
    ("positions", "lengths", "new"),
    [(12, [10, 7, 3], 2), (11, [1, 1, 1], 1), (10, [1, 1, 1], 1), (4, [1, 1, 1], 1), (0, [10, 7, 3], 9)],
)
def test_prompts_of_a_trial_are_always_the_same(
    positions: int, lengths: list[int], new: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[list[int]]] = []
    monkeypatch.setattr(recompute, "small_copy", lambda model, dtypes: None)
    monkeypatch.setattr(recompute, "positions", lambda model: positions)

    def draw(model: Any, way: str, some: Sequence[Tensor], most: int) -> list[list[Sample]]:
        prompts.append([p.tolist() for p in some])
        assert most == new
        return drawn(0.0, torch.float32)

    for seed in (1, 2):
        monkeypatch.setattr(recompute, "_known", {})
        torch.manual_seed(seed)
        cache_fault(tiny.llama(), draw)
    noise = torch.Generator().manual_seed(0)
    assert prompts == [[torch.randint(61, (n,), generator=noise).tolist() for n in lengths]] * 4


def test_rows_and_starts_are_made_where_the_model_is() -> None:
    model, prompts = tiny.llama(), [torch.tensor([7, 8]), torch.tensor([5])]
    with torch.no_grad(), Placed() as made:
        prefilled_rows(prompts, model)
    assert ("tensor", ("device",)) in made.calls
    with torch.no_grad(), Placed() as decoder:
        EncodedStart.reading(prompts, t5())
    assert ("full", ("device",)) in decoder.calls


def test_a_single_completion_of_one_process_has_its_own_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes: list[Any] = []

    def pooled(parts: dict[int, Tensor], lengths: list[int], dtype: torch.dtype) -> list[Tensor]:
        dtypes.append((lengths, dtype))
        return list(parts.values())

    here = SimpleNamespace(size=2, gather=lambda sheet: [sheet, []], pooled=pooled)
    monkeypatch.setattr("twofold.sampling.dealt.world", lambda: here)
    one = Sample(torch.tensor([4, 5, 6]), torch.zeros(3, dtype=torch.bfloat16), True)
    ((same,),) = all_completions({0: [one]}, 1)
    assert (same.tokens.tolist(), same.truncated) == ([4, 5, 6], True)
    assert dtypes == [([3], torch.int64), ([3], torch.bfloat16)]


@pytest.mark.parametrize(("penalty", "seen"), [(1.0, False), (0.5, True), (1.5, True)])
def test_rows_remember_their_tokens_where_repetition_counts(penalty: float, seen: bool) -> None:
    rule = LogitsProcessor(1.0, 0, 1.0, penalty)
    slots = Slots(2, rule, StopCriteria((1,), 3, 9), torch.zeros(1, 5))
    assert (slots.seen_AV is not None) == seen
    if slots.seen_AV is not None:
        assert (tuple(slots.seen_AV.shape), slots.seen_AV.any().item()) == ((2, 5), False)
    assert len(slots._buffers) == 10 + seen
    assert (slots.stop_V.tolist(), slots.read_A.tolist(), slots.size) == ([False, True, False, False, False], [0, 0], 2)


def test_a_shared_mask_is_one_number() -> None:
    store = SharedStore(tiny.llama())
    mask = SharingMask.of(store)
    assert (tuple(mask.shape), mask.flatten().tolist(), mask.store) == ((1, 1, 1, 1), [0.0], store)
    assert store.sharing.prompts == store.sharing.sizes == ()
    assert (store._own_AT, store._bias, store._moved) == (None, {}, False)


def test_a_shared_step_is_of_one_token_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own columns: rows of one and three tokens after their prompts, of two columns so far."""
    model = tiny.llama()
    start = shared_prompt.SharedStart.reading([torch.tensor([7, 8]), torch.tensor([5])], model)
    store = SharedStore(model)
    store.fill(torch.arange(2), start)
    calls: list[Any] = []
    monkeypatch.setattr(shared_prompt, "next_logits", lambda *arguments: calls.append(arguments) or "logits")
    assert cast(Any, store.feed(torch.tensor([3, 4]), torch.tensor([2, 3]))) == "logits"
    of, cache, token, position, mask = calls[0]
    assert (of, cache, token.tolist(), position.tolist(), mask.store) == (
        model,
        store.cache,
        [[3], [4]],
        [[2], [3]],
        store,
    )
    assert (store.width, store.padded, store._moved) == (3, True, False)
    own_AT = store._own_AT
    assert own_AT is not None
    assert own_AT.tolist() == [[False, False, True], [True, True, True]]
    assert type(start) is shared_prompt.SharedStart
    assert isinstance(start, Prefilled)


@pytest.mark.parametrize(
    ("how", "fields"),
    [({"temperature": 2.0}, ["seed", "top_p"]), ({"temperature": 1.0}, ["seed", "top_p", "temperature"]),
     ({"temperature": 0.99, "top_p": 0.99}, ["seed"])],
)  # fmt: skip
def test_only_a_value_of_1_may_be_left_out(how: dict[str, Any], fields: list[str]) -> None:
    assert _optional(Sampling(**how)) == fields


@pytest.mark.parametrize("raw", [False, True])
def test_a_server_of_texts_gets_the_prompt_as_it_is(raw: bool) -> None:
    """Another one gets the turns of a transcript."""
    bodies: list[Any] = []
    address = "http://h/v1/completions#m" if raw else "http://h/v1#m"
    server: Any = SimpleNamespace(
        endpoint=Endpoint.of(address), body=lambda messages, **how: bodies.append((messages, how)) or {}
    )
    text = "\n\nHuman: Hi\n\nAssistant:"
    made = ServerAnswerer(server)
    made._body(text, Draw(Sampling(max_new_tokens=5, stop=("a", "b")), 1, 0), 0)
    made._body((Message("user", "Hi"),), Draw(Sampling(), 1, 0), 1)
    (messages, how), (turns, plain) = bodies
    turn = {"role": "user", "content": "Hi"}
    assert messages == (text if raw else [turn])
    assert turns == [turn]
    assert (how["max_tokens"], how["stop"], how["temperature"], how["top_p"]) == (5, ["a", "b"], 1.0, 1.0)
    assert how["seed"] % 64 == 0 != how["seed"]
    assert "stop" not in plain
    assert made.raw is raw
