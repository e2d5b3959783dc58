"""Corners of counting memory, of sizes, and of what a machine with a GPU is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import nn

from support import tiny
from twofold.models import footprint, machine, precision
from twofold.models.footprint import FORWARD, HEAD, Build, _layers, _peaks, _without_data, step_bytes
from twofold.models.load import ModelSettings
from twofold.models.machine import inspect_machine, memory_bytes
from twofold.models.model_size import model_size
from twofold.models.policy import Policy


@pytest.mark.parametrize(("head", "peak"), [(305, 342), (306, 351), (301, 308), (300, 300)])
def test_bytes_are_whole_numbers_rounded_down(head: int, peak: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """21 layers of a pattern of two, measured at 4 and 6: 300 + 17/2 times the difference."""
    peaks = {4: {FORWARD: 100, HEAD: 300}, 6: {FORWARD: 100, HEAD: head}}
    monkeypatch.setattr(footprint, "_peaks", lambda build, config, groups, *, several: peaks[config.num_hidden_layers])
    config = tr.LlamaConfig(**{**tiny.DECODER, "num_hidden_layers": 21})
    nothing: Any = None
    found = step_bytes(nothing, config, [], several=False, period=2)
    assert (found, type(found)) == (peak, int)


@pytest.mark.parametrize("several", [False, True])
def test_a_count_leaves_no_hooks_and_adds_earlier_gradients(several: bool) -> None:
    made: list[Policy] = []

    def policy(model: Any, adapter: Any) -> Policy:
        assert adapter == "adapter"
        made.append(Policy(model))
        return made[0]

    def weights(config: Any) -> Any:
        return tr.LlamaForCausalLM(config)

    build = Build(weights, lambda model: "adapter", policy)
    config = tr.LlamaConfig(**{**tiny.DECODER, "num_hidden_layers": 3})
    peaks = _peaks(build, config, tiny.groups((4, 3, 2)), several=several)
    assert list(peaks) == ["forward", "head", "last layer", "first layer"]
    layers = made[0].model.model.layers
    assert [len(layer._forward_hooks) for layer in layers] == [0, 0, 0]
    if several:
        plain = _peaks(Build(weights, lambda model: "adapter", lambda model, _: Policy(model)), config,
                       tiny.groups((4, 3, 2)), several=False)  # fmt: skip
        held = sum(p.numel() * 4 for p in made[0].model.parameters())
        assert peaks["forward"] == plain["forward"] + held


def test_layers_are_the_first_list_of_their_number() -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(num_hidden_layers=2))
    outer: Any = nn.ModuleDict(
        {name: nn.ModuleList([nn.Linear(1, 1) for _ in range(n)]) for name, n in (("a", 3), ("b", 2), ("c", 2))}
    )
    inner: Any = nn.Identity()
    inner.config = config
    outer.model = inner
    assert _layers(outer) == list(outer["b"])


def test_tensors_without_data_have_their_dtypes_and_places() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
            self.register_buffer("count", torch.ones(3, dtype=torch.int64))

    model = nn.Sequential(Inner(), nn.Linear(2, 2))
    names = list(model.state_dict())
    _without_data(model)
    inner: Any = model[0]
    assert (inner.weight.dtype, inner.count.dtype, inner.count.shape) == (torch.bfloat16, torch.int64, (3,))
    assert list(model.state_dict()) == names
    assert (model._parameters, model._buffers) == ({}, {})
    assert isinstance(inner.weight, nn.Parameter)
    assert not isinstance(inner.count, nn.Parameter)


def test_an_adapter_in_a_folder_is_not_counted() -> None:
    config = tr.LlamaConfig(**tiny.DECODER)
    with_folder = model_size(ModelSettings(path="/nowhere", adapter="/nowhere/either"), config)
    assert with_folder == model_size(ModelSettings(path="/nowhere"), config)
    assert (with_folder.layers, with_folder.hidden, with_folder.quantized) == (2, 32, 0)


def test_a_machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds: list[str] = []
    monkeypatch.setattr(machine, "resolve_device", lambda device: {"auto": "cuda"}[device])
    monkeypatch.setattr(machine, "bfloat16_speedup", lambda device: speeds.append(device) or 7.5)
    monkeypatch.setattr(machine, "resolve_precision", lambda *named: named)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(machine, "_gpu", lambda index: {"name": f"gpu {index}"})
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    found = inspect_machine()
    assert (found["device"], found["bfloat16_speedup"], found["precision"]) == ("cuda", 7.5, ("auto", "cuda", 512))
    assert (found["gpu"], speeds) == ([{"name": "gpu 0"}, {"name": "gpu 1"}], ["cuda"])
    assert found["omp_wait_policy"] == "ACTIVE"
    assert list(found)[-1] == "paths"


def test_the_memory_of_a_gpu_is_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = {0: SimpleNamespace(total_memory=11), 1: SimpleNamespace(total_memory=22)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    assert memory_bytes("cuda") == 11


def test_a_description_of_processors_is_read_whatever_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_bytes(b"model name : Chip \xff\xc3\xa9\nflags : avx2 bf16\n")
    monkeypatch.setattr(precision, "Path", lambda path: tmp_path / Path(path).name)
    assert precision.processor_name() == "Chip \ufffdé"
    assert precision.features(precision.cpu_info()) == ["avx2", "bf16"]
    (tmp_path / "cpuinfo").write_text("nothing of the kind", encoding="utf-8")
    monkeypatch.setattr(precision.platform, "processor", lambda: "")
    monkeypatch.setattr(precision.platform, "machine", lambda: "abacus")
    assert precision.processor_name() == "abacus"
    monkeypatch.setattr(precision.platform, "processor", lambda: "fast")
    assert precision.processor_name() == "fast"
