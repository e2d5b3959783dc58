"""The model without data is that of the settings: dtype, adapter, labels, what is recomputed, device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.models import weightless
from twofold.models.adapters import LoRA
from twofold.models.heads import RewardModel
from twofold.models.load import ModelSettings
from twofold.models.planned import on_gpu, planned_gpu
from twofold.models.policy import Policy
from twofold.models.weightless import training_bytes

GROUPS = tiny.groups((3, 2, 2))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of the count."""
    known: list[Any] = []

    def step_bytes(build: Any, config: Any, groups: Any, **how: Any) -> int:
        known.append((build, config, groups, how))
        return 7

    monkeypatch.setattr(weightless, "step_bytes", step_bytes)
    return known


def config() -> tr.LlamaConfig:
    return tr.LlamaConfig(**tiny.DECODER)


@pytest.mark.parametrize(
    ("how", "period"),
    [
        ({}, 1), ({"recompute_every": 3}, 1), ({"activation_checkpointing": True, "recompute_every": 3}, 3),
        ({"activation_checkpointing": True}, 1),
    ],
)  # fmt: skip
def test_layers_repeat_where_some_are_recomputed(how: dict[str, Any], period: int, calls: list[Any]) -> None:
    settings = ModelSettings(path="m", device="cpu", **how)
    for several in (True, False):
        assert training_bytes(settings, GROUPS, config(), scored=False, several=several) == 7
        assert calls[-1][2:] == (GROUPS, {"several": several, "period": period})


@pytest.mark.parametrize("scored", [False, True])
def test_the_model_is_that_of_the_settings(scored: bool, calls: list[Any]) -> None:
    own = config()
    settings = ModelSettings(path="m", device="cpu", precision="float64", lora=LoRA(rank=3), add_tokens=("a",),
                             train_tokens=True)  # fmt: skip
    training_bytes(settings, GROUPS, own, scored=scored, several=True)
    build, used, _, _ = calls[0]
    assert used is not own
    assert (used.num_labels, used.pad_token_id) == ((1, 0) if scored else (2, None))
    assert (own.num_labels, own.pad_token_id) == (2, None)
    model = build.weights(used)
    kind = tr.LlamaForSequenceClassification if scored else tr.LlamaForCausalLM
    assert (type(model), model.dtype) == (kind, torch.float64)
    adapter = build.adapter(model)
    known = adapter.peft_config["default"]
    assert (known.r, known.task_type) == (3, "SEQ_CLS" if scored else "CAUSAL_LM")
    held = build.model(model, adapter)
    assert (type(held), held.adapter) == (RewardModel if scored else Policy, adapter)


def test_an_adapter_in_a_folder_is_as_large_as_its_config(calls: list[Any], tmp_path: Path) -> None:
    made: Any = tiny.lora(tiny.llama())
    made.save_pretrained(str(tmp_path), save_embedding_layers=False)
    settings = ModelSettings(path="m", device="cpu", adapter=str(tmp_path), precision="float32")
    training_bytes(settings, GROUPS, config(), scored=False, several=False)
    build = calls[0][0]
    assert build.adapter(tiny.llama()).peft_config["default"].r == 2


def test_the_paths_of_a_gpu_are_counted_where_there_is_one_or_one_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, str]] = []

    def step_bytes(build: Any, config: Any, groups: Any, **how: Any) -> int:
        policy = build.model(build.weights(config), None)
        seen.append((on_gpu(torch.device("cpu")), str(policy.narrow)))
        return 7

    monkeypatch.setattr(weightless, "step_bytes", step_bytes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for settings in (ModelSettings(path="m", precision="bfloat16"), ModelSettings(path="m", device="cpu")):
        training_bytes(settings, GROUPS, config(), scored=False, several=False)
    with planned_gpu(5):
        training_bytes(ModelSettings(path="m"), GROUPS, config(), scored=False, several=False)
        training_bytes(ModelSettings(path="m", precision="float32"), GROUPS, config(), scored=False, several=False)
    assert seen == [(True, "torch.bfloat16"), (False, "None"), (True, "torch.bfloat16"), (True, "None")]
    assert not on_gpu(torch.device("cpu"))


def test_what_cannot_run_without_data_has_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **how: Any) -> int:
        raise LookupError

    monkeypatch.setattr(weightless, "step_bytes", fails)
    assert training_bytes(ModelSettings(path="m"), GROUPS, config(), scored=False, several=False) is None


def test_a_config_is_read_by_revision_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def config_at(*named: Any) -> Any:
        asked.append(named)
        made = config()
        made.quantization_config = {"bits": 4}
        return made

    monkeypatch.setattr(weightless, "config_at", config_at)
    read: Any = weightless._config(ModelSettings(path="org/m", revision="r1", gguf_file="a.gguf"))
    plain: Any = weightless._config(ModelSettings(path="org/m", revision="r1"))
    assert (read.quantization_config, plain.quantization_config) == (None, {"bits": 4})
    assert asked == [("org/m", "r1", "a.gguf"), ("org/m", "r1", None)]
