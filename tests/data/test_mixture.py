from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twofold.batch import Group
from twofold.data.mixture import mixture
from twofold.data.order import Mixture, permutation
from twofold.data.settings import DataSource
from twofold.errors import DataError
from twofold.progress import Silent

PARTS = (tuple(range(10)), tuple(range(10, 40)))


def mixtures() -> st.SearchStrategy[Mixture]:
    sizes = st.lists(st.integers(1, 12), min_size=1, max_size=4)
    return sizes.flatmap(
        lambda ns: st.builds(
            Mixture,
            st.just(tuple(tuple(range(sum(ns[:i]), sum(ns[: i + 1]))) for i in range(len(ns)))),
            st.tuples(*(st.sampled_from([0.5, 1.0, 3.0]) for _ in ns)),
            st.integers(0, 9),
        )
    )


def test_a_part_gives_its_share_of_every_epoch() -> None:
    mixed = Mixture(PARTS, (3.0, 1.0), seed=0)
    assert (mixed.num, mixed.shares) == (40, (30, 10))
    for epoch in range(3):
        rows = mixed.at(epoch, 40)
        assert Counter(row < 10 for row in rows) == {True: 30, False: 10}
        assert Counter(row for row in rows if row < 10) == dict.fromkeys(range(10), 3)
    assert sorted(row for epoch in range(3) for row in mixed.at(epoch, 40) if row >= 10) == list(range(10, 40))


@given(mixed=mixtures(), step=st.integers(0, 20), size=st.integers(1, 9))
def test_a_batch_is_a_function_of_seed_and_step(mixed: Mixture, step: int, size: int) -> None:
    batch = mixed.at(step, size)
    stream = [row for place in range((step + 1) * size) for row in mixed.at(place, 1)]
    assert batch == stream[step * size :]
    assert batch == Mixture(mixed.parts, mixed.weights, mixed.seed).at(step, size)
    assert set(batch) <= set(range(mixed.num))


@given(mixed=mixtures(), epochs=st.integers(1, 4))
def test_no_row_of_a_part_comes_again_before_all_others(mixed: Mixture, epochs: int) -> None:
    counts = Counter(row for epoch in range(epochs) for row in mixed.at(epoch, mixed.num))
    assert sum(mixed.shares) == mixed.num
    for part, share, weight in zip(mixed.parts, mixed.shares, mixed.weights, strict=True):
        assert abs(share - mixed.num * weight / sum(mixed.weights)) < 1
        seen = [counts[row] for row in part]
        assert sum(seen) == epochs * share
        assert max(seen) - min(seen) <= 1


def test_each_part_has_an_order_of_its_own() -> None:
    """Two parts of 20 rows: each in the order of a seed of its own, or their rows would march in step."""
    rows = Mixture((tuple(range(20)), tuple(range(20, 40))), (1.0, 1.0), 0).at(0, 40)
    slots, orders = permutation(40, 0, 0), (permutation(20, 1, 0), permutation(20, 2, 0))
    assert [row for row in rows if row < 20] == [orders[0][slot] for slot in slots if slot < 20]
    assert [row - 20 for row in rows if row >= 20] == [orders[1][slot - 20] for slot in slots if slot >= 20]
    assert orders[0] != orders[1]


def test_another_seed_is_another_order() -> None:
    assert Mixture(PARTS, (1.0, 1.0), 0).at(0, 40) != Mixture(PARTS, (1.0, 1.0), 1).at(0, 40)
    assert Mixture(PARTS, (1.0, 1.0), 0).epochs(2, 10) == 0.5


@pytest.mark.parametrize(
    ("parts", "weights"), [((), ()), (((0,), ()), (1.0, 1.0)), (((0,),), (1.0, 2.0)), (((0,), (1,)), (1.0,))]
)
def test_a_mixture_needs_rows_and_weights(parts: tuple[tuple[int, ...], ...], weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a mixture needs parts with rows"):
        Mixture(parts, weights, 0)


class Notes(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def named(*names: str) -> list[Group]:
    return [Group(name, torch.tensor([1]), ()) for name in names]


GROUPS = named("a:1", "b:c:1", "a:2", "a:3", "b:c:2", "a:4", "a:5", "a:6")


def test_weights_say_how_often_each_file_is_met() -> None:
    """Six rows of `a` and two of `b:c` in equal shares: those of `b:c` twice an epoch."""
    notes = Notes()
    mixed = mixture([DataSource(file="a", weight=2.0), DataSource(file="b:c", weight=2.0)], GROUPS, 5, notes)
    assert mixed == Mixture(((0, 2, 3, 5, 6, 7), (1, 4)), (2.0, 2.0), 5)
    assert notes.notes == [
        "mixture: a: 50.0% of the rows, 0.67 passes an epoch",
        "mixture: b:c: 50.0% of the rows, 2.00 passes an epoch",
    ]


def test_without_weights_there_is_no_mixture() -> None:
    assert mixture([DataSource(file="a"), DataSource(file="b:c")], GROUPS, 0, Silent()) is None


@pytest.mark.parametrize(
    ("weights", "names", "message"),
    [
        ((1.0, 1.0), ("a:1", "a:2"), "b: no row of this file is left to train on\n  → leave it out, or look at it"),
        ((9.0, 0.1), ("a:1", "a:2", "b:1"), "b: its weight gives it no row in an epoch of 3\n  → raise it"),
    ],
)
def test_a_file_that_is_never_met_is_named(weights: tuple[float, float], names: tuple[str, ...], message: str) -> None:
    portions = [DataSource(file=file, weight=weight) for file, weight in zip("ab", weights, strict=True)]
    with pytest.raises(DataError) as error:
        mixture(portions, named(*names), 0, Silent())
    assert str(error.value) == message
