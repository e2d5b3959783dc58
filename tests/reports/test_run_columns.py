"""Lines of a log as they come, and which of their numbers are kept."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest

from twofold.reports import columns as room
from twofold.reports.columns import Columns, Lines, numbers


def test_numbers_of_a_line() -> None:
    line = {"a": 1, "b": "x", "c": None, "d": 2.5, "e": 1e308, "f": -(10**400), "g": 9e307, "h": [1]}
    found = numbers(line)
    assert {k: v for k, v in found.items() if not math.isnan(v)} == {"a": 1.0, "d": 2.5, "g": 9e307}
    assert math.isnan(found["e"])
    assert math.isnan(found["f"])
    assert isinstance(found["a"], float)


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ({"margin": 0, "accuracy": 0.0}, {"margin"}), ({"margin": 0.1, "accuracy": 0.0}, {"margin", "accuracy"}),
        ({"accuracy": 0.0}, {"accuracy"}), ({"margin": 0.0}, {"margin"}),
        ({"heldout/margin": 0.0, "heldout/accuracy": 1.0, "accuracy": 1.0}, {"heldout/margin", "accuracy"}),
    ],
)  # fmt: skip
def test_where_all_margins_are_0_there_is_no_accuracy(line: dict[str, Any], left: set[str]) -> None:
    assert numbers(line).keys() == left


def parts(*texts: bytes) -> tuple[list[dict[str, Any]], Lines]:
    """The objects of a file that grows by these parts."""
    lines, found = Lines(), list[dict[str, Any]]()
    for text in texts:
        found += lines.read(io.BytesIO(text))
    return [*found, *lines.end()], lines


def test_half_a_line_waits_and_what_is_no_object_is_counted() -> None:
    found, lines = parts(b'{"a": 1}\n{"b"', b": 2}\n\n[1]\n", b'x\n{"c": 3}', b"")
    assert (found, lines.bad, lines.first_bad) == ([{"a": 1}, {"b": 2}, {"c": 3}], 2, [4, 5])
    found, lines = parts(b"{}\n" + b"x\n" * 7 + b'{"a": 1}\n')
    assert (found, lines.bad, lines.first_bad) == ([{"a": 1}], 7, [2, 3, 4, 5, 6])
    assert parts(b'{"a": "\xff"}')[0] == [{"a": "\ufffd"}]
    assert parts(b"[" * 200_000 + b"\n")[1].bad == 1
    assert parts()[1].bad == 0


def test_lines_are_as_long_as_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in portions of 4 bytes; a line is too long once more than 16 of them wait for its end."""
    monkeypatch.setattr(room, "CHUNK", 4)
    monkeypatch.setattr(room, "MOST_BYTES", 16)
    found, lines = parts(b'{"a":     12345}\n{"a": 1}\n')
    assert (found, lines.bad) == ([{"a": 12345}, {"a": 1}], 0)
    found, lines = parts(b'{"a": 1234567890123456789}\n{"b": 1}\n')
    assert (found, lines.bad, lines.first_bad) == ([{"b": 1}], 1, [1])
    found, lines = parts(b'{"a": 123456789012345678901234567')
    assert (found, lines.bad) == ([], 1)


def test_of_a_step_written_twice_the_last_counts_and_steps_are_in_order() -> None:
    columns = Columns()
    for step, value in ((3, 1.0), (1, 2.0), (3, 4.0), (2, math.inf)):
        columns.add({"step": step, "x": value})
    columns.add({"step": math.nan, "x": 9.0})
    assert columns.series("x") == ([1, 3], [2.0, 4.0])
    assert (len(columns), columns.last_step, Columns().last_step) == (5, 3, -1)
    assert columns.series("step") == ([], [])
    twice = Columns()
    for value in (1.0, 2.0):
        twice.add({"step": 5, "x": value})
    assert twice.series("x") == ([5], [2.0])


@pytest.mark.parametrize("most", [2, 8])
def test_of_long_logs_every_second_line_stands_for_two(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """No more lines than allowed, the first among them, equally far apart."""
    monkeypatch.setattr(room, "MOST_LINES", most)
    columns = Columns()
    for step in range(40):
        columns.add({"step": step, "x": float(step), **({"rare": 1.0} if step % 16 == 0 else {})})
        steps, values = columns.series("x")
        stride = 1
        while -(-(step + 1) // stride) > most:
            stride *= 2
        assert steps == values == [float(s) for s in range(0, step + 1, stride)]
    assert columns.series("rare")[0] == [s for s in steps if s % 16 == 0]
