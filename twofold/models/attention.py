"""Branch attention: every branch of a pack attends to its own prompt and to itself, and to nothing else.

One function stands in for a transformers model's attention while the model runs over a pack (`packing.Layout`).
On CUDA it is one variable-length call over gathered keys and values; elsewhere segments of similar length share one call.
A sliding window is exact because each segment is contiguous in position; soft-capping is applied to the scores.
What it does not implement it refuses, and the policy then runs unshared rows (`policy.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from twofold.models.packing import Bucket, Layout

NAME = "twofold_branches"

_HARMLESS = {"position_ids", "use_cache", "cache_position", "return_dict", "output_hidden_states", "logits_to_keep"}
_EAGER_BELOW = 256  # keys; on CPU in bfloat16 plain products beat the fused kernel on shorter segments


class UnsupportedAttention(Exception):
    """The model asks its attention for something that branch attention does not implement."""


def branch_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **asked: object
) -> tuple[Tensor, None]:
    """Attention over one pack. `query` [1, heads, T, d], `key`, `value` [1, kv heads, T, d]; returns [1, T, heads, d].

    Dropout is ignored: twofold trains without it. Raises `UnsupportedAttention` for what is not implemented.
    """
    layout = asked.pop("layout", None)
    if not isinstance(layout, Layout):
        raise UnsupportedAttention("the model does not hand its keyword arguments to the attention")
    asked.pop("dropout", None)
    scale, softcap, window = (asked.pop(k, None) for k in ("scaling", "softcap", "sliding_window"))
    _refuse_unknown(module, attention_mask, asked)
    layout.calls += 1
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)  # type: ignore[arg-type]  # transformers hands a float
    window = int(window) if window else None  # type: ignore[call-overload]  # likewise an int
    if q.is_cuda and not softcap and q.dtype in (torch.bfloat16, torch.float16):
        out = _varlen(q, k, v, layout, scale, window)
    else:
        cap = float(softcap) if softcap else None  # type: ignore[arg-type]  # likewise a float
        parts = [_bucket(q, k, v, b, b.mask(window), scale, cap) for b in layout.buckets]
        out = torch.cat(parts).index_select(0, layout.inverse_T)
    return out.unsqueeze(0), None


def _refuse_unknown(module: nn.Module, mask: Tensor | None, asked: dict[str, object]) -> None:
    if mask is not None:
        raise UnsupportedAttention("the model builds an attention mask of its own")
    if not getattr(module, "is_causal", True) or asked.pop("is_causal", None) is False:
        raise UnsupportedAttention("the attention is not causal")
    unknown = [k for k, v in asked.items() if k not in _HARMLESS and v is not None and v is not False]
    if unknown:
        raise UnsupportedAttention(f"the attention is asked for {', '.join(sorted(unknown))}")


def _bucket(q: Tensor, k: Tensor, v: Tensor, b: Bucket, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """Outputs [tokens, heads, d] of one bucket of segments, in the bucket's order."""
    queries = b.pick(q, b.query_NQ).transpose(1, 2)
    keys, values = (b.pick(x, b.key_NK).transpose(1, 2) for x in (k, v))
    short = queries.dtype == torch.bfloat16 and keys.shape[2] <= _EAGER_BELOW and not queries.is_cuda
    if softcap is not None or short:
        out = _plain(queries, keys, values, mask, scale, softcap)
    else:
        gqa = queries.shape[1] != keys.shape[1]
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=gqa
        )
    return out.transpose(1, 2)[b.valid_NQ] if len(b.query_NQ) > 1 else out[0].transpose(0, 1)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    score = (q @ k.transpose(2, 3)) * scale
    if softcap is not None:
        score = torch.tanh(score / softcap) * softcap
    if mask is None:
        mask = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).tril()
    score = score.masked_fill(~mask, torch.finfo(score.dtype).min)
    wide = torch.promote_types(score.dtype, torch.float32)
    return torch.softmax(score, -1, dtype=wide).to(v.dtype) @ v


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


def set_attention(model: PreTrainedModel, name: str) -> None:
    """Let `model` look its attention up under `name` from now on."""
    model.config._attn_implementation = name


def stock_name(model: PreTrainedModel) -> str:
    """The implementation that transformers would choose for `model`, over padded rows and key-value caches."""
    config = model.config.get_text_config()
    capped = getattr(config, "attn_logit_softcapping", None)  # only the eager path caps
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"


@contextmanager
def stock_attention(model: PreTrainedModel) -> Iterator[None]:
    """Run `model` with its stock attention: padded rows, key-value caches. Without gradient, or recomputation would miss it."""
    before = model.config._attn_implementation
    set_attention(model, stock_name(model))
    try:
        yield
    finally:
        set_attention(model, before)
