from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.data.order import Order, permutation

small = st.integers(1, 40)
seeds = st.integers(-(2**40), 2**40)


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    assert permutation(8, 0, 0) == (7, 1, 0, 6, 4, 3, 2, 5)
    assert permutation(8, 0, 1) == (5, 6, 3, 4, 0, 1, 2, 7)


@given(num=small, seed=seeds, epoch=st.integers(0, 5))
def test_every_epoch_meets_each_row_once(num: int, seed: int, epoch: int) -> None:
    order = Order(num, seed)
    rows = [row for step in range(epoch * num, (epoch + 1) * num) for row in order.at(step, 1)]
    assert sorted(rows) == list(range(num))


@given(num=small, seed=seeds, size=st.integers(1, 50), step=st.integers(0, 20))
def test_a_batch_is_a_slice_of_one_stream(num: int, seed: int, size: int, step: int) -> None:
    order = Order(num, seed)
    stream = [order.at(place, 1)[0] for place in range(step * size, (step + 1) * size)]
    assert order.at(step, size) == stream


def test_epochs_and_seeds_differ() -> None:
    assert len({permutation(50, seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


def test_epochs_counts_the_passes_before_a_step() -> None:
    assert Order(10, 0).epochs(step=5, size=4) == 2.0


def test_an_order_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Order(0, 1)
    assert Order(1, 0).at(3, 2) == [0, 0]
