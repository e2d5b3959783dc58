"""The key of a stored table: what decides it, and what does not; and what a run is told of a table that is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.heard import Tasks
from twofold.data import formats, stored_groups, stored_records
from twofold.data import load as load_module
from twofold.data.load import _key, code, load
from twofold.data.reading import Reading
from twofold.data.stored_groups import StoredGroups, encode_stored, tokenizer_digest
from twofold.data.tokenize import Encoder
from twofold.errors import DataError
from twofold.progress import Silent
from twofold.records import Pair, Source

Write = Callable[..., str]
ROWS = [{"prompt": str(n), "chosen": "b", "rejected": "c"} for n in range(3)]


def test_the_key_is_of_what_is_read_and_not_of_where_it_is_or_of_the_order_of_columns() -> None:
    first = Reading("a.jsonl", columns={"prompt": "q", "chosen": "good"})
    turned = replace(first, columns={"chosen": "good", "prompt": "q"})
    assert _key(first, "known") == _key(turned, "known") == _key(replace(first, source="b.jsonl"), "known")
    assert len({_key(first, "known"), _key(first, "other"), _key(replace(first, split="test"), "known")}) == 3
    assert (len(_key(first, "known")), len(code())) == (32, 16)


def test_a_file_is_summed_once_and_its_check_is_shown(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, heard = write("rows.jsonl", *ROWS), Tasks()
    monkeypatch.setattr(formats, "digest", lambda _: "summed again")
    table = load(Reading(path), tmp_path / "cache", heard)
    assert table.sha256 == sha256(Path(path).read_bytes()).hexdigest()
    task = f"check {path}"
    assert heard.calls == [("begin", task, 3), ("advance", task, 3), ("end", task)]


def test_a_damaged_table_is_named_and_made_again(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "IN_MEMORY", 1)
    path, folder, silent = write("rows.jsonl", *ROWS), tmp_path / "cache", Silent()
    load(Reading(path), folder, silent)
    (sheet,) = folder.glob("*.json")
    sheet.with_suffix(".arrow").write_bytes(b"x")
    table = load(Reading(path), folder, silent)
    assert silent.warnings == [f"{sheet}: what is kept here is damaged; the rows are read again"]
    assert [record.prompt for record in table.records] == ["0", "1", "2"]
    monkeypatch.setattr(stored_records, "open_records", lambda *_: None)
    with pytest.raises(DataError) as error:
        load(Reading(path), folder, Silent())
    assert error.value.what == "the rows just written cannot be read again"
    assert (error.value.where, error.value.remedy) == (str(sheet.with_suffix("")), "check the disk")


def test_tokens_that_cannot_be_read_again_are_an_error(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tokenizer(None)
    rows, encoder = [Pair("p", "a", "b", Source("f", 1))], Encoder(made, frozenset({made.eos_token_id}))
    groups = encode_stored(rows, encoder, tmp_path, Silent()).groups
    assert isinstance(groups, StoredGroups)
    assert (len(groups.key), len(groups.digest)) == (32, 16)
    monkeypatch.setattr(stored_groups, "_open", lambda *_: None)
    with pytest.raises(DataError) as error:
        encode_stored(rows, encoder, tmp_path, Silent())
    assert error.value.what == "the tokens just written cannot be read again"
    assert (error.value.where, error.value.remedy) == (str(tmp_path), "check the disk")


class Words:
    """A tokenizer in Python that knows some words."""

    special_tokens_map, chat_template = dict[str, str](), None

    def __init__(self, *words: str) -> None:
        self._words = words

    def get_vocab(self) -> dict[str, int]:
        return {word: ord(word) for word in self._words}


def test_a_vocabulary_is_the_same_in_any_order() -> None:
    one, turned, other = (tokenizer_digest(Words(*words)) for words in ("ab", "ba", "ac"))  # type: ignore[arg-type]
    assert one == turned != other
