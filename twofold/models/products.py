"""How products of matrices are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def is_narrow(device: torch.device) -> bool:
    """Whether products on `device` are asked for in bfloat16, which is autocast's word."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.bfloat16


@contextmanager
def bfloat16_products(narrow: bool = True) -> Iterator[None]:
    """Within it, if `narrow`, a processor takes products of float32 tensors in bfloat16 where it has units for that,
    and sums them in float32."""
    matmul = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]  # the module is a class at run time
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16" if narrow else before
        yield
    finally:
        matmul.fp32_precision = before
