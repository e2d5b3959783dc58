"""Computes the decompressed size of Arrow messages from their headers and buffers, before any is decompressed."""

from __future__ import annotations

import struct
from typing import Any

from twofold.data.unpacking import Allowance

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2


def refuse_large_messages(stream: Any, allowance: Allowance) -> None:
    """Raise UnpackedError where the record batches of a `stream` of Arrow messages unpack to more than they may."""
    import pyarrow as pa

    total = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        total += _message_bytes(message)
        allowance.refuse(total)


def _message_bytes(message: Any) -> int:
    """The decompressed size: for a compressed message the sum of the first 8 bytes of each buffer; else the size of its
    body."""
    body, head = message.body, _Flat(bytes(message.metadata), 0).inner()
    kind, batch = head.number(1, "B"), head.table(2)
    if kind == _DICTIONARY_BATCH and batch:
        batch = batch.table(1)
    if body is None or batch is None or kind not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        return 0
    if batch.table(3) is None:
        return body.size
    return sum(max(length, _stated(body, place)) for place, length in batch.pairs(2) if length >= 8)


def _stated(body: Any, place: int) -> int:
    return int.from_bytes(body.slice(place, 8).to_pybytes(), "little", signed=True)


class _Flat:
    """A table of FlatBuffers, as the heads of Arrow's messages are."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    def inner(self) -> _Flat:
        """The table to which the number at this place leads."""
        return _Flat(self._data, self._place + self._read("I", self._place))

    def _read(self, form: str, place: int) -> int:
        return struct.unpack_from(f"<{form}", self._data, place)[0]

    def _field(self, index: int) -> int | None:
        names = self._place - self._read("i", self._place)
        entry = 4 + 2 * index
        offset = self._read("H", names + entry) if entry < self._read("H", names) else 0
        return self._place + offset if offset else None

    def number(self, index: int, form: str) -> int:
        """The number in a field; 0 where it is left out."""
        place = self._field(index)
        return self._read(form, place) if place is not None else 0

    def table(self, index: int) -> _Flat | None:
        """The table in a field."""
        place = self._field(index)
        return _Flat(self._data, place).inner() if place is not None else None

    def pairs(self, index: int) -> list[tuple[int, int]]:
        """The pairs of 64-bit numbers in a field that is a list of them."""
        place = self._field(index)
        if place is None:
            return []
        begin = place + self._read("I", place)
        count = self._read("I", begin)
        return list(struct.iter_unpack("<qq", self._data[begin + 4 : begin + 4 + 16 * count]))
