"""Targets and exclusions by name, pattern and block, and the words of refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr
from torch import nn

from support import tiny
from support.architectures import EXPERTS
from support.families import UNSHARED, build
from twofold.errors import ModelError
from twofold.models.lora_targets import saved_modules, targets_of, without

NAMES = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def mixtral() -> tr.PreTrainedModel:
    return build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)


def test_a_pattern_is_left_to_peft() -> None:
    assert targets_of(tiny.llama(), r".*q_proj") == {"target_modules": r".*q_proj"}
    made = without(tiny.llama(), {"target_modules": r".*[qk]_proj"}, ["layers.0", "k_proj"])
    assert made == {
        "target_modules": r".*[qk]_proj",
        "exclude_modules": [
            "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
        ],
    }  # fmt: skip


def test_names_are_whole_names() -> None:
    """A full name, or the end of one behind a dot."""
    model = tiny.llama()
    assert targets_of(model, ["model.layers.1.mlp.up_proj", "q_proj"]) == {
        "target_modules": ["model.layers.1.mlp.up_proj", "q_proj"]
    }
    assert targets_of(model, ["embed_tokens"]) == {"target_modules": ["embed_tokens"]}
    for name in ("_proj", "proj", "layers", "norm.weight"):
        with pytest.raises(ModelError, match="has no layer called"):
            targets_of(model, [name])


def test_what_is_excluded_is_left_out_of_what_was_already() -> None:
    model = tiny.llama()
    targets = {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["model.layers.1.self_attn.v_proj"]}
    assert without(model, targets, []) is targets
    assert without(model, targets, ["layers.0.self_attn.q_proj"])["exclude_modules"] == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj",
    ]  # fmt: skip
    with pytest.raises(ModelError) as error:
        without(model, targets, ["layers"])
    assert str(error.value) == "model.lora.exclude: every layer is excluded\n  → leave a layer to adapt"
    with pytest.raises(ModelError) as error:
        without(model, targets, ["proj"])
    assert str(error.value) == (
        "model.lora.exclude: the model has nothing called 'proj'\n  → choose from q_proj, v_proj"
    )


def test_stacked_experts_are_excluded_by_block() -> None:
    model = mixtral()
    targets = targets_of(model, ("q_proj", "experts"))
    assert targets == {
        "target_modules": ["q_proj"], "target_parameters": ["experts.down_proj", "experts.gate_up_proj"],
    }  # fmt: skip
    assert without(model, targets, ["q_proj"])["target_parameters"] == targets["target_parameters"]
    left = without(model, targets, ["layers.0"])
    assert left["target_parameters"] == [
        "model.layers.1.mlp.experts.gate_up_proj", "model.layers.1.mlp.experts.down_proj",
    ]  # fmt: skip
    assert left["exclude_modules"] == ["model.layers.0.self_attn.q_proj"]
    assert "target_parameters" not in without(model, targets, ["experts"])
    with pytest.raises(ModelError, match=r"choose from experts, q_proj$"):
        without(model, targets, ["nothing"])


@pytest.mark.parametrize(
    ("make", "name", "what", "remedy"),
    [
        (tiny.llama, "nothing", "has no layer called 'nothing'", f"choose from {NAMES}, or all-linear"),
        (tiny.llama, "experts", "has no experts", f"choose from {NAMES}, or all-linear"),
        (mixtral, "nothing", "has no layer called 'nothing'",
         "choose from down_proj, experts, gate_up_proj, k_proj, o_proj, q_proj, v_proj, or all-linear"),
    ],
)  # fmt: skip
def test_what_there_is_is_listed(make: Any, name: str, what: str, remedy: str) -> None:
    with pytest.raises(ModelError) as error:
        targets_of(make(), ["q_proj", name])
    assert str(error.value) == f"model.lora.targets: the model {what}\n  → {remedy}"


def test_layers_whose_weights_kernels_read_are_left_out() -> None:
    assert targets_of(UNSHARED["mamba"](), "all-linear") == {"target_modules": ["dt_proj", "in_proj", "x_proj"]}
    assert targets_of(UNSHARED["mamba"](), ["out_proj"]) == {"target_modules": ["out_proj"]}


def test_modules_that_are_trained_whole_have_weights_and_whole_names() -> None:
    model = tiny.llama()
    assert saved_modules(model, ["norm", "lm_head", "norm"]) == ["model.norm", "lm_head"]
    assert saved_modules(model, ["layers.1.mlp"]) == ["model.layers.1.mlp"]
    for name in ("orm", "layers", "act_fn", "rotary_emb"):
        with pytest.raises(ModelError) as error:
            saved_modules(model, [name])
        assert str(error.value) == (
            f"model.lora.modules_to_save: the model has no module called {name!r}\n"
            f"  → choose from down_proj, embed_tokens, gate_proj, input_layernorm, k_proj, lm_head, norm, o_proj, "
            "post_attention_layernorm, q_proj, up_proj, v_proj"
        )


def test_a_convolution_can_be_named() -> None:
    class Model(nn.Module):
        config = None

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv1d(2, 2, 1), nn.Linear(2, 2)
            self.bare = nn.Identity()

        def get_output_embeddings(self) -> None:
            return None

    model: Any = Model()
    assert targets_of(model, ["conv"]) == {"target_modules": ["conv"]}
    assert isinstance(model.conv.weight, torch.Tensor)
    with pytest.raises(ModelError, match="choose from linear, or all-linear"):
        targets_of(model, ["bare"])
