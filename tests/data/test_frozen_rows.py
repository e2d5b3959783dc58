"""What is read of data is not changed afterwards, and what there is one of for each row is small."""

from __future__ import annotations

import twofold.data
from support.frozen import changeable, slotted
from support.usual_defaults import numbers, switched_on, unusual


def test_only_what_counts_as_it_goes_can_be_changed() -> None:
    assert changeable(twofold.data) == {"LengthBias", "Weights", "_Call"}


def test_what_rows_have_one_of_each_takes_no_further_attributes() -> None:
    assert slotted(twofold.data) == {"Issue", "ParsedRow"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(twofold.data) == {"TokenizeSettings.__init__.max_length": 1024}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(twofold.data) == {"FaultStore.add.spoils"}


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(twofold.data) == {
        "damaged.growth": 100, "quoted.most": 12, "_Items._more.size": 1048576, "Further.overlap": 0.5,
        "savings.batch": 8, "RowBounds.bytes": 16777216, "RowBounds.items": 1000, "RowBounds.growth": 100,
        "Overlap.see.side": 1, "DataBeside.share": 0.25, "DataBeside.weight": 1.0,
    }  # fmt: skip
