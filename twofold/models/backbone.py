"""The parts of a transformers model that a head needs: the backbone for the hidden states, and the logits' scale."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.models.attention import LayoutMask
from twofold.models.packing import Pack

_TIMES = "logit_scale", "lm_head_multiplier"
_DIVIDED = ("logits_scaling",)
"""Config names of a constant that multiplies (Cohere, Falcon-H1) or divides (Granite, MiniCPM) the logits."""
_SCALED_WHERE_TIED = "umt5", "switch_transformers"
"""Models derived from T5 that divide the input of a tied head by the square root of its width. T5's own config has a
field for it."""


def pack_hidden(model: PreTrainedModel, stream: Pack, *, by_mask: bool) -> Tensor:
    """The hidden states [S, H] of a pack that a head reads. With `by_mask` the layout is passed as the mask."""
    layout = {"attention_mask": LayoutMask.of(stream.layout)} if by_mask else {"layout": stream.layout}
    out = backbone(model)(input_ids=stream.token_T, position_ids=stream.position_T, use_cache=False, **layout)
    return out.last_hidden_state[0].index_select(0, stream.score_S)


def backbone(model: PreTrainedModel) -> nn.Module:
    """The module that computes hidden states. `base_model` of some models that are part of larger ones is the model."""
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
    """The constant [V] that is added to the logits, in the head or after it."""
    bias_V = final_bias(model)
    if bias_V is None:
        return head.bias
    return bias_V if head.bias is None else head.bias + bias_V


def final_bias(model: PreTrainedModel) -> Tensor | None:
    """The constant [V] that is added to the head's output (BART)."""
    bias = getattr(model, "final_logits_bias", None)
    return None if bias is None else bias[0]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value else 1.0
