"""What a page shows is not changed afterwards, and what it shows many of is small."""

from __future__ import annotations

from support.frozen import changeable, dataclasses_of, slotted
from support.usual_defaults import numbers, switched_on, unusual
from twofold import reports


def test_nothing_can_be_changed() -> None:
    assert changeable(reports) == set()


def test_what_a_page_shows_many_of_takes_no_further_attributes() -> None:
    one_of_each = {"Board", "Check", "Curve", "Family", "Introduction", "RunData", "Snapshot"}
    assert slotted(reports) == set(dataclasses_of(reports)) - one_of_each


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(reports) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(reports) == {"Frame.whole", "histogram.whole"}


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(reports) == {
        "Board.every": 5.0, "plain.limit": 400, "fenced.limit": 20000, "_short.digits": 5, "clip.limit": 1200,
        "MatchRow.share": -1.0,
    }  # fmt: skip
