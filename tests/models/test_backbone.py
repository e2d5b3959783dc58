"""The constants around a head, and the context of narrow products, by value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from twofold.models.backbone import backbone, final_bias, logit_bias, logit_scale
from twofold.models.products import bfloat16_products, is_narrow


def scale(**config: Any) -> float:
    named = SimpleNamespace(**{"model_type": "llama", "tie_word_embeddings": True, "hidden_size": 16, **config})
    named.get_text_config = lambda: named
    return logit_scale(SimpleNamespace(config=named))  # type: ignore[arg-type]  # its config alone is read


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 1.0),
        ({"logit_scale": 0.5}, 0.5),
        ({"lm_head_multiplier": 3}, 3.0),
        ({"logits_scaling": 8}, 0.125),
        ({"logit_scale": 0.5, "lm_head_multiplier": 3, "logits_scaling": 6}, 0.25),
        ({"logit_scale": None, "logits_scaling": 0}, 1.0),
        ({"scale_decoder_outputs": True}, 0.25),
        ({"scale_decoder_outputs": False, "model_type": "umt5"}, 1.0),
        ({"model_type": "umt5"}, 0.25),
        ({"model_type": "switch_transformers", "logit_scale": 2}, 0.5),
        ({"model_type": "umt5", "tie_word_embeddings": False}, 1.0),
    ],
)
def test_constants_of_configs_multiply_or_divide(config: dict[str, Any], expected: float) -> None:
    assert scale(**config) == expected


def test_biases_in_and_behind_a_head_are_added() -> None:
    head, bare = nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
    behind: Any = SimpleNamespace(final_logits_bias=torch.tensor([[1.0, 2.0, 3.0]]))
    plain: Any = SimpleNamespace()
    assert final_bias(plain) is None
    assert logit_bias(plain, head) is head.bias
    assert logit_bias(plain, bare) is None
    assert torch.equal(logit_bias(behind, bare), torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[arg-type]
    assert torch.equal(logit_bias(behind, head), head.bias + torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[arg-type]


def test_the_backbone_of_a_part_of_a_larger_model_is_its_model() -> None:
    inner, whole = nn.Identity(), SimpleNamespace()
    assert backbone(SimpleNamespace(base_model=inner)) is inner  # type: ignore[arg-type]
    whole.base_model = whole
    assert backbone(whole) is whole  # type: ignore[arg-type]
    whole.model = inner
    assert backbone(whole) is inner  # type: ignore[arg-type]


def test_products_are_narrow_inside_the_context_only() -> None:
    matmul = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before = matmul.fp32_precision
    with bfloat16_products():
        assert matmul.fp32_precision == "bf16"
        with bfloat16_products(narrow=False):
            assert matmul.fp32_precision == "bf16"
    assert matmul.fp32_precision == before
    with pytest.raises(KeyError), bfloat16_products():
        raise KeyError
    assert matmul.fp32_precision == before != "bf16"
    with bfloat16_products(narrow=False):
        assert matmul.fp32_precision == before


def test_narrow_is_autocast_to_bfloat16() -> None:
    cpu = torch.device("cpu")
    assert not is_narrow(cpu)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_narrow(cpu)
    with torch.autocast("cpu", torch.float16):
        assert not is_narrow(cpu)
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        assert not is_narrow(cpu)
