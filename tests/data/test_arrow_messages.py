"""The decompressed size of Arrow messages, by their heads alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from twofold.data import arrow_messages, unpacking
from twofold.data.arrow_messages import refuse_large_messages
from twofold.data.unpacking import Allowance, UnpackedError

ROWS = 40_000
ZEROS = pa.table({"a": np.zeros(ROWS, np.int64)})


def written(table: pa.Table, compression: str | None = None) -> bytes:
    out = io.BytesIO()
    how = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(out, table.schema, options=how) as writer:
        writer.write_table(table)
    return out.getvalue()


def sizes(data: bytes) -> list[int]:
    """Of each message: the schema, dictionaries, batches."""
    return [arrow_messages._message_bytes(m) for m in pa.ipc.MessageReader.open_stream(pa.BufferReader(data))]


def test_a_message_without_compression_is_its_body() -> None:
    """Offsets of four bytes, one more than texts, and the texts, each buffer filled up to eight bytes."""
    table = pa.table({"a": ["abc", "de"]})
    schema, batch = sizes(written(table))
    (_, message) = pa.ipc.MessageReader.open_stream(pa.BufferReader(written(table)))
    assert (schema, batch) == (0, message.body.size)
    assert batch > 0


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_message_says_how_long_it_was(compression: str) -> None:
    """Eight bytes for a number, one bit for whether there is one."""
    data = written(ZEROS, compression)
    assert sizes(data) == [0, 8 * ROWS]
    assert len(data) < ROWS
    halves = pa.table({"a": pa.array([1, None] * (ROWS // 2), pa.int64())})
    assert sizes(written(halves, compression)) == [0, 8 * ROWS + ROWS // 8]


@pytest.mark.parametrize("number", range(1, 8))
def test_every_column_counts(number: int) -> None:
    """Wherever the lengths of its buffers are in the head."""
    table = pa.table({"c" * (place + 1): np.zeros(ROWS, np.int64) for place in range(number)})
    assert sizes(written(table, "zstd")) == [0, 8 * ROWS * number]


def test_a_dictionary_is_counted_once() -> None:
    """Numbers of four bytes for the rows; the texts, and where they begin, which are longer packed than as they are."""
    texts = pa.table({"a": pa.array(["x" * 100] * ROWS + ["y" * 100]).dictionary_encode()})
    schema, dictionary, batch = sizes(written(texts, "zstd"))
    assert (schema, batch) == (0, 4 * (ROWS + 1))
    assert 200 + 12 <= dictionary < 250
    assert sizes(written(texts)) == [0, 200 + 16, 4 * (ROWS + 1) + 4]


def test_what_packing_does_not_shorten_counts_as_it_is() -> None:
    """Such a buffer has the mark -1 before its bytes."""
    (_, batch) = sizes(written(pa.table({"a": pa.array([1, -7], pa.int64())}), "zstd"))
    assert 16 <= batch < 40


class Message:
    """A message as pyarrow has it, with a body and a head of one's own."""

    def __init__(self, metadata: bytes, body: Any) -> None:
        self.metadata, self.body = metadata, body


def test_a_message_without_a_body_is_nothing() -> None:
    (_, batch) = pa.ipc.MessageReader.open_stream(pa.BufferReader(written(pa.table({"a": [1]}))))
    head = bytes(batch.metadata)
    assert arrow_messages._message_bytes(Message(head, batch.body)) == batch.body.size
    assert arrow_messages._message_bytes(Message(head, None)) == 0


def test_messages_are_summed_up_to_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.arrow"
    data = written(pa.concat_tables([ZEROS, ZEROS]), "zstd")
    path.write_bytes(data)
    total = sum(sizes(data))
    assert (total, len(sizes(data))) == (2 * 8 * ROWS, 3)
    for most, refused in ((total, False), (total - 1, True), (total // 2, True)):
        monkeypatch.setattr(unpacking, "ALWAYS", most)
        allowance = Allowance(path, 1)
        if refused:
            with pytest.raises(UnpackedError):
                refuse_large_messages(pa.BufferReader(data), allowance)
        else:
            refuse_large_messages(pa.BufferReader(data), allowance)
