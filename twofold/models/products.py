"""The precision of matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def is_narrow(device: torch.device) -> bool:
    """Whether autocast is on for `device` with bfloat16."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.bfloat16


@contextmanager
def bfloat16_products(narrow: bool = True) -> Iterator[None]:
    """Inside the context, if `narrow`, a CPU with AMX multiplies float32 matrices in bfloat16 and sums in float32. One
    that has bfloat16 units but no AMX still multiplies them in float32."""
    matmul = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]  # the module is a class at run time
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16" if narrow else before
        yield
    finally:
        matmul.fp32_precision = before
