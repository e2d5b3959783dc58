"""What models make lies where they are, and not where tensors lie by default."""

from __future__ import annotations

from typing import Any

import torch

from support import tiny
from twofold.models import attention
from twofold.models.attention import LayoutMask
from twofold.models.logprob import token_logps, token_statistics
from twofold.models.packing import pack


def test_the_mask_of_a_pack() -> None:
    layout = pack(tiny.groups((3, 2, 2))).layout
    with torch.device("meta"):
        mask = LayoutMask.of(layout)
    assert (mask.device.type, mask.shape, mask.of_pack) == ("cpu", (1, 1, 1, 1), layout)


def test_plain_attention_sees_no_later_key() -> None:
    noise = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 4, generator=noise) for _ in range(3))
    scores = attention.Scores(scale=0.5, window=None, softcap=1e9)
    with torch.device("meta"):
        found = attention._plain(q, k, v, None, scores)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5)
    torch.testing.assert_close(found, wanted)


def test_the_head_forward_and_backward() -> None:
    noise = torch.Generator().manual_seed(0)
    shapes: Any = ((7, 4), (9, 4), (9,))
    hidden, weight, bias = (torch.randn(*s, generator=noise, dtype=torch.float64).requires_grad_() for s in shapes)
    target = torch.arange(7)
    with torch.device("meta"):
        logp = token_logps(hidden, weight, target, bias)
        found = torch.autograd.grad(logp.sum(), [hidden, weight, bias])
        known = token_statistics(hidden, weight, bias)
    want = (hidden @ weight.T + bias).log_softmax(-1)
    torch.testing.assert_close(logp, want[torch.arange(7), target])
    torch.testing.assert_close(found, torch.autograd.grad(want[torch.arange(7), target].sum(), [hidden, weight, bias]))
    torch.testing.assert_close(known["log_greedy"], want.amax(-1))
