"""Linear layers with packed weights compute what they compute without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from twofold.models import machine, prepacked
from twofold.models.machine import available_memory
from twofold.sampling.base import Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.local import LocalSampler

WIDE = 256
PROMPTS = [torch.arange(1, 1 + n) for n in (9, 4)]
BIG = {"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def wide_llama(**settings: Any) -> LlamaForCausalLM:
    """A model whose layers are large enough; its keys and values have too few heads for it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=WIDE, intermediate_size=WIDE, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attention_bias=True, max_position_embeddings=64, **settings,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def packed_names(model: nn.Module) -> set[str]:
    """The last names of the layers that are packed now."""
    return {name.rpartition(".")[2] for name, part in model.named_modules() if "forward" in vars(part)}


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(input_ids=torch.arange(12)[None]).logits


def test_large_layers_are_packed_and_nothing_stays_behind() -> None:
    model = wide_llama()
    plain = logits(model)
    with prepacked.prepacked(model, 16):
        assert packed_names(model) == {*BIG, "lm_head"}
        assert (logits(model) - plain).abs().max() < 1e-5
    with pytest.raises(KeyError), prepacked.prepacked(model, 16):
        raise KeyError
    assert packed_names(model) == set()
    assert torch.equal(logits(model), plain)


def test_weights_are_those_of_the_beginning_of_a_block() -> None:
    model = wide_llama()
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    plain = logits(model)
    with prepacked.prepacked(model, 16):
        assert (logits(model) - plain).abs().max() < 1e-5


def test_under_autocast_products_are_in_its_dtype() -> None:
    model = wide_llama()
    with torch.autocast("cpu", torch.bfloat16):
        plain = logits(model)
        with prepacked.prepacked(model, 16):
            found = logits(model)
    assert found.dtype == plain.dtype == torch.bfloat16
    assert (found - plain).abs().max() < 0.02
    assert (plain.float() - logits(model)).abs().max() > 1e-4


def test_an_adapter_is_added_to_packed_layers() -> None:
    """Its own matrices are small, so they stay as they are."""
    settings = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(wide_llama(), settings).eval()
    plain = logits(model)
    with prepacked.prepacked(model, 16):
        assert packed_names(model) == {*BIG - {"q_proj", "down_proj"}, "base_layer", "lm_head"}
        assert (logits(model) - plain).abs().max() < 1e-5


class Doubled(nn.Linear):
    """A layer with a product of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_what_is_no_plain_large_layer_of_the_cpu_is_left_alone() -> None:
    hooked, meta = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE, device="meta")
    vars(hooked)["forward"] = own = torch.relu
    others = [Doubled(WIDE, WIDE), hooked, meta, nn.Linear(WIDE, WIDE - 1), nn.Linear(WIDE, WIDE, dtype=torch.float64)]
    model = nn.ModuleList([*others, nn.Linear(WIDE, WIDE)])
    with prepacked.prepacked(model, 16):
        assert [name for name, part in model.named_modules() if "forward" in vars(part)] == ["1", "5"]
    assert hooked.forward is own


def test_copies_take_a_quarter_of_the_available_memory_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    model, size = nn.Linear(WIDE, WIDE), 4 * WIDE * WIDE
    model = nn.Sequential(model)
    for free, is_packed in ((4 * size, True), (4 * size - 1, False), (None, True)):
        monkeypatch.setattr(prepacked, "available_memory", lambda free=free: free)
        with prepacked.prepacked(model, 16):
            assert ("forward" in vars(model[0])) is is_packed
    monkeypatch.setattr(prepacked, "available_memory", lambda: 2 * size)
    with torch.autocast("cpu", torch.bfloat16), prepacked.prepacked(model, 16):
        assert "forward" in vars(model[0])


@pytest.mark.parametrize("fault", [RuntimeError, AttributeError, None])
def test_a_torch_that_cannot_or_is_wrong_multiplies_as_before(
    fault: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(layer: nn.Linear, dtype: torch.dtype) -> Any:
        if fault is not None:
            raise fault
        return lambda rows: layer(rows) + 0.05

    monkeypatch.setattr(prepacked, "_forward", forward)
    prepacked._works.cache_clear()
    try:
        model = nn.Sequential(nn.Linear(WIDE, WIDE))
        with prepacked.prepacked(model, 16):
            assert "forward" not in vars(model[0])
    finally:
        prepacked._works.cache_clear()


def test_random_numbers_stay_as_they_are() -> None:
    """The trial of a dtype draws none, or a run would depend on what was sampled before it."""
    before = torch.get_rng_state()
    assert prepacked._works.__wrapped__(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_are_restored_if_one_cannot_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory ends in the middle."""
    model, before = wide_llama(), prepacked._forward

    def forward(layer: nn.Linear, dtype: torch.dtype) -> Any:
        if layer is model.lm_head:
            raise MemoryError
        return before(layer, dtype)

    assert prepacked._works(torch.float32)
    monkeypatch.setattr(prepacked, "_forward", forward)
    with pytest.raises(MemoryError), prepacked.prepacked(model, 16):
        raise AssertionError
    assert packed_names(model) == set()


