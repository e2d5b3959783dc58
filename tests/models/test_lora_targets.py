"""What an adapter on all linear layers of a mixture of experts is put on, name by name."""

from __future__ import annotations

import pytest
import transformers as tr

from support import tiny
from support.architectures import EXPERTS, SPARSE
from support.families import build
from twofold.errors import ModelError
from twofold.models.lora_targets import _ROUTER, ALL, refuse_untouched_experts, targets_of

ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]


def test_a_dense_model_needs_no_names() -> None:
    assert targets_of(tiny.llama(), ALL) == targets_of(tiny.gpt2(), ALL) == {"target_modules": "all-linear"}


def test_a_mixture_is_adapted_on_attention_and_its_stacked_experts() -> None:
    assert targets_of(build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS), ALL) == {
        "target_modules": ATTENTION,
        "target_parameters": ["experts.down_proj", "experts.gate_up_proj"],
        "exclude_modules": ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"],
    }


def test_shared_experts_are_adapted_by_their_parameters_and_their_gates_are_not() -> None:
    """PEFT would no longer find layers of these names."""
    found = targets_of(build(tr.Qwen2MoeForCausalLM, tr.Qwen2MoeConfig, **SPARSE), ALL)
    assert found["target_modules"] == ATTENTION
    assert found["target_parameters"] == [
        "experts.down_proj", "experts.gate_up_proj", "shared_expert.down_proj.weight",
        "shared_expert.gate_proj.weight", "shared_expert.up_proj.weight",
    ]  # fmt: skip
    assert found["exclude_modules"] == [
        f"model.layers.{i}.mlp.{name}" for i in (0, 1) for name in ("gate", "shared_expert_gate")
    ]


@pytest.mark.parametrize(
    ("name", "router"),
    [
        ("gate", True), ("mlp.gate", True), ("mlp.gate.weight", True), ("mlp.router", True), ("a.topk_router.b", True),
        ("mlp.shared_expert_gate", True), ("router_layer", True), ("mlp.gate_proj", False), ("mlp.gates", False),
        ("mlp.gate_up_proj", False), ("investigate", False), ("mlp.up_proj", False),
    ],
)  # fmt: skip
def test_which_names_are_routers(name: str, router: bool) -> None:
    assert (_ROUTER.search(name) is not None) == router


def test_experts_that_the_adapter_left_alone_are_named() -> None:
    model = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    targets = targets_of(model, ALL)
    refuse_untouched_experts(model, targets)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("experts" not in name)
    for asked in ({"target_modules": ATTENTION}, {"target_parameters": ["self_attn.q_proj.weight"]}):
        refuse_untouched_experts(model, asked)
    with pytest.raises(ModelError, match=r"nothing on experts\.down_proj, experts\.gate_up_proj\n") as caught:
        refuse_untouched_experts(model, targets)
    assert (caught.value.where, caught.value.remedy) == ("model.lora.targets", "name other layers, or update peft")
