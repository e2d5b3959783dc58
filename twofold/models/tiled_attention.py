"""Branch attention in bfloat16 on a CPU, tile by tile: products in bfloat16, scores and sums in float32.

On a CPU the backward pass of torch's fused kernel takes seven times as long as its forward pass. A tile is a few
segments, or some queries of a long segment, so that its scores fit the CPU's cache. The backward pass recomputes the
scores; only those of one tile are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from twofold.models.packing import Bucket, Layout
from twofold.models.products import bfloat16_products

_SCORES = 300_000  # of a tile, all heads together
_STRETCH = 64  # queries of a long segment in a tile, at least
_UNSEEN = -1e30  # finite: a padding query may see nothing


@dataclass(frozen=True)
class Scores:
    """How scores are computed from queries and keys."""

    scale: float
    softcap: float | None
    window: int | None
    sink_H: Tensor | None = None
    """An additional score per head, for a key with value 0 (attention sink). Tiles do not support it."""


@dataclass(frozen=True)
class _Tile:
    """The rows of `num` segments among the layout's padded queries and keys, and the bias of their scores."""

    query: slice
    key: slice
    num: int
    bias: Tensor


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scores: Scores) -> Tensor:
    """Outputs [T, heads, d] of queries [T, heads, d] and keys and values [T, kv heads, d]."""
    return _TiledAttention.apply(q, k, v, layout, scores)  # type: ignore[no-any-return]  # torch's apply is untyped


class _TiledAttention(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scores: Scores) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.layout, ctx.scores = layout, scores
        queries, keys, values = _padded(q, k, v, layout)
        out = torch.empty_like(queries)
        with bfloat16_products(), torch.autocast("cpu", enabled=False):
            for tile in _tiles(layout, scores.window, q.shape[1]):
                part = _Part(queries, keys, values, tile, scores)
                part.put(part.weights() @ part.v, out[tile.query])
        return out.index_select(0, layout.query_route.inverse_T)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]  # the decorator's type loses the parameters' kinds
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v = ctx.saved_tensors
        layout, scores, route = ctx.layout, ctx.scores, ctx.layout.query_route
        queries, keys, values = _padded(q, k, v, layout)
        d_out = grads[0].index_select(0, route.gather_M).index_fill_(0, route.padding, 0.0)
        d_queries = torch.empty_like(queries)
        d_keys, d_values = (torch.zeros_like(x, dtype=torch.float32) for x in (keys, values))
        with bfloat16_products(), torch.autocast("cpu", enabled=False):
            for tile in _tiles(layout, scores.window, q.shape[1]):
                part = _Part(queries, keys, values, tile, scores)
                weight, d_part = part.weights(), part.grouped(d_out[tile.query])
                d_values[tile.key].add_(part.key_rows(weight.mT @ d_part))
                d_score = part.d_scores(d_part @ part.v.mT, weight)
                part.put((d_score @ part.k).mul_(scores.scale), d_queries[tile.query])
                d_keys[tile.key].add_(part.key_rows(d_score.mT @ part.q))
        d_k, d_v = (layout.key_route.summed(x).to(k.dtype) for x in (d_keys, d_values))
        return d_queries.index_select(0, route.inverse_T), d_k, d_v, None, None


def _wide(x: Tensor) -> Tensor:
    """A copy in float32 without gaps, in one pass."""
    return torch.empty(x.shape, dtype=torch.float32).copy_(x)


