"""Branch attention: every branch of a pack attends to its own prompt and to itself, and to nothing else.

One function replaces the attention of a transformers model while the model runs over a pack (`packing.Layout`).
On CUDA it is one variable-length call over gathered keys and values. Elsewhere segments of similar length share a call;
in bfloat16 on a CPU they share a tile (`tiled_attention.py`).
A sliding window is exact because each segment is contiguous in position. Soft caps and sinks are applied to the scores.
It refuses what it does not implement; the policy then runs unshared rows (`policy.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from transformers import AttentionInterface, PreTrainedModel

from twofold.models.packing import Layout, Route
from twofold.models.planned import on_gpu
from twofold.models.tiled_attention import Scores, tiled_attention

NAME = "twofold_branches"

LAYOUT_LOST = "the model does not pass its keyword arguments to the attention"

_HARMLESS = {"position_ids", "use_cache", "cache_position", "return_dict", "output_hidden_states", "logits_to_keep"}


class UnsupportedAttention(Exception):
    """The model requires something of its attention that branch attention does not implement."""


class LayoutMask(Tensor):
    """An attention mask [1, 1, 1, 1] that only carries the layout of a pack. Some models pass no keyword arguments to
    their attention, but all pass it the mask."""

    of_pack: Layout

    @classmethod
    def of(cls, layout: Layout) -> LayoutMask:
        mask = torch.zeros(1, 1, 1, 1, device=layout.device).as_subclass(cls)
        mask.of_pack = layout
        return mask

    def to(self, *args: Any, **kwargs: Any) -> LayoutMask:
        """Itself: it is already on the device of its pack, and its dtype has no meaning."""
        return self


def branch_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **asked: object
) -> tuple[Tensor, None]:
    """Attention over one pack. `query` [1, heads, T, d], `key`, `value` [1, kv heads, T, d]; returns [1, T, heads, d].

    Dropout is ignored: twofold trains without it. Raises `UnsupportedAttention` for what is not implemented.
    """
    layout = asked.pop("layout", None)
    if isinstance(attention_mask, LayoutMask):
        layout, attention_mask = attention_mask.of_pack, None
    if not isinstance(layout, Layout):
        raise UnsupportedAttention(LAYOUT_LOST)
    asked.pop("dropout", None)
    scale, softcap, window, sink_H = (asked.pop(k, None) for k in ("scaling", "softcap", "sliding_window", "s_aux"))
    refuse_unknown(module, attention_mask, asked)
    layout.calls += 1
    q, k, v = (_operand(x[0].transpose(0, 1)) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)  # type: ignore[arg-type]  # transformers hands a float
    window = int(window) if window else None  # type: ignore[call-overload]  # likewise an int
    cap = float(softcap) if softcap else None  # type: ignore[arg-type]  # likewise a float
    scores = Scores(scale, cap, window, sink_H)  # type: ignore[arg-type]  # likewise a tensor
    if on_gpu(q.device) and not softcap and sink_H is None and q.dtype in (torch.bfloat16, torch.float16):
        out = _varlen(q, k, v, layout, scale, window)
    elif q.dtype == torch.bfloat16 and q.device.type == "cpu" and sink_H is None:
        out = tiled_attention(q, k, v, layout, scores)
    else:
        out = _bucketed(q, k, v, layout, scores)
    return out.unsqueeze(0), None


def _operand(x: Tensor) -> Tensor:
    """`x` in autocast's dtype where autocast is on: rotary embeddings make queries and keys float32, but not values."""
    narrow = torch.is_autocast_enabled(x.device.type) and x.dtype == torch.float32
    return x.to(torch.get_autocast_dtype(x.device.type)) if narrow else x


def refuse_unknown(module: nn.Module, mask: Tensor | None, asked: dict[str, object]) -> None:
    """Raise `UnsupportedAttention` for a mask, and for arguments that change the result of causal attention."""
    if mask is not None:
        raise UnsupportedAttention("the model builds an attention mask of its own")
    if not getattr(module, "is_causal", True) or asked.pop("is_causal", None) is False:
        raise UnsupportedAttention("the attention is not causal")
    unknown = [k for k, v in asked.items() if k not in _HARMLESS and v is not None and v is not False]
    if unknown:
        raise UnsupportedAttention(f"the attention is asked for {', '.join(sorted(unknown))}")


