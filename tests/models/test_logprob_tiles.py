"""Sizes of tiles, the likeliest tokens, and the paths of a planned GPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from twofold.models.logprob import TILE, TOP, _Head, _How, _operand, statistics_of, token_statistics
from twofold.models.planned import planned_gpu

PLAIN = _How(None, False)


def head(rows: int, vocabulary: int = 5, dtype: torch.dtype = torch.float32) -> _Head:
    hidden: Any = torch.zeros(rows, 2, dtype=dtype)
    return _Head(hidden, torch.zeros(vocabulary, 2), torch.zeros(rows, dtype=torch.int64), None, PLAIN)


@pytest.mark.parametrize(
    ("rows", "num_rows", "num_columns"),
    [(0, 1, 1048576), (10, 10, 104857), (1024, 1024, 1024), (1500, 1500, 1024), (2048, 2048, 1024), (5000, 2048, 1024)],
)
def test_few_rows_have_wide_tiles(rows: int, num_rows: int, num_columns: int) -> None:
    """Of 2048 · 1024 logits, of which half may be the scratch of fewer rows."""
    assert TILE == {"cpu": (2048, 1024), "cuda": (8192, 32768)}
    made = head(rows)
    assert (made.num_rows, made.num_columns) == (num_rows, num_columns)
    assert made.scratch.shape == (num_rows * 5,)
    assert made.scratch.dtype == torch.float32


def test_a_planned_gpu_has_its_own_tiles_and_narrow_operands() -> None:
    assert head(9000, dtype=torch.bfloat16).hidden.dtype == torch.float32
    with planned_gpu(1):
        made = head(9000, dtype=torch.bfloat16)
        assert (made.num_rows, made.num_columns) == (8192, 32768)
        assert (made.hidden.dtype, made.wide) == (torch.bfloat16, torch.float32)


def test_operands_are_narrow_under_autocast_on_a_gpu_alone() -> None:
    x = torch.zeros(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert _operand(x) is x
        with planned_gpu(1):
            assert _operand(x).dtype == torch.bfloat16
    with planned_gpu(1):
        assert _operand(x) is x


def test_the_entropy_is_that_of_the_twenty_likeliest_tokens() -> None:
    assert TOP == 20
    even = torch.zeros(1, 30)
    assert statistics_of(even)["top_entropy"].item() == pytest.approx(math.log(20))
    assert statistics_of(even[:, :7])["top_entropy"].item() == pytest.approx(math.log(7))
    found = token_statistics(torch.zeros(1, 2), torch.zeros(30, 2), top=True)
    assert found["top_entropy"].item() == pytest.approx(math.log(20))
    assert "top_entropy" not in token_statistics(torch.zeros(1, 2), torch.zeros(30, 2))
