"""Faults in memory or on disk: in one order, counted by kind, with the rows that they spoil."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twofold.data import fault_store
from twofold.data.fault_store import FaultStore, StoredFaults, counts_of, of_severity, opened
from twofold.data.issues import Issue
from twofold.data.row_faults import RowFaults
from twofold.errors import DataError


def issue(row: int, check: str, severity: str = "error", file: str = "f") -> Issue:
    return Issue(file, row, "é", "why", "what", severity, check)  # type: ignore[arg-type]  # one of the two


FOUND = [
    issue(3, "a"), issue(1, "b", "warning"), issue(3, "b"), issue(2, "c", file="other"), issue(0, "whole"),
    issue(1, "a"), issue(4, "c"), issue(1, "b", "warning"),
]  # fmt: skip
IN_ORDER = [FOUND[4], FOUND[1], FOUND[5], FOUND[7], FOUND[0], FOUND[2], FOUND[6], FOUND[3]]
"""By row, those of one row as they came, other files behind."""


@pytest.fixture(params=["memory", "disk"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FaultStore:
    if request.param == "disk":
        monkeypatch.setattr(fault_store, "IN_MEMORY", 2)
        monkeypatch.setattr(fault_store, "_AT_ONCE", 3)
    return FaultStore("f")


def test_faults_come_by_row(made: FaultStore) -> None:
    assert not made
    made.add(FOUND[:5])
    made.add(FOUND[5:])
    assert made
    faults = made.in_order()
    assert list(faults) == IN_ORDER
    assert (faults[0], faults[-1], list(faults[1:4]), list(faults[::-2])) == (
        IN_ORDER[0], IN_ORDER[-1], IN_ORDER[1:4], IN_ORDER[::-2],
    )  # fmt: skip
    assert len(faults) == 8
    assert list(faults[5:5]) == []
    with pytest.raises(IndexError):
        faults[8]


def test_faults_are_counted_by_severity_and_kind(made: FaultStore) -> None:
    made.add(FOUND)
    faults = made.in_order()
    assert counts_of(faults) == {
        ("error", "a"): 2, ("warning", "b"): 2, ("error", "c"): 2, ("error", "b"): 1, ("error", "whole"): 1,
    }  # fmt: skip
    warnings, errors = of_severity(faults, "warning"), of_severity(faults, "error")
    assert list(warnings) == [FOUND[1], FOUND[7]]
    assert list(errors) == [fault for fault in IN_ORDER if fault.severity == "error"]
    assert (len(warnings), len(errors), counts_of(warnings)) == (2, 6, {("warning", "b"): 2})
    assert errors[1] == FOUND[5]


def test_rows_with_an_error_are_spoiled_once(made: FaultStore) -> None:
    """Not by a warning, by a fault of the whole or of another file, nor where no record was made."""
    made.add(FOUND)
    assert made.spoiled() == 3  # rows 1, 3 and 4
    made.add([issue(9, "a"), issue(9, "b")], spoils=False)
    made.add([issue(7, "a")], last=True)
    made.add([issue(6, "a", "warning")])
    assert made.spoiled() == 3
    made.add([issue(5, "a")])
    assert made.spoiled() == 4
    assert [fault.row for fault in made.in_order()][-2:] == [2, 7]


def test_kinds_that_are_accepted_are_warnings(made: FaultStore) -> None:
    accepting = FaultStore("f", ("a",))
    accepting.add(FOUND)
    found = accepting.in_order()
    assert {fault.severity for fault in found if fault.check == "a"} == {"warning"}
    assert {fault.severity for fault in found if fault.check == "c"} == {"error"}
    assert found[2] == replace(FOUND[5], severity="warning")
    assert (accepting.spoiled(), counts_of(found)["warning", "a"]) == (2, 2)


def test_faults_go_to_disk_when_there_are_as_many_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_store, "IN_MEMORY", 3)
    monkeypatch.setattr(fault_store, "_AT_ONCE", 2)
    made, waiting = FaultStore("f"), list[int]()
    for number in range(1, 8):
        made.add([issue(number, "a")])
        waiting.append(len(made._waiting))
    assert waiting == [1, 2, 0, 1, 0, 1, 0]
    assert isinstance(made.in_order(), StoredFaults)


def test_a_database_that_refuses_is_named() -> None:
    with pytest.raises(DataError, match="cannot be written: near") as error, fault_store.refusing():
        opened("CREATE nothing")
    assert "TMPDIR" in error.value.remedy
    base = opened("CREATE TABLE t (n INT)")
    base.execute("INSERT INTO t VALUES (3)")
    assert base.in_transaction is False
    assert base.execute("SELECT n FROM t").fetchall() == [(3,)]


def test_faults_of_rows_by_their_number() -> None:
    kept = RowFaults.of([issue(2, "a"), issue(0, "whole"), issue(1, "BOM"), issue(2, "b"), issue(5, "b")])
    assert (len(kept), 2 in kept, 1 in kept, 0 in kept, 5 in kept) == (2, True, False, False, True)
    assert kept[2] == [issue(2, "a"), issue(2, "b")]
    assert kept[1] == []
    kept.add(7)
    kept.add(2, [issue(2, "b")])
    assert (len(kept), 7 in kept, kept[7]) == (3, True, [])
    assert list(kept.counts().items()) == [("b", 3), ("a", 1)]
