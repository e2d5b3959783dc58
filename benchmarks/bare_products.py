"""What a step's matrix products cost by themselves: the share of a step that could not be saved."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.models.logprob import TILE


def bare_seconds(model: PreTrainedModel, tokens: int, scored: int, dtype: torch.dtype) -> float:
    """Processor seconds of a step's products in `dtype`, each by itself: of every linear layer on `tokens` rows the
    forward pass and both gradients; of the head on `scored` rows those and the logits again, in its tiles."""
    head = cast("Any", model).get_output_embeddings()
    shapes = Counter(tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    total = sum(count * sum(_products(tokens, out, into, dtype)) for (out, into), count in shapes.items())
    vocabulary, hidden = head.weight.shape
    most, least = TILE["cpu"]
    columns = min(vocabulary, max(least, most * least // (2 * min(scored, most))))
    forward, d_hidden, d_weight = _products(scored, columns, hidden, dtype)
    return total + vocabulary / columns * (2 * forward + d_hidden + d_weight)


def _products(rows: int, out: int, inner: int, dtype: torch.dtype) -> tuple[float, float, float]:
    """x Wᵀ, g W, gᵀ x."""
    x, weight, grad = (torch.randn(*shape).to(dtype) for shape in ((rows, inner), (out, inner), (rows, out)))
    calls: tuple[Callable[[], Tensor], ...] = (lambda: x @ weight.t(), lambda: grad @ weight, lambda: grad.t() @ x)
    return _best(calls[0]), _best(calls[1]), _best(calls[2])


def _best(call: Callable[[], Tensor], repeats: int = 3) -> float:
    call()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best
