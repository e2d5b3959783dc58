"""The interval that benchmarks print: order statistics, no assumption but independence."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from benchmarks.reporting import median_interval


@pytest.mark.parametrize(("n", "cut"), [(5, 0), (6, 0), (9, 1), (15, 3)])
def test_the_median_lies_between_order_statistics(n: int, cut: int) -> None:
    found = median_interval([float(x) for x in reversed(range(n))])
    assert found.value == (n - 1) / 2
    assert (found.low, found.high) == (cut, n - 1 - cut)
    assert found.level == pytest.approx(1 - 2 * binom.cdf(cut, n, 0.5))
    assert (found.level >= 0.95) == (n > 5)
