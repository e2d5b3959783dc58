"""Steps whose shapes never change say what the growing cache says; only their capture needs a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import transformers as tr
from torch import Tensor
from torch.overrides import TorchFunctionMode

from support import tiny
from support.families import FAMILIES, ROUNDED, UNSHARED
from twofold.sampling import static
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.cache import Prefilled
from twofold.sampling.local import LocalSampler
from twofold.sampling.static import Graphs, StaticStore, Unfit, Windows, bucket_width, buckets, refuse_unfit_model

STOP = (4, 5, 6)


def prompts(*lengths: int) -> list[Tensor]:
    noise = torch.Generator().manual_seed(2)
    return [torch.randint(tiny.VOCABULARY, (n,), generator=noise) for n in lengths]


ASKED = prompts(3, 11, 1, 6, 14, 6)


def sampler(model: tr.PreTrainedModel, cache: str, **options: object) -> LocalSampler:
    settings = {"max_new_tokens": 24, "batch_size": 12, "cache": cache, **options}
    return LocalSampler(model, tiny.tokenizer(), STOP, Sampling(**settings))


def same(found: Sequence[Sequence[Sample]], expected: Sequence[Sequence[Sample]], tolerance: float) -> None:
    for some, others in zip(found, expected, strict=True):
        for a, b in zip(some, others, strict=True):
            assert a.tokens.tolist() == b.tokens.tolist()
            assert a.truncated == b.truncated
            torch.testing.assert_close(a.logp, b.logp, atol=tolerance, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_static_steps_draw_what_the_growing_cache_draws(family: str, adapted: bool) -> None:
    """More drafts than slots: slots are refilled, shrink to a smaller bucket, and go beyond the windows of 8."""
    model = FAMILIES[family]().double()
    if adapted:
        tiny.lora(model).double()
    grown, fixed = sampler(model, "growing"), sampler(model, "static")
    # Gemma 2's softmax is float32: float64's most negative number, in a row of padding, is NaN there.
    asked = prompts(*[7] * 6) if family == "gemma2" else ASKED
    expected = grown.sample(asked, samples=5, seed=(3, 1))
    assert len({len(d.tokens) for some in expected for d in some}) > 5
    assert max(len(d.tokens) for some in expected for d in some) > 16
    same(fixed.sample(asked, samples=5, seed=(3, 1)), expected, 1e-6)
    assert fixed.static
    assert fixed.note == ""


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.7, "top_k": 9, "top_p": 0.8},
        {"batch_size": 1},
        {"batch_size": 64},
        {"max_new_tokens": 63},
        {"stop": ("17 ", " 9")},
        {"use_generation_config": True},
    ],
    ids=str,
)
def test_every_way_to_draw_is_the_same(options: dict[str, object]) -> None:
    model = tiny.llama().double()
    model.generation_config.repetition_penalty = 1.7
    expected = sampler(model, "growing", **options).sample(ASKED, samples=3)
    found = sampler(model, "static", **options)
    same(found.sample(ASKED, samples=3), expected, 1e-6)
    assert found.static


def test_a_second_call_draws_in_the_same_buffers_and_follows_the_weights() -> None:
    model = tiny.llama().double()
    fixed = sampler(model, "static")
    before = fixed.sample(ASKED, samples=2, seed=(0, 0))
    kept = fixed._static
    assert kept is not None
    buffers = [layer.keys.data_ptr() for layer in kept.store.layers if layer.keys is not None]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    after = fixed.sample(ASKED, samples=2, seed=(0, 0))
    same(after, sampler(model, "growing").sample(ASKED, samples=2, seed=(0, 0)), 1e-6)
    assert [d.tokens.tolist() for some in after for d in some] != [d.tokens.tolist() for some in before for d in some]
    assert fixed._static is kept
    assert [layer.keys.data_ptr() for layer in kept.store.layers if layer.keys is not None] == buffers
    longer = prompts(35)
    same(fixed.sample(longer, samples=2), sampler(model, "growing").sample(longer, samples=2), 1e-6)


class Shapes(TorchFunctionMode):
    """The operations between two marks, with the shapes of their arguments."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[tuple[int, ...], ...]]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        shapes = tuple(tuple(a.shape) for a in args if isinstance(a, Tensor))
        self.seen.append((getattr(func, "__name__", str(func)), shapes))
        return func(*args, **(kwargs or {}))