class _ToBuckets(Function):
    """Stream rows [T, …] as padded rows [M, …]. Its backward pass gathers too; autograd's would scatter into zeros."""

    @staticmethod
    def forward(ctx: Any, stream: Tensor, route: Route) -> Tensor:
        ctx.route = route
        return stream.index_select(0, route.gather_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.route.summed(grads[0]), None


class _FromBuckets(Function):
    """Padded rows [M, …] in the order of the stream again, [T, …]; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, route: Route) -> Tensor:
        ctx.route = route
        return padded.index_select(0, route.inverse_T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        route = ctx.route
        return grads[0].index_select(0, route.gather_M).index_fill(0, route.padding, 0.0), None


def _bucketed(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scores: Scores) -> Tensor:
    """Outputs [T, heads, d], one call per bucket of segments."""
    queries = _ToBuckets.apply(q, layout.query_route)
    keys, values = (_ToBuckets.apply(x, layout.key_route) for x in (k, v))
    num_q = [b.query_position_NQ.numel() for b in layout.buckets]
    num_k = [b.key_position_NK.numel() for b in layout.buckets]
    parts = []
    for bucket, *rows in zip(layout.buckets, queries.split(num_q), keys.split(num_k), values.split(num_k), strict=True):
        size = len(bucket.query_position_NQ)
        q, k, v = (x.unflatten(0, (size, -1)).transpose(1, 2) for x in rows)
        out = _attend(q, k, v, bucket.mask(scores.window), scores)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return _FromBuckets.apply(torch.cat(parts), layout.query_route)  # type: ignore[no-any-return]  # apply is untyped


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scores: Scores) -> Tensor:
    """Outputs [N, heads, Q, d] of N segments; without a `mask` attention is causal."""
    if scores.softcap is not None or scores.sink_H is not None:
        return _plain(q, k, v, mask, scores)
    gqa = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scores.scale, enable_gqa=gqa
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scores: Scores) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    score = (q @ k.transpose(2, 3)) * scores.scale
    if scores.softcap is not None:
        score = torch.tanh(score / scores.softcap) * scores.softcap
    if mask is None:
        mask = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).tril()
    score = score.masked_fill(~mask, torch.finfo(score.dtype).min)
    wide = torch.promote_types(score.dtype, torch.float32)
    if scores.sink_H is not None:
        score = torch.cat([score, scores.sink_H.to(score.dtype).view(-1, 1, 1).expand(*score.shape[:3], 1)], -1)
    return torch.softmax(score, -1, dtype=wide)[..., : k.shape[2]].to(v.dtype) @ v


@cache
def _varlen_parameters() -> frozenset[str]:
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def _varlen(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, window: int | None) -> Tensor:
    """One call for the whole pack; keys and values of the prompt are gathered once per further branch."""
    from torch.nn.attention.varlen import varlen_attn

    known = _varlen_parameters()
    k, v = k.index_select(0, layout.key_K), v.index_select(0, layout.key_K)
    further: dict[str, object] = {"scale": scale}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in known:
            further["enable_gqa"] = True
        else:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    if "window_size" in known:
        further["window_size"] = ((window - 1) if window else -1, 0)
    elif window:
        raise UnsupportedAttention("this torch has no sliding window in variable-length attention")
    else:
        further["is_causal"] = True
    cu_q, cu_k, longest_q, longest_k = layout.lengths
    return varlen_attn(q.contiguous(), k, v, cu_q, cu_k, longest_q, longest_k, **further)  # type: ignore[return-value, arg-type]  # probed above


AttentionInterface.register(NAME, branch_attention)


def set_attention(model: PreTrainedModel, name: str | None) -> None:
    """Make `model` use the attention registered under `name`."""
    model.config._attn_implementation = name


def stock_name(model: PreTrainedModel) -> str:
    """The implementation that transformers would choose for `model`, over padded rows and key-value caches."""
    config = model.config.get_text_config()
    capped = getattr(config, "attn_logit_softcapping", None)  # only the eager path caps
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"


def stock_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Run `model` with its stock attention: padded rows, key-value caches. No gradient: recomputation would miss it."""
    return attention_of(model, stock_name(model))


@contextmanager
def attention_of(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Run `model` with the attention registered under `name`."""
    before = model.config._attn_implementation
    set_attention(model, name)
    try:
        yield
    finally:
        set_attention(model, before)