def test_a_torch_without_onednn_multiplies_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not prepacked._works.__wrapped__(torch.float32)


class Watched:
    """Which layers are packed while a model computes."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: set[int] = set()
        model.register_forward_pre_hook(lambda *_: self.seen.add(len(packed_names(model))))


@pytest.mark.parametrize(("num_new", "count"), [(15, 0), (16, 6)])
def test_completions_of_enough_tokens_are_sampled_with_packed_weights(num_new: int, count: int) -> None:
    model = wide_llama()
    sampler = LocalSampler(model, None, [299], Sampling(max_new_tokens=num_new))  # type: ignore[arg-type]  # no stop texts
    sampler.sample(PROMPTS, samples=2)  # a trial of the model is not packed
    watched = Watched(model)
    sampler.sample(PROMPTS, samples=2)
    assert watched.seen == {count}


def test_a_model_samples_the_same_with_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[list[int]]:
        sampler = LocalSampler(wide_llama(), None, [299], Sampling(max_new_tokens=20))  # type: ignore[arg-type]  # no stop texts
        return [d.tokens.tolist() for some in sampler.sample(PROMPTS, samples=3) for d in some]

    packed = drawn()
    monkeypatch.setattr(prepacked, "FEWEST", 10**9)
    assert packed == drawn()


@pytest.mark.parametrize(("num_new", "count"), [(15, 0), (16, 6)])
def test_beams_of_enough_tokens_are_searched_with_packed_weights(num_new: int, count: int) -> None:
    model, reference = wide_llama(), wide_llama()
    search = BeamSearch(model, [299], Beams(width=2, max_new_tokens=num_new), reference)
    search.search(PROMPTS[:1])
    watched = [Watched(model), Watched(reference)]
    found = search.search(PROMPTS[:1])
    assert [each.seen for each in watched] == [{count}] * 2
    beam_only = BeamSearch(model, [299], Beams(width=2, max_new_tokens=num_new))
    assert len(found[0]) == len(beam_only.search(PROMPTS[:1])[0]) == 2


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of another system."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    return tmp_path


def test_available_memory_is_that_of_the_system_or_what_a_container_has_left(system: Path) -> None:
    assert available_memory() is None
    (system / "proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    assert available_memory() == 8 * 2**30
    group = system / "sys/fs/cgroup"
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text(f"{3 * 2**30}\n")
    assert available_memory() == 8 * 2**30
    (group / "memory.max").write_text(f"{4 * 2**30}\n")
    assert available_memory() == 2**30
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {2 * 2**30}\nslab 7\n")
    assert available_memory() == 3 * 2**30
    (group / "memory.max").write_text(f"{40 * 2**30}\n")
    assert available_memory() == 8 * 2**30
