"""Models whose layers compute attention in code of their own (GPT-J, CodeGen, GPT-Neo, Falcon, BLOOM, MPT): where the
`LayoutMask` of a pack arrives in the place of a mask, that code makes way for branch attention; for all else it is as
it was.

ALiBi (Press et al. 2022, arXiv:2108.12409) adds to a score what depends on the key's position alone, once a constant of
each query is left out, which softmax does not see. So it is a few more columns of queries and keys.
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
    """Let the layers of `model` know a `LayoutMask`, if they are of a kind that would not; whether they are."""
    kinds = {type(module) for module in model.modules() if type(module).__name__ in _KINDS}
    for kind in kinds - _open:
        for method, make in _KINDS[kind.__name__].items():
            setattr(kind, method, make(getattr(kind, method)))
        _open.add(kind)
    return bool(kinds)


def _scores_alone(original: Callable[..., Any]) -> Callable[..., Any]:
    """GPT-J and its kin: a method of its own takes queries, keys and values [1, heads, T, d]."""

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
    """Its ALiBi is made of a mask of tokens, and put into what would be the mask of a row."""

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
"""By class the methods that learn of a pack, and how."""


def _positions(mask: LayoutMask) -> Tensor:
    layout = mask.of_pack
    return layout.position_T.to(layout.device)


def _with_alibi(module: Any, heads: tuple[Tensor, ...], mask: LayoutMask, bias_HT: Tensor, scale: float) -> Tensor:
    """Outputs [1, T, heads · d] of queries, keys and values [1, heads, T, d] where a key has a bias: the sum of three
    columns, each of which bfloat16 can hold."""
    query, key, value = heads
    size = value.shape[-1]
    parts: list[Tensor] = []
    rest_HT = bias_HT.to(key.dtype)
    for _ in range(2):
        parts.append(rest_HT.bfloat16().to(key.dtype))
        rest_HT = rest_HT - parts[-1]
    none = [torch.zeros_like(rest_HT)] * (_COLUMNS - 3)
    bias = torch.stack([*parts, rest_HT, *none], -1)[None]
    key, value = (x.expand(-1, len(bias_HT), -1, -1) for x in (key, value))  # one of all heads has a bias of each
    key, value = torch.cat([key, bias], -1), torch.cat([value, torch.zeros_like(bias)], -1)
    query = torch.cat([query * scale, torch.ones_like(bias)], -1)
    out, _ = branch_attention(module, query, key, value, mask, scaling=1.0)
    return out[..., :size].flatten(2)