def _padded(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of the layout's buckets, one after the other."""
    gather_M = layout.key_route.gather_M
    return q.index_select(0, layout.query_route.gather_M), k.index_select(0, gather_M), v.index_select(0, gather_M)


class _Part:
    """The operands of one tile in float32: queries [n·kv heads, q heads of each·Q, d], scaled; keys and values
    [n·kv heads, K, d]."""

    def __init__(self, queries: Tensor, keys: Tensor, values: Tensor, tile: _Tile, scores: Scores) -> None:
        self.num, self.groups, self.tile, self.softcap = tile.num, keys.shape[1], tile, scores.softcap
        self.q = self.grouped(queries[tile.query]).mul_(scores.scale)
        self.k, self.v = (
            _wide(x[tile.key].unflatten(0, (self.num, -1)).transpose(1, 2)).flatten(0, 1) for x in (keys, values)
        )

    def grouped(self, rows: Tensor) -> Tensor:
        """Rows [n·Q, heads, d] by the head of their keys, as a copy in float32."""
        by_head = rows.unflatten(0, (self.num, -1)).unflatten(2, (self.groups, -1)).permute(0, 2, 3, 1, 4)
        return _wide(by_head).flatten(2, 3).flatten(0, 1)

    def put(self, grouped: Tensor, rows: Tensor) -> None:
        """Write what `grouped` would make of `rows` [n·Q, heads, d] back into them."""
        by_head = grouped.unflatten(0, (self.num, self.groups)).unflatten(2, (-1, self.tile.bias.shape[2]))
        rows.unflatten(0, (self.num, -1)).copy_(by_head.permute(0, 3, 1, 2, 4).flatten(2, 3))

    def key_rows(self, grouped: Tensor) -> Tensor:
        """Rows [n·K, kv heads, d] of a tensor in the layout of `k`."""
        return grouped.unflatten(0, (self.num, -1)).transpose(1, 2).flatten(0, 1)

    def weights(self) -> Tensor:
        """The attention weight of each key for each query."""
        score = self.q @ self.k.mT
        if self.softcap is not None:
            score = score.div_(self.softcap).tanh_().mul_(self.softcap)
            self.slope = 1 - (score / self.softcap).square()
        score.view(self.num, -1, *self.tile.bias.shape[2:]).add_(self.tile.bias)
        return torch.softmax(score, -1)

    def d_scores(self, d_weight: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the scores, from that of the weights."""
        d_score = torch.ops.aten._softmax_backward_data(d_weight, weight, -1, torch.float32)
        return d_score if self.softcap is None else d_score.mul_(self.slope)


def _tiles(layout: Layout, window: int | None, heads: int) -> list[_Tile]:
    """The tiles of a layout; the first layer creates them for all."""
    known = layout.tiles
    if (window, heads) not in known:
        known[window, heads] = list(_cut(layout.buckets, window, heads))
    return known[window, heads]  # pyright: ignore[reportReturnType]  # only this module writes there


def _cut(buckets: list[Bucket], window: int | None, heads: int) -> Iterator[_Tile]:
    first_query = first_key = 0
    for bucket in buckets:
        position_NQ, position_NK = bucket.query_position_NQ, bucket.key_position_NK
        (num, num_q), num_k = position_NQ.shape, position_NK.shape[1]
        most = max(1, _SCORES // (heads * num_q * num_k))
        stretch = num_q if num_q * num_k * heads <= _SCORES else max(_STRETCH, _SCORES // (heads * num_k))
        for n in range(0, num, most):
            for at in range(0, num_q, stretch):
                q = position_NQ[n : n + most, at : at + stretch]
                low, high = (0, num_k) if len(q) > 1 else _seen(q, window)
                bias = _bias(q, position_NK[n : n + most, low:high], window)
                query, key = first_query + n * num_q + at, first_key + n * num_k
                keys = slice(key + low, key + high) if len(q) == 1 else slice(key, key + q.shape[0] * num_k)
                yield _Tile(slice(query, query + q.numel()), keys, len(q), bias)
        first_query, first_key = first_query + position_NQ.numel(), first_key + position_NK.numel()


def _seen(position_1Q: Tensor, window: int | None) -> tuple[int, int]:
    """The range of keys that these queries of one segment see. A segment's keys are in the order of their positions."""
    low = 0 if window is None else max(0, int(position_1Q.min()) - window + 1)
    return low, int(position_1Q.max()) + 1


def _bias(position_NQ: Tensor, position_NK: Tensor, window: int | None) -> Tensor:
    """[N, 1, Q, K]: 0 where a query sees a key."""
    q, k = position_NQ[:, None, :, None], position_NK[:, None, None, :]
    unseen = k > q
    if window is not None:
        unseen |= q - k >= window
    return unseen.float().mul_(_UNSEEN)