def test_the_shapes_of_a_step_depend_on_its_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what a graph needs: the operations of every step of a key are the same, on the same shapes."""
    known: dict[object, list[object]] = {}
    times: dict[object, int] = {}

    def run(self: Graphs, key: object, step: Callable[[], None]) -> None:
        with Shapes() as shapes:
            step()
        times[key] = times.get(key, 0) + 1
        assert known.setdefault(key, shapes.seen) == shapes.seen
        assert not {"nonzero", "item", "tolist", "unique", "__bool__", "masked_select"} & {n for n, _ in shapes.seen}

    monkeypatch.setattr(Graphs, "run", run)
    monkeypatch.setattr(static, "bucket_width", lambda width: -(-width // 16) * 16)
    sampler(tiny.llama(), "static", batch_size=20).sample(ASKED, samples=9)
    assert {size for size, _ in known} == {20, 16, 8}
    assert len({width for _, width in known}) >= 2
    assert sum(times.values()) > 40


def test_bytes_of_the_prompt_cache_end_up_at_their_positions() -> None:
    """Keys of a refilled slot are those of the prompt alone, in its first columns."""
    model = tiny.llama().double()
    store = StaticStore(model, 3, 20, 8)
    both = Prefilled.of(prompts(7, 4), model)
    store.fill(torch.tensor([2, 0]), both)
    for slot, prompt in zip((2, 0), prompts(7, 4), strict=True):
        alone = Prefilled.of([prompt], model)
        for layer, other in zip(store.layers, alone.cache.layers, strict=True):
            assert layer.keys is not None
            torch.testing.assert_close(layer.keys[slot, :, : len(prompt)], other.keys[0], atol=1e-12, rtol=0)


def test_masks_say_what_a_layer_sees() -> None:
    masks = Windows({"full_attention": None, "sliding_attention": 2}).masks(torch.tensor([0, 3]), 5, None)
    assert isinstance(masks, dict)
    assert masks["full_attention"][:, 0, 0].int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert masks["sliding_attention"][:, 0, 0].int().tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 1, 0]]
    added = Windows({"full_attention": None}).masks(torch.tensor([1]), 3, torch.float32)
    assert isinstance(added, Tensor)
    assert added.flatten().tolist() == [0, 0, torch.finfo(torch.float32).min]


def test_buckets_and_rungs() -> None:
    assert buckets(64) == [8, 16, 32, 64]
    assert buckets(48) == [8, 16, 32, 48]
    assert buckets(5) == [5]
    assert [bucket_width(n) for n in (1, 64, 65, 300, 512, 513, 1000, 1025)] == [64, 64, 128, 320, 512, 640, 1024, 1280]
    assert all(n <= bucket_width(n) <= max(n + 63, 1.25 * n) for n in range(1, 9000))


@pytest.mark.parametrize(("family", "fits"), [("bloom", False), ("gpt_oss", True)])
def test_a_model_that_static_steps_do_not_fit_grows_its_cache_and_says_so(family: str, fits: bool) -> None:
    model, told = {**UNSHARED, **ROUNDED}[family](), list[str]()
    settings = {"max_new_tokens": 12, "batch_size": 12}
    fixed = LocalSampler(model, tiny.tokenizer(), STOP, Sampling(cache="static", **settings), told.append)
    grown = LocalSampler(model, tiny.tokenizer(), STOP, Sampling(cache="growing", **settings))
    for _ in range(2):
        same(fixed.sample(ASKED, samples=2), grown.sample(ASKED, samples=2), 1e-4)
    assert fixed.static == fits
    assert [t.partition(":")[0] for t in told] == ([] if fits else ["completions are decoded with a growing cache"])


def test_a_model_whose_static_steps_say_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unfit_model(tiny.llama(), 8)
    monkeypatch.setattr(Windows, "masks", lambda self, p, w, a: torch.ones(len(p), 1, 1, w, dtype=torch.bool))
    with pytest.raises(Unfit, match="off by"):
        refuse_unfit_model(tiny.llama(), 8)


def test_auto_grows_on_a_processor_and_a_settled_cache_costs_no_graph() -> None:
    plain = LocalSampler(tiny.llama(), tiny.tokenizer(), STOP, Sampling(max_new_tokens=4))
    assert not plain.static
    plain.sample(ASKED)
    assert plain._static is None
    assert 1 <= plain.steps <= 5


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_captured_steps_draw_what_the_growing_cache_draws(family: str) -> None:
    model = FAMILIES[family]().cuda()
    model, rounding = (model, 1e-5) if family == "gemma2" else (model.double(), 1e-6)
    fixed, told = sampler(model, "auto", batch_size=32), []
    fixed.tell = told.append
    expected = sampler(model, "growing", batch_size=32).sample(ASKED, samples=12)
    for _ in range(2):
        same(fixed.sample(ASKED, samples=12), expected, rounding)
    assert told == []
    assert fixed._static is not None
    assert len(fixed._static.graphs) >= 2
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    expected = sampler(model, "growing", batch_size=32).sample(ASKED, samples=12)
    same(fixed.sample(ASKED, samples=12), expected, rounding)


@pytest.mark.gpu
def test_a_step_that_cannot_be_captured_is_run_as_it_is() -> None:
    told: list[str] = []
    graphs, total = Graphs(torch.device("cuda"), told.append), torch.zeros(1, device="cuda")

    def step() -> None:
        total.add_(1)
        total.item()

    for _ in range(5):
        graphs.run("key", step)
    assert total.item() == 5
    assert graphs.failed
    assert "no CUDA graph of a decoding step could be captured" in told[0]
