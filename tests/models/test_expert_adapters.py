"""LoRA on a mixture of experts: attention and the experts, never the router."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as tr

from support import tiny
from support.architectures import EXPERTS, IN_THE_MASK, SPARSE
from support.families import UNSHARED, build
from twofold.errors import ModelError
from twofold.models.adapters import LoRA, attach_adapter, copy_adapter, merged
from twofold.models.load import ModelSettings
from twofold.models.policy import Policy

MIXTURES: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "mixtral": lambda: build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS),
    "qwen3_moe": lambda: build(tr.Qwen3MoeForCausalLM, tr.Qwen3MoeConfig, head_dim=8, **SPARSE),
    "gpt_oss": lambda: build(tr.GptOssForCausalLM, tr.GptOssConfig, head_dim=8, **EXPERTS),
    **IN_THE_MASK,
}
GROUPS = tiny.groups((5, 4, 6), (12, 7, 9))


@pytest.mark.filterwarnings("ignore:.*target_parameters.*")
@pytest.mark.parametrize("family", MIXTURES)
def test_experts_are_adapted_and_routers_are_not(family: str, tmp_path: Path) -> None:
    model = MIXTURES[family]()
    base = copy.deepcopy(model)
    adapter = attach_adapter(model, ModelSettings(path="here", lora=LoRA(rank=2)), seed=0)
    assert adapter is not None
    policy = Policy(model, adapter=adapter)
    named = [name for name in policy.trainable() if "layers.1." in name]
    assert any("q_proj" in name for name in named)
    assert sum(".experts." in name for name in named) == 4, "two stacked matrices, an A and a B each"
    assert not [name for name in named if "router" in name or ".gate." in name or "expert_gate" in name]
    assert ("shared_expert" in " ".join(named)) == (family == "qwen2_moe")
    with torch.no_grad():
        for name, weight in policy.trainable().items():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    moved = torch.cat([x for row in policy.logps(GROUPS) for x in row])
    with policy.as_reference():
        off = torch.cat([x for row in policy.logps(GROUPS) for x in row])
    assert (moved - off).abs().max() > 0.1
    adapter.save_pretrained(str(tmp_path), save_embedding_layers=False)
    again = Policy(merged(base, str(tmp_path)), sharing="rows").logps(GROUPS)
    torch.testing.assert_close(torch.cat([x for row in again for x in row]), moved, rtol=1e-3, atol=1e-3)
    copy_adapter(adapter)
    with policy.as_reference("reference"):
        copied = torch.cat([x for row in policy.logps(GROUPS) for x in row])
    torch.testing.assert_close(copied, moved)


@pytest.mark.filterwarnings("ignore:.*target_parameters.*")
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize(
    ("targets", "stacks"),
    [
        (("experts",), 2), (("q_proj", "experts"), 2), (("q_proj", "down_proj"), 1), (("w1", "w3"), 1), (("w2",), 1),
        (("gate_proj", "up_proj", "down_proj"), 2), (("q_proj",), 0),
    ],
)  # fmt: skip
def test_experts_are_found_by_any_name_that_they_have_had(targets: tuple[str, ...], stacks: int, family: str) -> None:
    model = MIXTURES[family]()
    attach_adapter(model, ModelSettings(path="here", lora=LoRA(rank=2, targets=targets)), seed=0)
    named = [name for name, p in model.named_parameters() if p.requires_grad and "layers.1." in name]
    assert sum(".experts." in name for name in named) == 2 * stacks
    assert any("q_proj" in name for name in named) == ("q_proj" in targets)
    assert not [name for name in named if "router" in name or ".gate." in name]


@pytest.mark.parametrize("targets", [("nothing",), ("q_proj", "nothing"), ("experts",)])
def test_a_target_that_the_model_has_not_is_refused(targets: tuple[str, ...]) -> None:
    wrong = "has no experts" if "experts" in targets else "has no layer called 'nothing'"
    with pytest.raises(ModelError, match=wrong) as caught:
        attach_adapter(tiny.llama(), ModelSettings(path="here", lora=LoRA(targets=targets)), seed=0)
    assert caught.value.where == "model.lora.targets"
    assert "q_proj" in caught.value.remedy


def test_a_router_is_adapted_where_it_is_named() -> None:
    model = MIXTURES["mixtral"]()
    attach_adapter(model, ModelSettings(path="here", lora=LoRA(rank=2, targets=("gate",))), seed=0)
    assert all(".gate." in name for name, p in model.named_parameters() if p.requires_grad)


def test_recurrent_models_are_adapted_where_their_kernels_allow_it() -> None:
    model = UNSHARED["mamba"]()
    attach_adapter(model, ModelSettings(path="here", lora=LoRA(rank=2)), seed=0)
    named = {name.split(".lora_")[0].rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert named == {"in_proj", "x_proj", "dt_proj"}
