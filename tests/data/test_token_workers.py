"""Rows tokenized by several processes: the same groups, the same bytes on disk, the same errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from twofold.data import workers as module
from twofold.data.dataset import encode_rows
from twofold.data.encode import AT_ONCE, encode
from twofold.data.load import load
from twofold.data.reading import Reading
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.workers import Workers
from twofold.errors import DataError
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Source, Task

Make = Callable[..., Any]
CHAT = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))


def encoder(tokenizer: Make, **settings: Any) -> Encoder:
    made = tokenizer(eos_token="<|im_end|>")
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


def rows(count: int) -> list[Record]:
    """Of every kind, some too long for 64 tokens."""
    kinds: tuple[Callable[[int, Source], Record], ...] = (
        lambda n, s: Pair(f"say {n}", "x" * (n % 90), "no", s, margin=1.5, gold="gold"),
        lambda n, s: Ranking(f"rank {n}", ("a", "b", "c"), s, scores=(3.0, 2.0, 2.0)),
        lambda n, s: Labelled(f"label {n}", "fine", n % 2 == 0, s),
        lambda n, s: Task(f"add {n}", f"#### {n}", s),
        lambda n, s: Demonstration(CHAT, f"d {n}", s),
    )
    return [kinds[n % len(kinds)](n + 1, Source("f", n + 1)) for n in range(count)]


def same(a: Any, b: Any) -> bool:
    """Two groups, by name, tokens, types and numbers."""
    told = [
        [(g.name, g.prompt.dtype, g.prompt.tolist(), g.truth if g.truth is None else g.truth.tolist(),
          [(x.tokens.dtype, x.tokens.tolist(), x.role, dict(x.columns)) for x in g.branches]) for g in each]
        for each in (a, b)
    ]  # fmt: skip
    return told[0] == told[1]


def test_rows_come_back_from_a_process_as_they_are_made_here(tokenizer: Make) -> None:
    """A thread takes the process's place; rows travel as they would."""
    made = encoder(tokenizer, max_length=40, loss_on="all")
    chunks = [rows(40)[i : i + 7] for i in range(0, 40, 7)]
    module._begin(encoder(tokenizer, max_length=40, loss_on="all"))
    with ThreadPoolExecutor(1) as pool:
        found = list(Workers(made, pool, 1).rows(iter(chunks)))  # type: ignore[arg-type]  # another pool
    assert [chunk for chunk, _ in found] == chunks
    for chunk, arrived in found:
        own = made.rows(chunk)
        assert same([r.group for r in arrived if r.group], [r.group for r in own if r.group])
        facts = [(r.tokens, r.merged, r.form, r.guess, r.cut_prompt, r.stop_cut, r.group is None) for r in arrived]
        assert facts == [(r.tokens, r.merged, r.form, r.guess, r.cut_prompt, r.stop_cut, r.group is None) for r in own]
    assert any(r.group is None for _, arrived in found for r in arrived), "or nothing was too long"


def test_what_a_process_refuses_is_explained_here(tokenizer: Make) -> None:
    strict = encoder(tokenizer, max_length=64, truncation="refuse")
    module._begin(encoder(tokenizer, max_length=64, truncation="refuse"))
    long = [Pair("p", "x" * 90, "no", Source("f", 3))]
    with ThreadPoolExecutor(1) as pool, pytest.raises(DataError, match=r"f:3.*max_length is 64"):
        list(Workers(strict, pool, 1).rows(iter([rows(1), long])))  # type: ignore[arg-type]  # another pool


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(tokenizer: Make, tmp_path: Path) -> None:
    """Two start in some ten seconds."""
    made, some = encoder(tokenizer, max_length=64), rows(3 * AT_ONCE + 5)
    alone, several = encode(some, made), encode(some, made, workers=2)
    assert alone.counts() == several.counts()
    assert same(alone.groups, several.groups)
    path = tmp_path / "rows.jsonl"
    pairs = ({"prompt": f"p {n}", "chosen": f"c {n}", "rejected": "no"} for n in range(20_100))
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
    for count in (0, 2):
        records = load(Reading(str(path)), tmp_path / "rows", Silent()).records
        encode_rows(records, made, tmp_path / f"tokens-{count}", Silent(), count)
    files = [sorted((tmp_path / f"tokens-{count}").iterdir()) for count in (0, 2)]
    assert [p.name for p in files[0]] == [p.name for p in files[1]]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
