"""The ledger of finished cells: one line for each, and never lines of two protocols or of two data sets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.pretrained.protocol import Protocol
from twofold.errors import DataError
from twofold.ledger import Ledger, Lines

PATIENCE = 60.0
"""Seconds to wait for another process, which has the file open for an instant."""


@dataclass(frozen=True)
class Finished:
    """A finished cell: what decides it, and what was measured."""

    request: Mapping[str, Any]
    reply: Mapping[str, Any]


def finished(path: Path, protocol: Protocol) -> list[Finished]:
    """All cells in order; of one that two processes finished at once, the first line. Raises DataError for a cell of
    another protocol, or for two data sets of one task."""
    found: list[Finished] = []
    if not path.is_file():
        return found
    with _opened(lambda: Lines(path, lambda row, _: found.append(Finished(row["request"], row["reply"])))):
        pass
    data: dict[str, Any] = {}
    for number, cell in enumerate(found, 1):
        where = f"{path}, cell {number}"
        if differs := _differences(cell.request["protocol"], protocol.as_dict()):
            remedy = "name another --out, or use the protocol of these cells"
            raise DataError(f"is of another protocol: {differs}", where=where, remedy=remedy)
        if data.setdefault(cell.request["task"], cell.request["data"]) != cell.request["data"]:
            what = f"is of other data of task {cell.request['task']} than the cells before it"
            raise DataError(what, where=where, remedy="name another --out for other data or another base")
    first: dict[str, Finished] = {}
    for cell in found:
        first.setdefault(json.dumps(cell.request, sort_keys=True), cell)
    return [*first.values()]


def known(path: Path, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was measured for a request, if it is finished."""
    if not path.is_file():
        return None
    with _opened(lambda: Ledger(path)) as ledger:
        return ledger.get(request)


def add(path: Path, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
    """Append a finished cell."""
    with _opened(lambda: Ledger(path)) as ledger:
        ledger.add([(request, reply)])


@contextmanager
def _opened(make: Any) -> Iterator[Any]:
    """The file, once no other process has it open."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            lines = make()
            break
        except DataError as error:
            if "another run is writing" not in error.what or time.monotonic() > until:
                raise
            time.sleep(0.1)
    with lines:
        yield lines


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name)} instead of {new.get(name)}" for name in names)
