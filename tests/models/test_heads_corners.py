"""Corners of heads, packs and parts: what is asked of other layers, by value."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter
from transformers.utils.output_capturing import OutputRecorder

from support import tiny
from support.architectures import EXPERTS
from support.families import build
from support.placed import Placed
from support.seq2seq import bart
from twofold.batch import Routing
from twofold.models import experts, heads, packed_model, parts
from twofold.models.adapters import LoRA
from twofold.models.experts import routers, whole_routing
from twofold.models.heads import ScoreHead, ValueModel, save_value_model, value_model_of
from twofold.models.load import LoadedModel, ModelSettings
from twofold.models.logprob import _Head, _How
from twofold.models.packed_model import _recomputed
from twofold.models.packing import Packing
from twofold.models.planned import planned_gpu
from twofold.models.policy import Policy
from twofold.models.seq2seq import branch_hidden


def test_scores_are_read_where_the_model_is() -> None:
    """At the last token of each row, whatever lies behind it; tensors lie elsewhere by default."""
    groups, calls = tiny.groups((3, 2, 1), (1, 4)), list[Any]()
    hidden = torch.arange(3 * 5 * 2, dtype=torch.float32).view(3, 5, 2)

    def base(**arguments: Any) -> Any:
        calls.append(arguments)
        return SimpleNamespace(last_hidden_state=hidden)

    score = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        score.weight.copy_(torch.tensor([[1.0, 0.0]]))
    model: Any = SimpleNamespace(base_model=base, device=torch.device("cpu"), score=score)
    with torch.device("meta"):
        found = ScoreHead().of_rows(model, groups)
    assert found.tolist() == [hidden[0, 4, 0], hidden[1, 3, 0], hidden[2, 4, 0]]
    assert (calls[0]["use_cache"], calls[0]["input_ids"].shape) == (False, (3, 5))


@pytest.mark.parametrize(("bits", "divided"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)])
def test_a_base_in_bits_or_parts_stays_under_a_new_adapter(
    bits: bool, divided: bool, lora: LoRA | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a new adapter is asked of the settings; it has added nothing yet."""
    monkeypatch.setattr(LoadedModel, "__post_init__", lambda self: None)
    copy = SimpleNamespace(unload=lambda: "base")
    monkeypatch.setattr(heads, "copied", lambda model: copy)
    monkeypatch.setattr(heads, "merge", lambda adapter: "merged")
    monkeypatch.setattr(heads, "is_quantized", lambda model: bits)
    monkeypatch.setattr(heads, "in_parts", lambda model: divided)
    monkeypatch.setattr(heads, "_with_head", lambda base, seed, path: (base, seed, path))
    monkeypatch.setattr(heads, "_wrap", lambda settings, base, seed, path: ((base.model, seed), "mine"))
    monkeypatch.setattr(ValueModel, "of", lambda model, settings: model)
    policy: Any = SimpleNamespace(model="model", adapter="adapter")
    loaded: Any = SimpleNamespace(tokenizer="t", stop_tokens=frozenset({1}))
    made: Any = value_model_of(policy, loaded, ModelSettings(path="here", lora=lora, adapter=None))
    stays = lora is not None and (bits or divided)
    assert made == (("base" if stays else "merged", 0), "mine")


