"""Tokenizes rows in several processes: the same groups in the same order for any number of processes."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from twofold.batch import Branch, Group, asides_of
from twofold.data.tokenize import EncodedRow, Encoder
from twofold.errors import TwofoldError
from twofold.records import Record

AHEAD = 3
"""Chunks for each process that are made before their turn, at most."""
_ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

Rows = list[EncodedRow]
_Sent = tuple[EncodedRow, tuple[Any, ...] | None]
_encoder: Encoder | None = None  # of a process that does nothing else


@dataclass(frozen=True)
class Workers:
    """Processes with an encoder each; `rows` are made as `encoder.rows` makes them."""

    encoder: Encoder
    pool: ProcessPoolExecutor
    count: int

    def rows(self, chunks: Iterator[list[Record]]) -> Iterator[tuple[list[Record], Rows]]:
        """Each chunk with its rows, in their order. What a process cannot make is made here, where it is explained."""
        waiting: deque[tuple[list[Record], Future[list[_Sent] | None]]] = deque()
        while True:
            for chunk in islice(chunks, max(0, AHEAD * self.count - len(waiting))):
                waiting.append((chunk, self.pool.submit(_made, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            sent = future.result()
            yield chunk, self.encoder.rows(chunk) if sent is None else [_received(*row) for row in sent]


@contextmanager
def workers(encoder: Encoder, count: int) -> Iterator[Workers]:
    """This number of processes, which end with the block."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)  # read when a process begins
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (encoder,))
    try:
        yield Workers(encoder, pool, count)
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _begin(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder
    torch.set_num_threads(1)


def _made(chunk: Sequence[Record]) -> list[_Sent] | None:
    """Rows as they travel: tensors as arrays, which no shared memory is needed for. None where one is refused."""
    assert _encoder is not None, "the pool begins with it"
    try:
        return [_sent(row) for row in _encoder.rows(chunk)]
    except TwofoldError:
        return None


def _sent(row: EncodedRow) -> _Sent:
    group = row.group
    if group is None:
        return row, None
    branches = [
        (
            b.tokens.numpy(),
            b.role,
            {k: v.numpy() for k, v in b.token_columns.items()},
            dict(b.columns),
            b.asides_as_lists(),
        )
        for b in group.branches
    ]
    truth = None if group.truth is None else group.truth.numpy()
    return replace(row, group=None), (group.name, group.prompt.numpy(), branches, truth)


def _received(row: EncodedRow, parts: tuple[Any, ...] | None) -> EncodedRow:
    if parts is None:
        return row
    name, prompt, branches, truth = parts
    made = tuple(
        Branch(_tensor(tokens), role, {k: _tensor(v) for k, v in of_tokens.items()}, columns, asides_of(asides))
        for tokens, role, of_tokens, columns, asides in branches
    )
    return replace(row, group=Group(name, _tensor(prompt), made, None if truth is None else _tensor(truth)))


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(values)
