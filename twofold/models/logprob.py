"""Log-probabilities of chosen tokens from hidden states, without ever holding [S, V] logits.

Rows are scored in chunks; only each row's log-normalizer is kept and the logits are made again in the backward pass. Logits and
results are float32 (float64 for float64 models), whatever the input: summed over a completion, bfloat16 logits cost half a nat.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_CHUNK_ENTRIES = {"cpu": 2**22, "cuda": 2**28}  # logits held at once


def token_logps(
    hidden_SH: Tensor, weight_VH: Tensor, target_S: Tensor, bias_V: Tensor | None = None, softcap: float | None = None
) -> Tensor:
    """log softmax(hidden @ weightᵀ + bias)[target], [S]; `softcap` c bounds the logits as c·tanh(logits / c).

    On CUDA under autocast the products are taken in autocast's dtype and accumulated in float32.
    """
    device = hidden_SH.device.type
    if device == "cuda" and torch.is_autocast_enabled(device):
        hidden_SH = hidden_SH.to(torch.get_autocast_dtype(device))
    return _TokenLogps.apply(hidden_SH, weight_VH, target_S, bias_V, softcap)  # type: ignore[no-any-return]  # torch's apply is untyped


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None) -> Tensor:
    wide = torch.promote_types(hidden.dtype, torch.float32)
    if hidden.is_cuda and hidden.dtype != wide:
        z = torch.mm(hidden, weight.to(hidden.dtype).t(), out_dtype=wide)
    else:
        z = hidden.to(wide) @ weight.to(wide).t()
    if bias is not None:
        z += bias.to(wide)
    return z if softcap is None else (z / softcap).tanh_().mul_(softcap)


def _chunk_rows(hidden: Tensor, vocabulary: int) -> int:
    entries = _CHUNK_ENTRIES.get(hidden.device.type, _CHUNK_ENTRIES["cuda"])
    return max(64, entries // vocabulary)


class _TokenLogps(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, softcap: float | None
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logp = torch.empty(len(target), dtype=wide, device=hidden.device)
        normalizer = torch.empty_like(logp)
        rows = _chunk_rows(hidden, len(weight))
        with torch.autocast(hidden.device.type, enabled=False):
            for at in range(0, len(target), rows):
                cut = slice(at, at + rows)
                z = _logits(hidden[cut], weight, bias, softcap)
                normalizer[cut] = torch.logsumexp(z, -1)
                logp[cut] = z.gather(1, target[cut, None]).squeeze(1) - normalizer[cut]
        ctx.save_for_backward(hidden, weight, target, bias, normalizer, logp)
        ctx.softcap = softcap
        return logp

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None]:
        hidden, weight, target, bias, normalizer, logp = ctx.saved_tensors
        needs_hidden, needs_weight, _, needs_bias, _ = ctx.needs_input_grad
        wide = normalizer.dtype
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        d_bias = torch.zeros_like(bias, dtype=wide) if needs_bias else None
        rows = _chunk_rows(hidden, len(weight))
        with torch.autocast(hidden.device.type, enabled=False):
            for at in range(0, len(target), rows):
                cut = slice(at, at + rows)
                dz = _d_logits(ctx, cut, grads[0][cut, None].to(wide))
                if hidden.is_cuda and hidden.dtype != wide:
                    dz = dz.to(hidden.dtype)
                if d_hidden is not None:
                    d_hidden[cut] = (dz @ weight.to(dz.dtype)).to(hidden.dtype)
                if d_weight is not None:
                    _accumulate(d_weight, dz, hidden[cut])
                if d_bias is not None:
                    d_bias += dz.sum(0, dtype=wide)
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None,
            None if d_bias is None or bias is None else d_bias.to(bias.dtype),
            None,
        )


def _d_logits(ctx: Any, cut: slice, grad: Tensor) -> Tensor:
    """grad · (onehot − softmax) for one chunk; the target's entry is −expm1(logp), which does not cancel."""
    hidden, weight, target, bias, normalizer, logp = ctx.saved_tensors  # in forward's order
    z = _logits(hidden[cut], weight, bias, ctx.softcap)
    slope = None if ctx.softcap is None else 1 - (z / ctx.softcap).square()
    dz = z.sub_(normalizer[cut, None]).exp_().mul_(-grad)
    dz.scatter_(1, target[cut, None], -torch.expm1(logp[cut, None]) * grad)
    return dz if slope is None else dz.mul_(slope)


def _accumulate(total_VH: Tensor, dz: Tensor, hidden: Tensor) -> None:
    if dz.dtype == total_VH.dtype:
        total_VH.addmm_(dz.t(), hidden.to(dz.dtype))
    else:
        total_VH += torch.mm(dz.t(), hidden, out_dtype=total_VH.dtype)
