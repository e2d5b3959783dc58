"""What a further row costs, from the costs of whole runs."""

from __future__ import annotations

import pytest

from benchmarks.data_scale import PREPARE, Cost, report


def test_a_further_row_costs_what_lies_between_two_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    few, many = Cost(PREPARE, 1000, 9, 2.0, 100), Cost(PREPARE, 3000, 9, 3.0, 102)
    (slope,) = report([few, many], None, [(1000, 1), (3000, 3)])["slopes"]
    assert slope == {"step": PREPARE, "from": 1000, "to": 3000, "CPU µs": 500.0, "bytes": 1049}
    capsys.readouterr()
    assert report([few], None, [(1000, 1)])["slopes"] == []
    assert "MiB on disk, 1000 rows" in capsys.readouterr().out, "one size has a table all the same"
