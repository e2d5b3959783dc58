"""How many processes tokenize reaches those who start them, from a run's rows in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twofold.data import dataset, stored_groups
from twofold.data import workers as workers_module
from twofold.data.dataset import encode_rows
from twofold.data.encode import AT_ONCE, encode
from twofold.data.settings import MOST_WORKERS, DataSettings
from twofold.data.stored_groups import encode_stored
from twofold.data.tokenize import Encoder
from twofold.progress import Silent
from twofold.records import Request, Source

ROWS = [Request("ab", Source("f", n)) for n in range(1, AT_ONCE + 3)]


def encoder(made: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}))


def test_processes_get_the_encoder_and_chunks_of_rows(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, started, sizes = encoder(tokenizer(None)), list[Any](), list[int]()

    @contextmanager
    def several(of: Encoder, count: int) -> Iterator[Any]:
        def rows(chunks: Any) -> Iterator[Any]:
            for chunk in chunks:
                sizes.append(len(chunk))
                yield chunk, of.rows(chunk)

        started.append((of, count))
        yield SimpleNamespace(rows=rows)
        started.append("ended")

    monkeypatch.setattr(workers_module, "workers", several)
    found = encode(ROWS, made, workers=3)
    assert (started, sizes) == ([(made, 3), "ended"], [256, 2])
    alone = encode(ROWS, made)
    assert [group.name for group in found.groups] == [group.name for group in alone.groups]
    assert (found.counts(), len(started)) == (alone.counts(), 2)


def test_rows_in_memory_and_on_disk_are_encoded_by_as_many(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, progress, asked = encoder(tokenizer(None)), Silent(), list[Any]()
    monkeypatch.setattr(dataset, "encode", lambda *told, **how: asked.append((told, how)))
    monkeypatch.setattr(dataset, "encode_stored", lambda *told: asked.append(told))
    encode_rows(ROWS, made, tmp_path, progress, 3)
    encode_rows(tuple(ROWS), made, tmp_path, progress, 4)
    assert asked == [((ROWS, made, progress), {"workers": 3}), (tuple(ROWS), made, tmp_path, progress, 4)]
    real = stored_groups.encode
    monkeypatch.setattr(
        stored_groups, "encode", lambda *told, **how: real(*told, keep=how["keep"]) and asked.append(how)
    )
    encode_stored(ROWS[:2], made, tmp_path, progress, 5)
    assert asked[2]["workers"] == 5


@pytest.mark.parametrize(("workers", "fits"), [(-1, False), (0, True), (1024, True), (1025, False)])
def test_processes_are_at_most_1024(workers: int, fits: bool) -> None:
    assert MOST_WORKERS == 1024
    if fits:
        assert DataSettings(train="a", workers=workers).workers == workers
    else:
        with pytest.raises(ValueError, match="workers must be from 0 to 1024"):
            DataSettings(train="a", workers=workers)
