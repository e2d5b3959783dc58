"""The products that a step cannot do without, and the real pairs that it trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import bare_products, pairs
from support import tiny


class Products(TorchDispatchMode):
    """The shapes of every product of two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[tuple[int, ...], ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            self.shapes.add(tuple(tuple(x.shape) for x in args))
        return func(*args, **(kwargs or {}))


def test_every_matrix_meets_its_rows_and_the_head_the_scored_ones() -> None:
    """Layers of 32, 16 and 40 units on 7 rows, a head of 61 tokens on 3: forward and both gradients."""
    with Products() as products:
        seconds = bare_products.bare_seconds(tiny.llama(), tokens=7, scored=3, dtype=torch.bfloat16)
    assert seconds > 0
    layers = [(32, 32), (16, 32), (40, 32), (32, 40)]
    expected = {((7, i), (i, o)) for o, i in layers} | {((7, o), (o, i)) for o, i in layers}
    expected |= {((o, 7), (7, i)) for o, i in layers}
    assert expected < products.shapes
    assert {rows[0] for rows, _ in products.shapes - expected if rows[0] < 7} == {3}


def test_real_pairs_share_their_prompt_and_stop(tmp_path: Path) -> None:
    if not pairs.shared_data("hh").exists():
        pytest.skip("the reference data is not here: set TWOFOLD_SHARED")
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "5"
    tokenizer.save_pretrained(tmp_path)
    some = pairs.hh(tmp_path, 3)
    assert len(some) == 3
    assert all(pair[side][-1] == 5 for pair in some for side in ("chosen", "rejected"))
    assert all(sum(map(len, pair.values())) <= 700 for pair in some)
