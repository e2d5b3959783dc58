"""Corners of the wrapper and of what is around it: shards, packs, masters, and what several processes do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from support import tiny
from support.architectures import EXPERTS, SPARSE
from support.families import build
from support.placed import Placed
from support.seq2seq import bart
from twofold.models import experts, machine, packed_model, precision, quantized, reference, weightless
from twofold.models import small_copy as small
from twofold.models.adapters import LoRA
from twofold.models.experts import whole_routing
from twofold.models.footprint import _depths
from twofold.models.load import ModelSettings
from twofold.models.logprob import _nowhere
from twofold.models.lora_targets import targets_of
from twofold.models.machine import paths
from twofold.models.packing import Packing
from twofold.models.parts import _divide, in_parts, parts_for_shards
from twofold.models.planned import planned_gpu, planned_memory
from twofold.models.policy import Policy
from twofold.models.small_copy import small_copy
from twofold.models.weightless import training_bytes
from twofold.progress import Silent
from twofold.world import Turn


@pytest.mark.parametrize("sharded", [False, True])
def test_shards_are_cast_by_fsdp2_and_their_casts_do_not_last(sharded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_model, "is_sharded", lambda model: sharded)
    cast = Policy(tiny.llama(), cast=torch.bfloat16)
    autocast = Policy(tiny.llama(), autocast=torch.bfloat16)
    narrow = torch.float32 if sharded else torch.bfloat16
    with cast._precision():
        assert cast.model.lm_head.weight.dtype == narrow
    with autocast._precision():
        assert torch.is_autocast_cache_enabled() is not sharded


def test_another_model_is_cast_in_its_place() -> None:
    policy, other = Policy(tiny.llama(), cast=torch.bfloat16), tiny.llama(seed=1)
    with policy._precision(other):
        assert (other.lm_head.weight.dtype, policy.model.lm_head.weight.dtype) == (torch.bfloat16, torch.float32)
    assert other.lm_head.weight.dtype == torch.float32


def test_only_contiguous_float32_weights_have_masters() -> None:
    model: Any = tiny.llama()
    turned = nn.Parameter(torch.ones(32, 61).T)
    model.lm_head.weight = turned
    model.model.norm.double()
    policy = Policy(model, autocast=torch.bfloat16)
    policy.keep_masters()
    assert policy.masters is not None
    names = {name for name in policy.trainable() if name not in policy.masters}
    assert names == {"lm_head.weight", "model.norm.weight"}


def test_packs_are_those_of_the_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, groups, packs = tiny.policy(), tiny.groups((3, 2), (4, 1)), list[Any]()

    def per_pack(some: Any) -> Any:
        packs.append([[g.name for g in pack] for pack in some])
        return [[[torch.zeros(1)] for _ in pack] for pack in some]

    monkeypatch.setattr(policy, "per_pack", per_pack)
    for packing in (None, Packing(groups=1)):
        policy.per_branch(groups, packing)
    assert packs == [[["row 0", "row 1"]], [["row 0"], ["row 1"]]]


def test_turns_that_are_not_real_are_not_routed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS))
    groups = tiny.groups((3, 2))
    once = policy.routing(groups, Packing())
    monkeypatch.setattr(policy, "turns", lambda packs: [Turn(0, True), Turn(0, False)])
    again = policy.routing(groups, Packing())
    assert once is not None
    assert again is not None
    assert again.rows == once.rows
    assert again.chosen_LE.tolist() == once.chosen_LE.tolist()


def test_sums_of_processes_have_their_own_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = [[[[1.5]], [[2.5]], "float64", 5.0]]
    monkeypatch.setattr(experts, "world", lambda: SimpleNamespace(size=2, gather=lambda sent: [sent, theirs]))
    whole = whole_routing([], torch.device("cpu"))
    assert (whole.probability_LE.dtype, whole.chosen_LE.dtype) == (torch.float64, torch.float64)


def test_an_encoder_decoder_is_not_tried_as_a_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(bart())
    assert policy._attention != "twofold_branches"
    nn.Module.to(policy.model, "meta")
    monkeypatch.setattr(packed_model, "pack_hidden", lambda *given, **how: pytest.fail("a pack was tried"))
    assert policy._device_note() == ""


@pytest.mark.parametrize(("anyone", "first"), [(True, True), (True, False), (False, True)])
def test_what_one_process_lacks_is_computed_by_all(
    anyone: bool, first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a warning where the own file is whole; only the first process writes."""
    policy, groups = tiny.policy(), tiny.groups((3, 2))
    reference.cached_reference(policy, groups, [[0]], tmp_path, Silent())
    calls: list[Any] = []
    monkeypatch.setattr(reference, "world", lambda: SimpleNamespace(any=lambda lacks: lacks or anyone, first=first))
    monkeypatch.setattr(policy, "per_pack", lambda packs: calls.append("computed") or [[[torch.zeros(2).double()]]])
    monkeypatch.setattr(reference, "_save", lambda flat, path: calls.append("saved"))
    progress = Silent()
    reference.cached_reference(policy, groups, [[0]], tmp_path, progress)
    assert (calls, progress.warnings) == (["computed", *["saved"] * first] if anyone else [], [])


def test_without_its_package_a_model_in_bits_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny.llama()
    model.is_quantized = True
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "twofold.models.quantized_layers", None)
    quantized.settle(model)
    assert quantized.quantization_of(model) is None


