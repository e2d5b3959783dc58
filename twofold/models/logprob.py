"""Log-probabilities of given tokens from hidden states, without storing [S, V] logits.

The vocabulary is processed in tiles that fit a CPU's cache, and the weight gradient of each is finished before the
next. Only the log-normalizer of each row is stored; the backward pass recomputes the logits. Logits and results are
float32 (float64 for float64 models) for any input: with bfloat16 logits, the sum over a completion is off by half a
nat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from twofold.models.planned import on_gpu
from twofold.models.products import bfloat16_products, is_narrow

TILE = {
    "cpu": (2048, 1024),
    "cuda": (8192, 32768),
}  # rows, and columns of the vocabulary, whose logits are held at once


TOP = 20
"""Tokens among which `top_entropy` is taken, as EAFT has it (arXiv:2601.02151)."""


def token_logps(
    hidden_SH: Tensor, weight_VH: Tensor, target_S: Tensor, bias_V: Tensor | None = None, softcap: float | None = None
) -> Tensor:
    """log softmax(hidden @ weightᵀ + bias)[target], [S]; `softcap` c bounds the logits as c·tanh(logits / c).

    Under autocast the products are taken in its dtype and accumulated in float32.
    """
    how = _How(softcap, is_narrow(hidden_SH.device))
    return _TokenLogps.apply(_operand(hidden_SH), weight_VH, target_S, bias_V, how)  # type: ignore[no-any-return]  # torch's apply is untyped


def token_entropies(
    hidden_SH: Tensor, weight_VH: Tensor, bias_V: Tensor | None = None, softcap: float | None = None
) -> Tensor:
    """−Σ π·log π [S] of softmax(hidden @ weightᵀ + bias), nats, with gradient; precision as in `token_logps`."""
    how = _How(softcap, is_narrow(hidden_SH.device))
    return _TokenEntropies.apply(_operand(hidden_SH), weight_VH, bias_V, how)  # type: ignore[no-any-return]  # torch's apply is untyped


@torch.no_grad()
def token_statistics(
    hidden_SH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    *,
    top: bool = False,
) -> dict[str, Tensor]:
    """As `statistics_of`, from hidden states, without storing [S, V] logits; without gradient. `top_entropy` is only
    computed with `top`, because it searches for the likeliest tokens."""
    how = _How(softcap, is_narrow(hidden_SH.device))
    hidden_SH = _operand(hidden_SH)
    with how.products(hidden_SH):
        head = _Head(hidden_SH, weight_VH, _nowhere(hidden_SH), bias_V, how)
        total = hidden_SH.new_zeros(len(hidden_SH), 1, dtype=head.wide)
        squares, largest = torch.zeros_like(total), torch.full_like(total, torch.finfo(head.wide).min)
        most = total.new_empty(len(total), 0)
        for cut, stretch in head.columns():
            found = list[Tensor]()
            for tile in head.tiles(cut, stretch):
                if top:
                    found.append(_most(torch.cat([most[tile.rows], tile.z], 1)))
                before = largest[tile.rows]
                now = torch.maximum(before, tile.z.amax(-1, keepdim=True))
                fade = (before - now).exp_()
                part = tile.z.sub_(now).exp_()
                total[tile.rows] = total[tile.rows] * fade + part.sum(-1, keepdim=True)
                squares[tile.rows] = squares[tile.rows] * fade.square_() + part.square_().sum(-1, keepdim=True)
                largest[tile.rows] = now
            most = torch.cat(found) if found else most
        normalizer = total.log_().squeeze(1)
        found_of_all = {"log_collision": squares.log_().squeeze(1) - 2 * normalizer, "log_greedy": -normalizer}
        return found_of_all | ({"top_entropy": _entropy(most)} if top else {})


def statistics_of(logits_SV: Tensor) -> dict[str, Tensor]:
    """Statistics [S] of the distribution π of each row of logits: `log_collision`, log Σ π² (the probability that two
    samples agree), `log_greedy`, log max π, and `top_entropy`, the entropy (nats) of π among its `TOP` likeliest
    tokens."""
    logp_SV = logits_SV.log_softmax(-1)
    return {
        "log_collision": (2 * logp_SV).logsumexp(-1),
        "log_greedy": logp_SV.amax(-1),
        "top_entropy": _entropy(_most(logits_SV)),
    }


def entropies_of(logits_SV: Tensor) -> Tensor:
    """−Σ π·log π [S] of each row of logits, nats, with gradient."""
    return _entropy(logits_SV)


def _most(logits_SV: Tensor) -> Tensor:
    return logits_SV.topk(min(TOP, logits_SV.shape[1])).values


def _entropy(logits_SV: Tensor) -> Tensor:
    logp_SV = logits_SV.log_softmax(-1)
    return -(logp_SV.exp() * logp_SV).sum(-1)


def _operand(hidden: Tensor) -> Tensor:
    """Hidden states in the dtype of their products."""
    device = hidden.device.type
    if on_gpu(hidden.device) and torch.is_autocast_enabled(device):
        return hidden.to(torch.get_autocast_dtype(device))
    return hidden


@dataclass(frozen=True)
class _How:
    """The bound of the logits, and whether products are taken in bfloat16."""

    softcap: float | None
    narrow: bool

    @contextmanager
    def products(self, hidden: Tensor) -> Iterator[None]:
        """Set the precision of products inside the context, the same in the forward and the backward pass."""
        with torch.autocast(hidden.device.type, enabled=False), bfloat16_products(self.narrow):
            yield


@dataclass(frozen=True)
class _Tile:
    """Logits [rows, columns] of one tile, and the columns of the rows' targets; `inside` marks targets in this tile."""

    rows: slice
    z: Tensor
    place: Tensor
    inside: Tensor


