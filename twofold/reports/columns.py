"""Reads logs of any length in little memory: lines one at a time, and their numbers as columns by step."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_LINES = 250_000
"""Number of lines that are stored. Of longer logs only every second, every fourth … line is stored."""
MOST_BYTES = 16_000_000
"""Of one line."""
CHUNK = 1 << 20


class Columns:
    """Numbers of a log, one column per key: 12 bytes per number, independent of the rest of its line."""

    def __init__(self) -> None:
        self._step = array("d")
        self._columns: dict[str, tuple[array[int], array[float]]] = {}
        self._lines, self._stride = 0, 1
        self.last_step = -1

    def __len__(self) -> int:
        """Lines that were added."""
        return self._lines

    def add(self, line: Mapping[str, float]) -> None:
        """Adds the numbers of a line that has a `step`."""
        self._lines += 1
        if not math.isfinite(line.get("step", math.nan)):
            return
        self.last_step = max(self.last_step, int(line["step"]))
        if (self._lines - 1) % self._stride:
            return
        if len(self._step) >= MOST_LINES:
            self._thin()
        place = len(self._step)
        self._step.append(line["step"])
        for key, value in line.items():
            if key != "step" and math.isfinite(value):
                places, values = self._columns.setdefault(key, (array("I"), array("d")))
                places.append(place)
                values.append(value)

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Steps and finite values of `key`, by step; The last line of a step is used."""
        places, values = self._columns.get(key, (array("I"), array("d")))
        step, value = np.frombuffer(self._step)[np.frombuffer(places, np.uint32)], np.frombuffer(values)
        if len(step) and (np.diff(step) <= 0).any():
            step, last = np.unique(step[::-1], return_index=True)
            value = value[::-1][last]
        return step.tolist(), value.tolist()

    def _thin(self) -> None:
        """Drops every second line."""
        self._stride *= 2
        self._step = self._step[::2]
        for key, (places, values) in self._columns.items():
            place: NDArray[np.uint32] = np.frombuffer(places, np.uint32)
            even = place % 2 == 0
            halved = (place[even] // 2).astype(np.uint32), np.frombuffer(values)[even]
            self._columns[key] = (array("I", halved[0].tobytes()), array("d", halved[1].tobytes()))


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line. Accuracy is left out while all margins are 0, because every pair is tied."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, int | float):
            found[key] = float(value) if abs(value) < 1e308 else math.nan
    for of in ("", "heldout/"):
        if found.get(f"{of}margin") == 0:
            found.pop(f"{of}accuracy", None)
    return found


class Lines:
    """The objects of a JSONL file as it grows: half a line waits for its end.

    `bad` counts the lines that are no object; `first_bad` has the numbers of the first five.
    """

    def __init__(self) -> None:
        self.bad, self.first_bad = 0, list[int]()
        self._number, self._rest, self._too_long = 0, b"", False

    def read(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        """The objects of all lines that end in the rest of `file`."""
        while new := file.read(CHUNK):
            *ended, rest = new.split(b"\n")
            for line in ended:
                yield from self._object(self._rest + line)
                self._rest, self._too_long = b"", False
            self._rest += rest
            if len(self._rest) > MOST_BYTES:
                self._rest, self._too_long = b"", True

    def end(self) -> Iterator[dict[str, Any]]:
        """The object after the end of the last line, if any."""
        yield from self._object(self._rest)
        self._rest = b""

    def _object(self, line: bytes) -> Iterator[dict[str, Any]]:
        self._number += 1
        try:
            value = json.loads(line.decode(errors="replace")) if line.strip() and not self._too_long else {}
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or self._too_long:
            self.bad += 1
            self.first_bad = [*self.first_bad, self._number][:5]
        elif value:
            yield value