def test_scales_of_eight_bits_are_in_the_layer_the_weight_or_its_state() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    from twofold.models.quantized_layers import Linear4bit, Linear8bitLt

    def scales(own: Any, weight: Any) -> Any:
        layer: Any = SimpleNamespace(scales=own, weight=SimpleNamespace(SCB=weight), state=SimpleNamespace(SCB="state"))
        return Linear8bitLt._scales(layer)

    assert (scales("own", "weight"), scales(None, "weight"), scales(None, None)) == ("own", "weight", "state")
    four: Any = SimpleNamespace(scales=None, weight=SimpleNamespace(quant_state="bits"))
    assert Linear4bit._scales(four) == "bits"
    four.scales = "own"
    assert Linear4bit._scales(four) == "own"


@pytest.mark.usefixtures("group_of_one")
def test_parts_have_the_dtype_and_the_place_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    local = DTensor.from_local

    def from_local(part: Tensor, mesh: Any, rows: Any, **how: Any) -> Any:
        calls.append(how)
        return local(part, mesh, rows, **how)

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_parameter("absent", None)
            self.weight = nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16, device="meta"))

    monkeypatch.setattr(DTensor, "from_local", from_local)
    model: Any = Odd()
    _divide(model, "shard", "cpu")
    assert in_parts(model)
    part = model.weight.to_local()
    assert (part.dtype, part.device.type, part.shape) == (torch.bfloat16, "meta", (3, 2))
    assert calls == [{"run_check": False, "shape": torch.Size([3, 2]), "stride": (2, 1)}]
    model.weight = nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16))
    _divide(model, "shard", "cpu")
    with torch.no_grad():
        part: Any = model.weight
        part.to_local().fill_(1)
    with parts_for_shards(model):
        assert (model.weight.dtype, model.weight.device.type, model.weight.shape) == (torch.bfloat16, "meta", (3, 2))
    assert model.weight.tolist() == [[1.0, 1.0]] * 3


def test_weights_of_a_small_copy_are_those_of_seed_0() -> None:
    """Matrices are drawn, and vectors stay as the model makes them."""
    torch.manual_seed(7)
    copied: Any = small_copy(tiny.llama())
    noise = torch.Generator().manual_seed(0)
    weight = copied.get_input_embeddings().weight
    drawn = torch.empty(61, 16, dtype=torch.float64).normal_(0, 1.5 * 16**-0.5, generator=noise)
    assert torch.equal(weight, drawn)
    assert torch.equal(copied.model.norm.weight, torch.ones(16, dtype=torch.float64))


def test_where_two_heads_cannot_be_four_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, tried = small._narrow, list[int]()

    def refusing(config: Any, most: int) -> None:
        tried.append(most)
        if most == 2:
            raise ValueError
        narrow(config, most)

    monkeypatch.setattr(small, "_narrow", refusing)
    copied = small_copy(tiny.llama(num_attention_heads=8, hidden_size=64))
    assert copied is not None
    assert (copied.config.num_attention_heads, copied.dtype, tried) == (4, torch.float64, [2, 4])


def test_a_pattern_of_half_the_layers_is_still_one() -> None:
    """Nine layers that repeat after four, and one more: eight of them show the pattern."""
    config: Any = SimpleNamespace(layer_types=list("abcdabcda"))
    assert _depths(config, 9, 1) == (4, 8)


def test_a_name_of_experts_and_of_layers_is_both() -> None:
    model = build(tr.Qwen2MoeForCausalLM, tr.Qwen2MoeConfig, **SPARSE)
    assert targets_of(model, ("down_proj", "q_proj")) == {
        "target_modules": ["q_proj"], "target_parameters": ["experts.down_proj", "shared_expert.down_proj.weight"],
    }  # fmt: skip


def test_on_other_systems_all_cores_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert machine._processor()["cores_usable"] == 12
    found = {"device": "cuda", "precision": "bfloat16", "bfloat16_speedup": 9.0, "threads": 1, "omp_wait_policy": "x",
             "processor": {"cores_usable": 1}}  # fmt: skip
    assert paths(found)[1:] == ["precision auto: bfloat16"]


def test_a_product_is_timed_in_its_dtype_on_its_device() -> None:
    """257 is no number of bfloat16: its nearest even neighbor is 256."""
    assert (precision._product(257, torch.bfloat16, "cpu")(), precision._product(257, torch.float32, "cpu")()) == (
        256,
        257,
    )
    with Placed() as made:
        precision._product(2, torch.float32, "cpu")
    assert made.calls == [("ones", ("device", "dtype"))]


def test_targets_of_what_depends_on_no_token() -> None:
    nowhere = _nowhere(torch.zeros(3, 2))
    assert (nowhere.tolist(), nowhere.dtype) == ([0, 0, 0], torch.int64)


@pytest.mark.parametrize(("planned", "memory"), [(5, 5), (None, sys.maxsize)])
def test_a_planned_gpu_counts_before_the_one_that_is_here(
    planned: int | None, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter is counted without the rows that it would train."""
    seen: list[Any] = []

    def step_bytes(build: Any, config: Any, groups: Any, **how: Any) -> int:
        adapter = build.adapter(tiny.llama())
        seen.append((planned_memory(), adapter.peft_config["default"].trainable_token_indices))
        return 7

    monkeypatch.setattr(weightless, "step_bytes", step_bytes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = ModelSettings(path="m", precision="float32", lora=LoRA(rank=2), add_tokens=("a",), train_tokens=True)
    with planned_gpu(planned):
        config = tr.LlamaConfig(**tiny.DECODER)
        assert training_bytes(settings, tiny.groups((2, 1)), config, scored=False, several=False) == 7
    assert seen == [(memory, None)]
