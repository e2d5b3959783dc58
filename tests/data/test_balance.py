"""Files that count the same in the loss, whatever their size."""

from __future__ import annotations

import pytest

from support import tiny
from twofold.batch import Group
from twofold.data.balance import BalancedGroups, balanced
from twofold.data.lazy import Concat
from twofold.data.settings import DataSource
from twofold.errors import DataError

FILES = [DataSource(file="a"), DataSource(file="b:c")]


def groups(many: int, few: int, weight: float | None = None) -> list[Group]:
    """Rows of two files; those of the second have a weight."""
    made = tiny.groups(*[(2, 3)] * (many + few))
    named = [Group(f"a:{i + 1}" if i < many else f"b:c:{i + 1}", g.prompt, g.branches) for i, g in enumerate(made)]
    weighted = [g if i < many or weight is None else g.with_columns([{"weight": weight}]) for i, g in enumerate(named)]
    return weighted


def weights(found: object) -> list[float | None]:
    return [g.weight for g in found]  # type: ignore[attr-defined]  # groups


def test_each_file_has_the_same_weight_in_all() -> None:
    """Six and two rows: 4/6 for each of the six, 4/2 for each of the two, 8 in all. Own weights stay in proportion."""
    assert weights(balanced(groups(6, 2), FILES)) == pytest.approx([4 / 6] * 6 + [2.0] * 2)
    mixed = [*groups(6, 1, 3.0), groups(0, 1)[0]]
    assert weights(balanced(mixed, FILES)) == pytest.approx([4 / 6] * 6 + [3.0, 1.0])


def test_sampled_files_have_a_mean_weight_of_1() -> None:
    sampled = [DataSource(file="a", weight=1.0), DataSource(file="b:c", weight=3.0)]
    assert weights(balanced(groups(6, 2, 5.0), sampled)) == pytest.approx([1.0] * 8)


def test_rows_on_disk_are_weighed_as_they_are_read() -> None:
    rows = Concat([groups(6, 2)])
    found = balanced(rows, FILES)
    assert isinstance(found, BalancedGroups)
    assert weights(found) == weights(balanced(groups(6, 2), FILES))
    assert weights(found[6:]) == pytest.approx([2.0, 2.0])
    assert found.key != balanced(Concat([groups(5, 3)]), FILES).key  # type: ignore[attr-defined]  # also lazy


def test_one_file_and_files_that_do_not_count_are_refused() -> None:
    with pytest.raises(DataError, match="needs several files"):
        balanced(groups(3, 0), FILES[:1])
    with pytest.raises(DataError, match="no row of this file counts") as error:
        balanced(groups(3, 2, 0.0), FILES)
    assert error.value.where == "b:c"
    with pytest.raises(DataError, match="no row of this file counts"):
        balanced(groups(3, 0), FILES)


def test_every_answer_of_a_row_has_its_weight_and_no_file_is_named_by_its_section() -> None:
    made = [
        Group(f"{file}:1", g.prompt, g.branches)
        for file, g in zip(("a", "b:c"), tiny.groups((2, 3, 1), (2, 1)), strict=True)
    ]
    found = balanced([made[0], *[made[1]] * 3], FILES)
    assert [[b.columns["weight"] for b in group.branches] for group in found[:2]] == [
        [2.0, 2.0],
        [pytest.approx(2 / 3)],
    ]
    lazily = balanced(Concat([[made[0], made[1]]]), FILES)
    assert isinstance(lazily, BalancedGroups)
    assert (len(lazily), len(lazily.key)) == (2, 32)
    for files, where in (([], "data.train"), (FILES[1:], "b:c")):
        with pytest.raises(DataError, match="needs several files") as error:
            balanced(made, files)
        assert error.value.where == where
