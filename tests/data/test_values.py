"""Figures of numbers, by hand: counts, quantiles between values, and what lies beyond bounds."""

from __future__ import annotations

import numpy as np
import pytest

from twofold.data.values import Values, quantiles


def test_numbers_are_summed_as_they_come() -> None:
    values = Values.of([3, 1, 2, 2])
    assert (values.total, values.low, values.high, len(values), values.mean) == (8, 1, 3, 4, 2.0)
    assert list(values) == [3, 1, 2, 2]
    (block,) = values.blocks()
    assert (block.tolist(), block.dtype) == ([3.0, 1.0, 2.0, 2.0], np.float64)
    empty = Values()
    assert (empty.total, empty.low, empty.high, len(empty)) == (0, float("inf"), float("-inf"), 0)


def test_whole_numbers_are_exact_and_others_need_their_type() -> None:
    assert list(Values.of([2**53 + 1])) == [2**53 + 1]
    assert list(Values.of([0.25, -1.5], np.float64)) == [0.25, -1.5]
    assert Values.of([0.25, -1.5], np.float64).mean == -0.625


def test_bounds_belong_to_what_is_within() -> None:
    values = Values.of([1, 2, 2, 3])
    assert [values.beyond(*bounds) for bounds in ((1, 3), (2, 2), (2, 3), (1, 2), (0, 1), (4, 9))] == [0, 2, 1, 1, 3, 4]
    assert values.counts([1, 2, 3]) == [1, 3]  # the last edge belongs to the bin below it
    assert values.counts([0, 1, 9]) == [0, 4]
    assert Values().counts([0, 1, 2, 3]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("numbers", "level", "quantile"),
    [
        ([2, 1, 3, 2], 0.0, 1.0), ([2, 1, 3, 2], 0.25, 1.75), ([2, 1, 3, 2], 0.5, 2.0), ([2, 1, 3, 2], 1.0, 3.0),
        ([-3, -1, 2], 0.0, -3.0), ([-3, -1, 2], 0.5, -1.0), ([-3, -1, 2], 0.75, 0.5), ([-3, -1, 2], 1.0, 2.0),
        ([7], 0.3, 7.0), ([0, 65536], 0.5, 32768.0), ([2**40, -(2**40), 1], 0.5, 1.0), ([0, 0, 0, 5], 0.5, 0.0),
    ],
)  # fmt: skip
def test_quantiles_are_between_neighbors(numbers: list[int], level: float, quantile: float) -> None:
    assert quantiles([Values.of(numbers)], [level]) == [quantile]


def test_several_lists_are_one_to_quantiles() -> None:
    assert quantiles([Values.of([1, 4]), Values.of([2]), Values()], [0.0, 0.5, 0.75, 1.0]) == [1.0, 2.0, 3.0, 4.0]


def test_rounding_is_that_of_numpy() -> None:
    """Beyond the middle numpy interpolates from above, which rounds otherwise."""
    draw = np.random.default_rng(0)
    for numbers in draw.normal(0, 1, (20, 2)):
        values = Values.of(numbers.tolist(), np.float64)
        for level in (0.3, 0.5, 0.7):
            assert quantiles([values], [level]) == [np.quantile(numbers, level)]


def test_a_quantile_of_zeros_has_no_sign() -> None:
    assert str(quantiles([Values.of([-0.0, 0.0, -0.0], np.float64)], [0.0, 0.5])) == "[0.0, 0.0]"
