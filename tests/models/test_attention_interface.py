"""What the check at load must not let through: attention that is not ours, and a pack that is nearly right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.models.attention import UnsupportedAttention, branch_attention
from twofold.models.packing import pack
from twofold.models.policy import Policy


class Leaning(tr.LlamaModel):
    """Its hidden rows are off by a factor wherever prompts are shared."""

    def forward(self, *args: Any, **asked: Any) -> Any:
        out = super().forward(*args, **asked)
        if "layout" in asked:
            out.last_hidden_state = out.last_hidden_state * (1 + self.config.lean)
        return out


class LeaningLM(tr.LlamaForCausalLM):
    def __init__(self, config: tr.LlamaConfig) -> None:
        super().__init__(config)
        self.model = Leaning(config)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("lean", "shared"), [(0.0, True), (1e-7, True), (2e-3, False), (1e-2, False)])
def test_a_pack_that_is_off_by_little_is_off(dtype: torch.dtype, lean: float, shared: bool) -> None:
    """Rounding passes, and a few thousandths of a nat do not."""
    config = tr.LlamaConfig(**{**tiny.DECODER, "lean": lean})
    model = tiny.sharp(LeaningLM(config))
    policy = Policy(model.double() if dtype == torch.float64 else model)
    assert policy.shared == shared
    assert ("differ by" in policy.sharing_note) == (not shared)


def test_a_mask_of_the_models_own_is_refused() -> None:
    """Branches see what the layout says; a mask beside it would be ignored."""
    stream = pack(tiny.groups((3, 2, 2)), torch.device("cpu"))
    length = len(stream.token_T.flatten())
    query = torch.randn(1, 4, length, 8)
    mask = torch.zeros(1, 1, length, length)
    with pytest.raises(UnsupportedAttention, match="mask of its own"):
        branch_attention(torch.nn.Identity(), query, query, query, mask, layout=stream.layout)
    out, _ = branch_attention(torch.nn.Identity(), query, query, query, None, layout=stream.layout)
    assert out.shape == (1, length, 4, 8)
