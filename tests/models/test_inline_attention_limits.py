"""Settings of inline attention that few models have: clipped projections, slices, another scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.models.policy import Policy

GROUPS = tiny.groups((5, 4, 6), (3, 2))
BLOOM: dict[str, Any] = {**tiny.SPECIAL, "hidden_size": 32, "n_layer": 2, "n_head": 4}
MPT: dict[str, Any] = {
    **tiny.SPECIAL, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 1,
}  # fmt: skip


def shared_and_rows(make: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model = tiny.sharp(make()).double()
    policy, rows = Policy(model), Policy(model, sharing="rows")
    assert policy.sharing_note == ""
    return torch.cat([x for g in policy.logps(GROUPS) for x in g]), torch.cat(
        [x for g in rows.logps(GROUPS) for x in g]
    )


def test_clipped_projections_are_clipped_in_packs_too() -> None:
    def made(**attention: Any) -> Any:
        return lambda: tr.MptForCausalLM(tr.MptConfig(**MPT, attn_config=attention))

    clipped, rows = shared_and_rows(made(clip_qkv=0.3))
    torch.testing.assert_close(clipped, rows, atol=2e-5, rtol=0)
    plain, _ = shared_and_rows(made())
    assert (clipped - plain).abs().max() > 1e-2
    scaled, rows = shared_and_rows(made(softmax_scale=0.9))
    torch.testing.assert_close(scaled, rows, atol=2e-5, rtol=0)
    assert (scaled - plain).abs().max() > 1e-2


@pytest.mark.parametrize("how", [{"pretraining_tp": 2}, {"slow_but_exact": True}], ids=str)
def test_only_products_in_slices_keep_bloom_from_sharing(how: dict[str, Any]) -> None:
    shared, rows = shared_and_rows(lambda: tr.BloomForCausalLM(tr.BloomConfig(**BLOOM, **how)))
    torch.testing.assert_close(shared, rows, atol=2e-5, rtol=0)