class _Head:
    """The head's operands in the dtype of their products, and its logits tile by tile."""

    def __init__(self, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, how: _How) -> None:
        self.wide = torch.promote_types(hidden.dtype, torch.float32)
        self.hidden = hidden if on_gpu(hidden.device) else hidden.to(self.wide)
        self.weight, self.bias, self.target, self.softcap = weight, bias, target, how.softcap
        rows, columns = TILE["cpu"] if hidden.device.type == "cpu" and not on_gpu(hidden.device) else TILE["cuda"]
        self.num_rows = max(1, min(rows, len(hidden)))
        self.num_columns = max(columns, rows * columns // (2 * self.num_rows))
        size = self.num_rows * min(self.num_columns, len(weight)) if self.hidden.dtype == self.wide else 0
        self.scratch = hidden.new_empty(size, dtype=self.wide)  # narrow products make their own result

    def columns(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the vocabulary with their weights [columns, H]."""
        for at in range(0, len(self.weight), self.num_columns):
            cut = slice(at, min(at + self.num_columns, len(self.weight)))
            yield cut, self.weight[cut].to(self.hidden.dtype)

    def tiles(self, cut: slice, weight: Tensor) -> Iterator[_Tile]:
        """The logits of every row over one slice. A tile is overwritten by the next one."""
        for at in range(0, len(self.hidden), self.num_rows):
            rows = slice(at, min(at + self.num_rows, len(self.hidden)))
            z = self._product(self.hidden[rows], weight)
            if self.bias is not None:
                z += self.bias[cut].to(self.wide)
            if self.softcap is not None:
                z.div_(self.softcap).tanh_().mul_(self.softcap)
            place = self.target[rows, None] - cut.start
            inside = (place >= 0) & (place < z.shape[1])
            yield _Tile(rows, z, place.clamp_(0, z.shape[1] - 1), inside)

    def _product(self, hidden: Tensor, weight: Tensor) -> Tensor:
        if hidden.dtype != self.wide:
            return torch.mm(hidden, weight.t(), out_dtype=self.wide)
        size = len(hidden), len(weight)
        return torch.mm(hidden, weight.t(), out=self.scratch[: size[0] * size[1]].view(size))


class _TokenLogps(Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, how: _How) -> Tensor:
        with how.products(hidden):
            head = _Head(hidden, weight, target, bias, how)
            chosen = hidden.new_zeros(len(target), 1, dtype=head.wide)
            largest, total = torch.full_like(chosen, torch.finfo(head.wide).min), torch.zeros_like(chosen)
            for cut, stretch in head.columns():
                for tile in head.tiles(cut, stretch):
                    before = largest[tile.rows]
                    chosen[tile.rows] = torch.where(tile.inside, tile.z.gather(1, tile.place), chosen[tile.rows])
                    now = torch.maximum(before, tile.z.amax(-1, keepdim=True))
                    total[tile.rows] *= (before - now).exp_()
                    total[tile.rows] += tile.z.sub_(now).exp_().sum(-1, keepdim=True)
                    largest[tile.rows] = now
            normalizer = total.log_().add_(largest)
            logp = chosen.sub_(normalizer).squeeze(1)
        ctx.save_for_backward(hidden, weight, target, bias, normalizer, logp)
        ctx.how = how
        return logp

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]  # the decorator's type loses the parameters' kinds
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None]:
        hidden, weight, target, bias, normalizer, logp = ctx.saved_tensors
        needs = ctx.needs_input_grad
        with ctx.how.products(hidden):
            head = _Head(hidden, weight, target, bias, ctx.how)
            grad = grads[0].to(head.wide).unsqueeze(1)
            at_target = -torch.expm1(logp).unsqueeze(1) * grad  # 1 − p: exact where p is near 0 or 1 in logp

            def d_logits(tile: _Tile) -> Tensor:
                rows = tile.rows
                return _d_logps(tile, normalizer[rows], grad[rows], at_target[rows])

            found = _backward(head, d_logits, hidden, (needs[0], needs[1], needs[3]))
        return found[0], found[1], None, found[2], None


class _TokenEntropies(Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
        with how.products(hidden):
            head = _Head(hidden, weight, _nowhere(hidden), bias, how)
            total = hidden.new_zeros(len(hidden), 1, dtype=head.wide)
            largest, depth = torch.full_like(total, torch.finfo(head.wide).min), torch.zeros_like(total)
            for cut, stretch in head.columns():
                for tile in head.tiles(cut, stretch):
                    rows, before = tile.rows, largest[tile.rows]
                    now = torch.maximum(before, tile.z.amax(-1, keepdim=True))
                    below, fade = tile.z.sub_(now), (before - now).exp()
                    part = below.exp()
                    moved = depth[rows] + (before - now) * total[rows]
                    depth[rows] = fade * moved + (part * below).sum(-1, keepdim=True)
                    total[rows] = fade * total[rows] + part.sum(-1, keepdim=True)
                    largest[rows] = now
            entropy = (total.log() - depth / total).squeeze(1)
        ctx.save_for_backward(hidden, weight, bias, total.log_().add_(largest), entropy)
        ctx.how = how
        return entropy

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]  # the decorator's type loses the parameters' kinds
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        hidden, weight, bias, normalizer, entropy = ctx.saved_tensors
        with ctx.how.products(hidden):
            head = _Head(hidden, weight, _nowhere(hidden), bias, ctx.how)
            grad, entropy = grads[0].to(head.wide).unsqueeze(1), entropy.unsqueeze(1)

            def d_logits(tile: _Tile) -> Tensor:
                """−π·(log π + H)·grad."""
                logp = tile.z.sub_(normalizer[tile.rows])
                return logp.exp().mul_(logp.add_(entropy[tile.rows])).mul_(-grad[tile.rows])

            return *_backward(head, d_logits, hidden, ctx.needs_input_grad[:3]), None


def _nowhere(hidden: Tensor) -> Tensor:
    """Targets [S] for what depends on no token."""
    return torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)


def _backward(
    head: _Head, d_logits: Callable[[_Tile], Tensor], hidden: Tensor, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of hidden states, weights and bias, where needed, from those of the logits of each tile."""
    needs_hidden, needs_weight, needs_bias = needs
    weight, bias = head.weight, head.bias
    d_hidden = torch.zeros_like(hidden, dtype=head.wide) if needs_hidden else None
    d_weight = torch.empty_like(weight) if needs_weight else None
    d_bias = torch.empty_like(bias) if needs_bias and bias is not None else None
    for cut, stretch in head.columns():
        d_stretch = torch.zeros_like(stretch, dtype=head.wide) if needs_weight else None
        d_shift = torch.zeros(len(stretch), dtype=head.wide, device=hidden.device) if needs_bias else None
        for tile in head.tiles(cut, stretch):
            slope = None if head.softcap is None else 1 - (tile.z / head.softcap).square()
            dz = d_logits(tile)
            dz = (dz if slope is None else dz.mul_(slope)).to(head.hidden.dtype)
            if d_hidden is not None:
                _accumulate(d_hidden[tile.rows], dz, stretch)
            if d_stretch is not None:
                _accumulate(d_stretch, dz.t(), head.hidden[tile.rows])
            if d_shift is not None:
                d_shift += dz.sum(0, dtype=head.wide)
        if d_weight is not None and d_stretch is not None:
            d_weight[cut] = d_stretch
        if d_bias is not None and d_shift is not None:
            d_bias[cut] = d_shift
    return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, d_bias


def _d_logps(tile: _Tile, normalizer: Tensor, grad: Tensor, at_target: Tensor) -> Tensor:
    """grad · (onehot − softmax) for one tile; overwrites its logits."""
    dz = tile.z.sub_(normalizer).exp_().mul_(-grad)
    return dz.scatter_(1, tile.place, torch.where(tile.inside, at_target, dz.gather(1, tile.place)))


def _accumulate(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, in the total's precision."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += torch.mm(a, b, out_dtype=total.dtype)
