"""Processes that tokenize: how far they are ahead, what they are told of threads, and rows as they travel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from twofold.batch import Aside, Branch, Group, Role
from twofold.data import workers as module
from twofold.data.tokenize import EncodedRow
from twofold.data.workers import Workers, workers
from twofold.records import Record, Request, Source


class Pool:
    """Answers at once, and counts what was asked of it."""

    def __init__(self, *how: Any) -> None:
        self.how, self.asked, self.ended = how, list[Any](), list[Any]()

    def submit(self, work: Callable[..., Any], chunk: list[Record]) -> Future[Any]:
        self.asked.append(chunk)
        future = Future[Any]()
        future.set_result([])
        return future

    def shutdown(self, **how: Any) -> None:
        self.ended.append(how)


def request(number: int) -> list[Record]:
    return [Request(str(number), Source("f", number))]


def test_chunks_are_three_ahead_for_each_process() -> None:
    pool: Any = Pool()
    chunks = [request(number) for number in range(10)]
    made: Iterator[Any] = Workers(None, pool, 2).rows(iter(chunks))  # type: ignore[arg-type]  # never asked
    assert next(made) == (chunks[0], [])
    assert pool.asked == chunks[:6]
    assert next(made) == (chunks[1], [])
    assert pool.asked == chunks[:7]
    assert [chunk for chunk, _ in made] == chunks[2:]
    assert list(Workers(None, pool, 2).rows(iter([]))) == []  # type: ignore[arg-type]


def test_processes_have_one_thread_and_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    encoder: Any = object()
    with workers(encoder, 3) as made:
        pool: Any = made.pool
        assert (os.environ["OMP_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"]) == ("1", "false")
        assert (made.encoder, made.count, pool.ended) == (encoder, 3, [])
        count, context, begin, arguments = pool.how
        assert (count, context.get_start_method(), begin, arguments) == (3, "spawn", module._begin, (encoder,))
    assert pool.ended == [{"cancel_futures": True}]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    with pytest.raises(KeyError), workers(encoder, 1) as made:
        raise KeyError
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_process_begins_with_its_encoder_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[int]()
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(module, "_encoder", None)
    with pytest.raises(AssertionError, match="the pool begins with it"):
        module._made([])
    encoder: Any = object()
    module._begin(encoder)
    assert (module._encoder, threads) == (encoder, [1])


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


@pytest.mark.parametrize("truth", [None, ids(9)])
def test_a_row_arrives_as_it_was_sent(truth: torch.Tensor | None) -> None:
    """With its columns, the columns of its tokens and the turns in between."""
    between = (Aside(1, ids(5, 6), fresh=True),)
    branch = Branch(ids(1, 2), Role.CHOSEN, {"label": torch.tensor([0.5, 1.0])}, {"weight": 2.0}, between)
    row = EncodedRow(Group("f:1", ids(7), (branch, Branch(ids(3), Role.REJECTED)), truth), 4, merged=1, form="chat")
    sent, parts = module._sent(row)
    assert sent.group is None
    found = module._received(sent, parts)
    assert (found.tokens, found.merged, found.form) == (4, 1, "chat")
    assert found.group is not None
    assert (found.group.name, found.group.prompt.tolist()) == ("f:1", [7])
    first, second = found.group.branches
    assert (first.tokens.tolist(), first.role, dict(first.columns)) == ([1, 2], Role.CHOSEN, {"weight": 2.0})
    assert first.token_columns["label"].tolist() == [0.5, 1.0]
    assert [(a.at, a.tokens.tolist(), a.fresh) for a in first.asides] == [(1, [5, 6], True)]
    assert (second.tokens.tolist(), second.role, second.asides) == ([3], Role.REJECTED, ())
    assert (None if found.group.truth is None else found.group.truth.tolist()) == (None if truth is None else [9])


def test_a_row_without_a_group_arrives_as_it_is() -> None:
    row = EncodedRow(None, 7, cut_prompt=True)
    assert module._received(*module._sent(row)) == row
