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
_FIELDS = {name: [f.name for f in fields(kind) if f.name != "source"] for name, kind in _KINDS.items()}
_encoded = json.JSONEncoder(ensure_ascii=False).encode
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

    def members(self, batch: pa.RecordBatch) -> Iterator[Record]:
        rows, texts = batch.column("row").to_pylist(), batch.column("record").to_pylist()
        return (self._record(row, text) for row, text in zip(rows, texts, strict=True))

    def made(self, batch: pa.RecordBatch, place: int) -> Record:
        return self._record(batch.column("row")[place].as_py(), batch.column("record")[place].as_py())

    def _record(self, row: int, text: bytes) -> Record:
        kind, values = json.loads(text.decode())
        return _KINDS[kind](**{k: _unpacked(v) for k, v in values.items()}, source=Source(self._source, row))


def write_records(folder: Path, records: Iterable[Record], closing: Callable[[], tuple[str, dict[str, Any]]]) -> str:
    """Store `records` in `folder`; returns the key from `closing`."""
    return write(folder, _SCHEMA, records, _columns, closing)


def open_records(folder: Path, key: str, source: str) -> StoredRecords | None:
    """What was kept under `key`; None where that is missing or damaged."""
    found = opened(folder, key)
    return None if found is None else StoredRecords(source, key, *found)


def _columns(records: list[Record]) -> list[pa.Array]:
    rows = pa.array([record.source.row for record in records], pa.int64())
    texts = pa.array([_encoded(_parts(record)).encode() for record in records], pa.binary())
    digests = Collected()
    for record in records:
        digests.add(problem(record))
    problems = [None, pa.py_buffer(digests.array().tobytes())]
    return [rows, texts, pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(records), problems)]


def _parts(record: Record) -> list[Any]:
    kind = type(record).__name__
    return [kind, {name: _packed(getattr(record, name)) for name in _FIELDS[kind]}]


def _packed(value: Any) -> Any:
    """Turns as objects of one list each; what is no turn as it is."""
    if isinstance(value, Message):
        return {"turn": [value.role, value.content, value.more, value.scored]}
    return [_packed(inner) for inner in value] if isinstance(value, tuple) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return Message(*value["turn"])
    return tuple(map(_unpacked, value)) if isinstance(value, list) else value
