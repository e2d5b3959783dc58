"""The parts of a transformers model that a head reads: what makes the hidden rows, and what scales the logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.models.attention import LayoutMask
from twofold.models.packing import Pack

_TIMES = "logit_scale", "lm_head_multiplier"
_DIVIDED = ("logits_scaling",)
"""What configs call a constant factor of the logits (Cohere, Falcon-H1; Granite, MiniCPM)."""
_SCALED_WHERE_TIED = "umt5", "switch_transformers"
"""Heirs of T5 that divide what a tied head reads by the square root of its width, as T5's own config names it."""


def pack_hidden(model: PreTrainedModel, stream: Pack, *, by_mask: bool) -> Tensor:
    """The hidden rows [S, H] of a pack that a head reads. With `by_mask` the layout goes where a mask would."""
    layout = {"attention_mask": LayoutMask.of(stream.layout)} if by_mask else {"layout": stream.layout}
    out = backbone(model)(input_ids=stream.token_T, position_ids=stream.position_T, use_cache=False, **layout)
    return out.last_hidden_state[0].index_select(0, stream.score_S)


def backbone(model: PreTrainedModel) -> nn.Module:
    """The module that makes hidden rows; `base_model` of some that are part of larger ones is the model itself."""
    base = model.base_model
    return getattr(model, "model", model) if base is model else base


def logit_scale(model: PreTrainedModel) -> float:
    """The constant by which the head's logits are multiplied."""
    config = model.config.get_text_config()
    scale = 1.0
    for name in _TIMES:
        scale *= _number(getattr(config, name, None))
    for name in _DIVIDED:
        scale /= _number(getattr(config, name, None))
    if getattr(config, "scale_decoder_outputs", config.model_type in _SCALED_WHERE_TIED and config.tie_word_embeddings):
        scale *= config.hidden_size**-0.5
    return scale


def logit_bias(model: PreTrainedModel, head: nn.Linear) -> Tensor | None:
    """The constant [V] that is added to the logits, by the head or beside it."""
    beside_V = bias_beside(model)
    if beside_V is None:
        return head.bias
    return beside_V if head.bias is None else head.bias + beside_V


def bias_beside(model: PreTrainedModel) -> Tensor | None:
    """The constant [V] that is added to what the head says (BART)."""
    beside = getattr(model, "final_logits_bias", None)
    return None if beside is None else beside[0]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value else 1.0
