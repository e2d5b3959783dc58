"""How the backbone of a model is called for a pack."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from support import tiny
from twofold.models.attention import LayoutMask
from twofold.models.backbone import pack_hidden
from twofold.models.packing import pack


def test_a_pack_goes_with_its_layout_or_with_its_mask_and_without_a_cache() -> None:
    stream, calls = pack(tiny.groups((3, 2, 2))), list[dict[str, Any]]()
    hidden = torch.arange(10.0).view(1, 5, 2)

    def base(**how: Any) -> Any:
        calls.append(how)
        return SimpleNamespace(last_hidden_state=hidden)

    model: Any = SimpleNamespace(base_model=base)
    for by_mask in (False, True):
        assert torch.equal(pack_hidden(model, stream, by_mask=by_mask), hidden[0, stream.score_S])
    by_layout, masked = calls
    assert by_layout == {
        "input_ids": stream.token_T, "position_ids": stream.position_T, "use_cache": False, "layout": stream.layout,
    }  # fmt: skip
    mask = masked.pop("attention_mask")
    assert masked == {"input_ids": stream.token_T, "position_ids": stream.position_T, "use_cache": False}
    assert (type(mask), mask.of_pack, mask.to("meta")) == (LayoutMask, stream.layout, mask)
