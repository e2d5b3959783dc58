"""Records on disk: one JSON text a row, with the digest of its problem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from twofold.data.digests import Collected, Digests
from twofold.data.split import problem
from twofold.data.store import Batches, Stored, opened, write
from twofold.records import Message, Record, Source

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Record)}
_SCHEMA = pa.schema([("row", pa.int64()), ("record", pa.binary()), ("problem", pa.binary(16))])


class StoredRecords(Stored[Record]):
    """Records of one source, made from disk as they are asked for."""

    def __init__(self, source: str, key: str, batches: Batches, facts: dict[str, Any]) -> None:
        super().__init__(key, batches, facts)
        self._source = source

    @property
    def problems(self) -> Digests:
        """The digest of each record's problem."""
        parts = [np.frombuffer(b"".join(b.column("problem").to_pylist()), np.uint64) for b in self._batches]
        return np.concatenate(parts).reshape(-1, 2)

    def made(self, batch: pa.RecordBatch, place: int) -> Record:
        source = Source(self._source, batch.column("row")[place].as_py())
        return _record(json.loads(batch.column("record")[place].as_py()), source)


def write_records(folder: Path, records: Iterable[Record], closing: Callable[[], tuple[str, dict[str, Any]]]) -> str:
    """Store `records` in `folder`; returns the key from `closing`."""
    return write(folder, _SCHEMA, _rows(records), closing)


def open_records(folder: Path, key: str, source: str) -> StoredRecords | None:
    """What was kept under `key`; None where that is missing or damaged."""
    found = opened(folder, key)
    return None if found is None else StoredRecords(source, key, *found)


def _rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        collected = Collected()
        collected.add(problem(record))
        text = json.dumps(_parts(record), ensure_ascii=False).encode()
        yield {"row": record.source.row, "record": text, "problem": collected.array().tobytes()}


def _parts(record: Record) -> list[Any]:
    values = {f.name: _packed(getattr(record, f.name)) for f in fields(record) if f.name != "source"}
    return [type(record).__name__, values]


def _packed(value: Any) -> Any:
    """Turns as objects of one list each; what is no turn as it is."""
    if isinstance(value, Message):
        return {"turn": [value.role, value.content, value.more, value.scored]}
    return [_packed(inner) for inner in value] if isinstance(value, tuple) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return Message(*value["turn"])
    return tuple(map(_unpacked, value)) if isinstance(value, list) else value


def _record(parts: list[Any], source: Source) -> Record:
    kind, values = parts
    return _KINDS[kind](**{name: _unpacked(value) for name, value in values.items()}, source=source)
