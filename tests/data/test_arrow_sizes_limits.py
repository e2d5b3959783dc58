"""Where a run of rows that are decoded together ends, at each limit, and which batches need no looking at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from twofold.data.arrow_sizes import AT_ONCE, BUDGET, are_small, at_once


@pytest.mark.parametrize(
    ("sizes", "most", "runs"),
    [
        ([BUDGET / 2, BUDGET / 2, 1.0], 1 << 40, [(0, 2), (2, 3)]), ([BUDGET / 2, BUDGET / 2 + 1], 1 << 40, [(0, 1),
         (1, 2)]), ([1000.0, 10.0], 1000, [(0, 2)]), ([10.0, 1000.0], 1000, [(0, 2)]),
        ([10.0, 1001.0, 10.0], 1000, [(0, 1), (1, 2), (2, 3)]), ([600.0, 400.0, 1.0], 1000, [(0, 3)]),
        ([600.0, 401.0, 1.0], 1000, [(0, 2), (2, 3)]), ([1.0] * 64, 1000, [(0, 64)]),
        ([1.0] * 65, 1000, [(0, 64), (64, 65)]), ([2000.0], 1000, [(0, 1)]),
    ],
)  # fmt: skip
def test_a_run_may_fill_what_it_has(sizes: list[float], most: int, runs: list[tuple[int, int]]) -> None:
    """64 rows, 64 MiB, and as many bytes as a row may have before the last one."""
    assert (AT_ONCE, BUDGET) == (64, 64 * 2**20)
    assert [(run.start, run.stop) for run in at_once(np.array(sizes), most)] == runs


@pytest.mark.parametrize(("rows", "most", "small"), [(64, 512, True), (64, 511, False), (65, 10**6, False)])
def test_a_batch_is_small_up_to_64_rows_and_a_rows_bytes(rows: int, most: int, small: bool) -> None:
    batch = pa.record_batch({"x": pa.array(range(rows), pa.int64())})
    assert (batch.nbytes, are_small(batch, most)) == (8 * rows, small)
