"""Models whose layers compute attention in their own code (GPT-J, CodeGen, GPT-Neo, Falcon, BLOOM, MPT). If the mask is
the `LayoutMask` of a pack, branch attention replaces that code. For any other mask the code is unchanged.

ALiBi (Press et al. 2022, arXiv:2108.12409) adds a bias to each score. Softmax ignores a constant per query; without it,
the bias depends only on the key's position. So ALiBi is a few more columns of queries and keys.
Shapes: T tokens in a pack, d units of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from twofold.models.attention import LayoutMask, UnsupportedAttention, branch_attention

_COLUMNS = 8  # kernels want a multiple
_open: set[type] = set()


def open_attention(model: PreTrainedModel) -> bool:
    """Patch the layers of `model` for `LayoutMask` if they have their own attention code; whether they have."""
    kinds = {type(module) for module in model.modules() if type(module).__name__ in _KINDS}
    for kind in kinds - _open:
        for method, make in _KINDS[kind.__name__].items():
            setattr(kind, method, make(getattr(kind, method)))
        _open.add(kind)
    return bool(kinds)


def _scores_alone(original: Callable[..., Any]) -> Callable[..., Any]:
    """For GPT-J and similar models, whose own method takes queries, keys and values [1, heads, T, d]."""

    @wraps(original)
    def attend(self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Any:
        if not isinstance(attention_mask, LayoutMask):
            return original(self, query, key, value, attention_mask)
        how: dict[str, Any] = {"scaling": 1 / float(getattr(self, "scale_attn", 1))}
        if getattr(self, "attention_type", "") == "local":
            how["sliding_window"] = self.config.window_size
        query, key = query.to(value.dtype), key.to(value.dtype)
        out, _ = branch_attention(self, query, key, value, attention_mask, **how)
        return out.transpose(1, 2), None

    return attend


def _bloom(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def forward(self: Any, hidden_states: Tensor, residual: Tensor, **how: Any) -> Any:
        mask = how["attention_mask"]
        if not isinstance(mask, LayoutMask):
            return original(self, hidden_states, residual, **how)
        if self.pretraining_tp > 1 and self.slow_but_exact:
            raise UnsupportedAttention("its products are summed in slices")
        heads = self._reshape(self.query_key_value(hidden_states))
        out = _with_alibi(self, heads, mask, how["alibi"][:, 0], self.inv_norm_factor)
        return residual + self.dense(out), None

    return forward


def _bloom_alibi(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def build(self: Any, attention_mask: Tensor, num_heads: int, dtype: torch.dtype) -> Tensor:
        if not isinstance(attention_mask, LayoutMask):
            return original(self, attention_mask, num_heads, dtype)
        position_T = _positions(attention_mask)
        row = torch.ones(1, int(position_T.max()) + 1, dtype=torch.int64, device=position_T.device)
        return original(self, row, num_heads, dtype)[:, :, position_T]

    return build


def _mpt(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def forward(self: Any, hidden_states: Tensor, position_bias: Tensor, *args: Any, **how: Any) -> Any:
        mask = how.get("attention_mask")
        if not isinstance(mask, LayoutMask):
            return original(self, hidden_states, position_bias, *args, **how)
        mixed = self.Wqkv(hidden_states)
        if self.clip_qkv:
            mixed = mixed.clamp(-self.clip_qkv, self.clip_qkv)
        heads = tuple(x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in mixed.chunk(3, -1))
        out = _with_alibi(self, heads, mask, position_bias[:, 0, _positions(mask)], self.softmax_scale)
        return self.out_proj(out), None

    return forward


def _falcon(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def forward(self: Any, hidden_states: Tensor, **how: Any) -> Any:
        mask = how["attention_mask"]
        if not isinstance(mask, LayoutMask):
            return original(self, hidden_states, **how)
        code: Any = sys.modules[type(self).__module__]
        q, k, v = (x.transpose(1, 2) for x in self._split_heads(self.query_key_value(hidden_states)))
        if not self.config.alibi:
            q, k = code.apply_rotary_pos_emb(q, k, *how["position_embeddings"])
            out, _ = branch_attention(self, q, k, v, mask, scaling=self.inv_norm_factor)
            return self.dense(out.flatten(2)), None
        position_T = _positions(mask)
        row = torch.ones(1, int(position_T.max()) + 1, dtype=torch.int64, device=position_T.device)
        alibi = code.build_alibi_tensor(row, self.num_heads, hidden_states.dtype)[:, 0, position_T]
        return self.dense(_with_alibi(self, (q, k, v), mask, alibi * self.inv_norm_factor, self.inv_norm_factor)), None

    return forward


def _falcon_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """Falcon adds ALiBi to the mask itself; a `LayoutMask` must arrive unchanged."""

    @wraps(original)
    def forward(self: Any, *args: Any, **how: Any) -> Any:
        if not (self.use_alibi and isinstance(how.get("attention_mask"), LayoutMask)):
            return original(self, *args, **how)
        self.use_alibi = False
        try:
            return original(self, *args, **how)
        finally:
            self.use_alibi = True

    return forward


_KINDS: dict[str, dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "GPTJAttention": {"_attn": _scores_alone},
    "CodeGenAttention": {"_attn": _scores_alone},
    "GPTNeoSelfAttention": {"_attn": _scores_alone},
    "BloomAttention": {"forward": _bloom},
    "BloomModel": {"build_alibi_tensor": _bloom_alibi},
    "MptAttention": {"forward": _mpt},
    "FalconAttention": {"forward": _falcon},
    "FalconModel": {"forward": _falcon_model},
}
"""For each class, the methods to patch, and their wrappers."""


def _positions(mask: LayoutMask) -> Tensor:
    layout = mask.of_pack
    return layout.position_T.to(layout.device)


def _with_alibi(module: Any, heads: tuple[Tensor, ...], mask: LayoutMask, bias_HT: Tensor, scale: float) -> Tensor:
    """Outputs [1, T, heads · d] of queries, keys and values [1, heads, T, d] with a bias for each key. The bias is the
    sum of three columns, each of which is exact in bfloat16."""
    query, key, value = heads
    size = value.shape[-1]
    parts: list[Tensor] = []
    rest_HT = bias_HT.to(key.dtype)
    for _ in range(2):
        parts.append(rest_HT.bfloat16().to(key.dtype))
        rest_HT = rest_HT - parts[-1]
    none = [torch.zeros_like(rest_HT)] * (_COLUMNS - 3)
    bias = torch.stack([*parts, rest_HT, *none], -1)[None]
    key, value = (x.expand(-1, len(bias_HT), -1, -1) for x in (key, value))  # shared keys: one bias per head
    key, value = torch.cat([key, bias], -1), torch.cat([value, torch.zeros_like(bias)], -1)
    query = torch.cat([query * scale, torch.ones_like(bias)], -1)
    out, _ = branch_attention(module, query, key, value, mask, scaling=1.0)
    return out[..., :size].flatten(2)