@pytest.mark.parametrize("shared", [False, True])
def test_a_merged_value_model_is_written_as_rows(shared: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    class Plain:
        def __init__(self, model: Any, **how: Any) -> None:
            calls.append((model, how))
            self.model = model

    monkeypatch.setattr(heads, "ValueModel", Plain)
    monkeypatch.setattr(heads, "is_sharded", lambda model: shared)
    monkeypatch.setattr(heads, "merge", lambda adapter: f"merged {adapter}")
    monkeypatch.setattr(heads, "weights_here", lambda model: f"weights of {model}")
    monkeypatch.setattr(heads, "save_policy", lambda model, *given, **how: calls.append((model.model, given, how)))
    held: Any = SimpleNamespace(adapter="adapter", model=tiny.llama())
    tokenizer: Any = "tokenizer"
    save_value_model(held, tokenizer, tmp_path)
    weights = "weights of merged adapter" if shared else None
    assert calls == [
        ("merged adapter", {"sharing": "rows"}), ("merged adapter", ("tokenizer", tmp_path), {"weights": weights}),
    ]  # fmt: skip


def test_what_is_recomputed_is_so_without_reentrance(monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation mode, from which the layer comes back even after an error."""
    calls: list[Any] = []

    def checkpoint(call: Any, *given: Any, **how: Any) -> Any:
        calls.append((given, how))
        return call(*given)

    monkeypatch.setattr(packed_model, "checkpoint", checkpoint)
    layer = nn.Linear(1, 1)
    layer.training = True
    assert _recomputed(layer, None, lambda a, b: (layer.training, a, b), 3, 4) == (False, 3, 4)
    assert calls == [((3, 4), {"use_reentrant": False})]

    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        _recomputed(layer, None, fails)
    assert layer.training


@pytest.mark.parametrize("copy", [False, True])
def test_a_model_in_parts_is_tried_on_a_small_copy(copy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, small = Policy(tiny.llama()), tiny.llama(seed=3)
    nn.Module.to(policy.model, "meta")
    asked: list[Any] = []
    monkeypatch.setattr(packed_model, "in_parts", lambda model: True)
    monkeypatch.setattr(packed_model, "small_copy", lambda *given: asked.append(given) or (small if copy else None))
    monkeypatch.setattr(packed_model, "pack_hidden", lambda model, stream, *, by_mask: asked.append(model))
    monkeypatch.setattr(policy, "_precision", lambda model=None: asked.append(("in", model)) or nullcontext())
    assert policy._device_note() == ""
    assert asked == [(policy.model, (torch.float32,)), *[("in", small), small] * copy]
    assert small.device.type == ("meta" if copy else "cpu")


def test_without_groups_nothing_is_routed() -> None:
    model = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    policy = Policy(model)
    assert policy.routing([], Packing()) is None
    assert policy.routing(tiny.groups((2, 1)), Packing()) is not None


def test_narrow_products_need_no_scratch() -> None:
    hidden, weight = torch.zeros(3, 2, dtype=torch.bfloat16), torch.zeros(5, 2)
    target = torch.zeros(3, dtype=torch.int64)
    with planned_gpu(1):
        assert _Head(hidden, weight, target, None, _How(None, False)).scratch.shape == (0,)
        assert _Head(hidden.float(), weight, target, None, _How(None, False)).scratch.shape == (15,)


def test_a_router_is_read_at_the_place_that_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class without a place is read at 0; one with a name only where the name is part of the module's."""
    model: Any = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    gates = [layer.mlp.gate for layer in model.model.layers]
    kind = type(gates[0])
    second, nowhere = (OutputRecorder(kind, index=1, layer_name=name) for name in ("layers.1", "nowhere"))
    for recorder, want in (
        (kind, [(gates[0], 0), (gates[1], 0)]), (OutputRecorder(kind, index=2), [(gates[0], 2), (gates[1], 2)]),
        ([second], [(gates[1], 1)]), (nowhere, []),
    ):  # fmt: skip
        monkeypatch.setattr(PreTrainedModel, "can_record_outputs", {"router_logits": recorder})
        assert routers(model) == want


def test_sums_of_processes_are_made_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Routing(torch.tensor([[1.0]]), torch.tensor([[2.0]]), 3.0)
    theirs = [[[10.0]], [[20.0]], "float32", 5.0]
    monkeypatch.setattr(experts, "world", lambda: SimpleNamespace(size=2, gather=lambda sent: [sent, [theirs]]))
    with torch.device("meta"):
        whole = whole_routing([mine], torch.device("cpu"))
    assert (whole.probability_LE.tolist(), whole.chosen_LE.tolist(), whole.rows) == ([[11.0]], [[22.0]], 8.0)


def test_a_process_without_rows_converts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was to convert is dropped, and the part is empty, on the processor."""
    model: Any = tiny.llama()
    name = "model.norm.weight"
    monkeypatch.setattr(parts, "part_here", lambda value: torch.empty(0, 3, dtype=torch.float16))
    conversion: Any = SimpleNamespace(collected_tensors={"a": [1]})
    with parts.reading_parts("shard", "cpu"), torch.device("meta"):
        patched: Any = WeightConverter.convert
        made = patched(conversion, name, model=model)
    assert (list(made), made[name].shape, made[name].dtype) == ([name], (0, 3), torch.float16)
    assert (made[name].device.type, conversion.collected_tensors) == ("cpu", {})


def test_a_decoder_is_called_without_a_cache_for_each_branch() -> None:
    model: Any = bart()
    calls: list[dict[str, Any]] = []
    model.get_decoder().register_forward_pre_hook(lambda _, __, how: calls.append(how), with_kwargs=True)
    groups = tiny.groups((3, 2, 1), (4, 2))
    with torch.no_grad(), Placed() as made:
        hidden = branch_hidden(model, groups)
    assert hidden.shape == (5, 32)
    ((how,),) = (calls,)
    assert how["use_cache"] is False
    assert how["encoder_attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert torch.equal(how["encoder_hidden_states"][0], how["encoder_hidden_states"][1])
    assert ("tensor", ("device",)) in made.calls


@pytest.mark.parametrize("sharded", [False, True])
def test_outputs_of_shards_are_no_views(sharded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, values = tiny.policy(), torch.arange(2.0)

    def given(members: Any, statistics: Any, *, routing: bool) -> dict[str, Tensor]:
        return {"logp_S": values}

    monkeypatch.setattr(policy, "_values", given)
    monkeypatch.setattr(packed_model, "is_sharded", lambda model: sharded)
    found = policy(tiny.groups((3, 2)))[0].logp_S
    assert found is not None
    assert (found.data_ptr() == values.data_ptr()) is not sharded
    assert found.tolist() == [0.0, 1.0]
