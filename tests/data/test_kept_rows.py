"""Rows for training and their tokens: refused with how many faults, told by kind, and kept by what made them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from twofold.batch import Branch, Group, Role
from twofold.data import load as load_module
from twofold.data.encode import Encoded, Spread, described_in_all, encode
from twofold.data.issues import IssueError
from twofold.data.load import load
from twofold.data.reading import Reading
from twofold.data.store import opened, write
from twofold.data.stored_groups import encode_stored, fingerprint, max_tokens
from twofold.data.stored_records import open_records, write_records
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError
from twofold.progress import Silent
from twofold.records import Demonstration, Pair, Request, Source, Task

Write = Callable[..., str]
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
AT = Source("f", 4)


def encoder(made: Any, **settings: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


@pytest.mark.parametrize(
    ("bad", "more"),
    [(1, ""), (2, " (and 1 more error: `twofold data check` names them all)"),
     (3, " (and 2 more errors: `twofold data check` names them all)")],
)  # fmt: skip
def test_the_first_error_says_how_many_there_are(write: Write, tmp_path: Path, bad: int, more: str) -> None:
    path = write("rows.jsonl", PAIR, *[{**PAIR, "prompt": str(n), "chosen": ""} for n in range(bad)])
    with pytest.raises(IssueError) as error:
        load(Reading(path), tmp_path / "cache", Silent())
    assert (error.value.where, error.value.what) == (f"{path}:2, `chosen`", "is empty")
    assert error.value.remedy == "fill `chosen` or remove the row" + more
    assert error.value.fault.check == "empty field"


def test_warnings_are_told_by_kind_with_their_rows(write: Write, tmp_path: Path) -> None:
    one = write("one.jsonl", PAIR, PAIR)
    six = write("six.jsonl", *[PAIR] * 6, {**PAIR, "prompt": "\x07"})
    silent, loud = Silent(), Silent()
    load(Reading(write("none.jsonl", PAIR)), tmp_path, silent)
    for path in (one, six):
        load(Reading(path), tmp_path, loud)
    assert silent.warnings == []
    assert loud.warnings == [
        f"{one}: 1 × duplicate (row 2). `twofold data check {one}` shows what to do",
        f"{six}: 5 × duplicate (rows 2, 3, 4, 5, 6); 1 × control character (row 7). `twofold data check {six}` shows "
        "what to do",
    ]
    with pytest.raises(DataError, match="has no rows"):
        load(Reading(write("empty.jsonl", end="")), tmp_path, Silent())
    assert (load_module.IN_MEMORY, load_module.MOST_TOLD) == (20_000, 5)


def test_rows_that_just_do_not_fit_are_on_disk(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("rows.jsonl", *[{**PAIR, "prompt": str(n)} for n in range(3)])
    for most, held in ((4, True), (3, False), (2, False)):
        monkeypatch.setattr(load_module, "IN_MEMORY", most)
        table = load(Reading(path), tmp_path / "cache", Silent())
        assert isinstance(table.records, list) is held
        assert [r.prompt for r in table.records] == ["0", "1", "2"]
        assert (table.format, table.source) == ("prompt + chosen + rejected", path)


def test_a_store_holds_batches_of_rows_and_what_is_known_of_them(tmp_path: Path) -> None:
    schema = pa.schema({"n": pa.int64()})

    def columns(numbers: list[int]) -> list[pa.Array]:
        return [pa.array(numbers)]

    key = write_store = write(tmp_path / "deep", schema, iter(range(2050)), columns, lambda: ("k", {"a": 1}))
    assert write_store == key == "k"
    found = opened(tmp_path / "deep", "k")
    assert found is not None
    batches, facts = found
    assert (len(batches), facts, [b.num_rows for b in batches]) == (2050, {"a": 1}, [1024, 1024, 2])
    for row in (0, 1023, 1024, 2047, 2048, 2049, 5):
        batch, place = batches.find(row)
        assert batch.column("n")[place].as_py() == row
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["k.arrow", "k.json"]
    sheet = json.loads((tmp_path / "deep" / "k.json").read_text())
    assert "1024" in json.dumps(sheet)
    assert opened(tmp_path, "k") is None
    (tmp_path / "deep" / "k.arrow").rename(tmp_path / "deep" / "other.arrow")
    assert opened(tmp_path / "deep", "k") is None

    def broken() -> Any:
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        write(tmp_path / "deep", schema, broken(), columns, lambda: ("x", {}))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["k.json", "other.arrow"]


def test_records_keep_the_digests_of_their_problems(tmp_path: Path) -> None:
    from twofold.data.split import problems

    rows = [
        Pair("a", "b", "c", Source("f", 2)),
        Task("a ", "1", Source("f", 5)),
        Demonstration("", "t", Source("f", 6)),
    ]
    write_records(tmp_path, rows, lambda: ("k", {}))
    found = open_records(tmp_path, "k", "f")
    assert found is not None
    assert found.problems.tolist() == problems(rows).tolist()
    assert open_records(tmp_path, "gone", "f") is None


def groups() -> list[Group]:
    def tokens(*ids: int) -> torch.Tensor:
        return torch.tensor(ids)

    return [
        Group("a", tokens(1, 2), (Branch(tokens(3), Role.CHOSEN), Branch(tokens(4, 5), Role.REJECTED))),
        Group("b", tokens(1, 2), (), tokens(6)),
        Group("c", tokens(1), (Branch(tokens(3), Role.RANKED, columns={"level": 1.0}),)),
    ]


def test_fingerprints_tell_tokens_and_numbers_apart_and_not_names() -> None:
    made = groups()
    first = fingerprint(made)
    assert (len(first), fingerprint(groups())) == (16, first)
    others = [made[:2], made[::-1], [*made[:2], Group("c", made[2].prompt, (Branch(torch.tensor([3]), Role.RANKED),))],
              [made[0], Group("b", torch.tensor([1, 2]), (Branch(torch.tensor([6]), Role.TRUTH),)), made[2]],
              [made[0], Group("b", torch.tensor([1, 2]), ()), made[2]]]  # fmt: skip
    assert len({first, *(fingerprint(o) for o in others)}) == 5  # a truth and a branch are the same tokens
    renamed = [Group("z", g.prompt, g.branches, g.truth) for g in made]
    assert fingerprint(renamed) == first
    assert max_tokens(made) == 3


def test_stored_tokens_know_the_longest_and_say_what_was_damaged(tmp_path: Path, tokenizer: Any) -> None:
    made, rows = encoder(tokenizer(None)), [Pair("abc", "d", "ef", AT), Pair("a", "b", "c", AT)]
    stored, progress = encode_stored(rows, made, tmp_path, Silent()), Silent()
    assert max_tokens(stored.groups) == max_tokens(encode(rows, made).groups) == 3 + 1 + 2
    (sheet,) = tmp_path.glob("*.json")
    sheet.with_suffix(".arrow").write_bytes(b"x")
    again = encode_stored(rows, made, tmp_path, progress)
    assert progress.warnings == [f"{sheet}: what is kept here is damaged; the tokens are made again"]
    assert fingerprint(again.groups) == fingerprint(stored.groups)


def test_what_was_done_to_rows_is_counted_and_told(tokenizer: Any) -> None:
    made, progress = encoder(tokenizer(None), max_length=4), Silent()
    rows = [Demonstration("a", "b", Source("f", n)) for n in range(3)]
    rows += [Demonstration("abcd", "e", Source("f", n)) for n in range(3, 8)]
    found = encode(rows, made, progress)
    assert progress.warnings == ["5 of 8 rows dropped: longer than 4 tokens (f:3, f:4, f:5 …)"]
    assert found.counts() == {
        "rows": 8, "used": 3, "dropped": ("f:3", "f:4", "f:5", "f:6", "f:7"), "cut_prompt": 0, "cut_completion": 0,
        "stop_cut": 0, "merged": 0, "prompt_tokens": {"mean": 1.0, "max": 1},
        "completion_tokens": {"mean": 2.0, "max": 2},
        "forms": {"text": 8}, "guesses": {},
    }  # fmt: skip
    assert found.num_groups == 3
    for truncation, told in (
        ("cut_prompt", "1 of 1 prompts cut from the left to fit 4 tokens"),
        ("cut_completion", "2 completions cut to fit 4 tokens: they have no stop token"),
    ):
        progress = Silent()
        how = encoder(tokenizer(None), max_length=4, truncation=truncation)
        encode(
            [Pair("ab", "cde", "cdf", AT)] if "comp" in truncation else [Demonstration("abcd", "e", AT)], how, progress
        )
        assert progress.warnings == [told]
    with pytest.raises(DataError, match=r"^no row is left of 0\n  → provide rows"):
        encode([], made)
    with pytest.raises(DataError, match=r"^no row is left of 1\n  → raise max_length \(now 4\)"):
        encode([Demonstration("abcd", "e", AT)], made)
    asked = encode([Request("ab", AT)], made)
    assert (asked.prompt_tokens, asked.completion_tokens) == (Spread(2.0, 2), Spread(0.0, 0))
    assert described_in_all([asked, found], made) == "9 as bare text: the tokenizer has no chat template"
    assert isinstance(asked, Encoded)
