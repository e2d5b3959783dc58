"""Data too large to hold gives, from disk, exactly what it would have given from memory; and knows when it is stale."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ByT5Tokenizer

from twofold.batch import Branch, Group, Role
from twofold.data import load as load_module
from twofold.data.encode import Encoded, encode
from twofold.data.lazy import Concat, MappedRows, concat
from twofold.data.load import load
from twofold.data.reading import Reading
from twofold.data.split import overlaps, split_by_prompt
from twofold.data.store import AT_ONCE
from twofold.data.stored_groups import StoredGroups, encode_stored, fingerprint, max_tokens, tokenizer_digest
from twofold.data.stored_records import StoredRecords
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Request, Source, Task

Write = Callable[..., str]
CHAT = (Message("system", "é"), Message("user", "a"))
TURNS = (
    Message("assistant", "", '{"thinking": "é"}', True),
    Message("tool", "t"),
    Message("assistant", "b", "", False),
)
SHOWN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture(autouse=True)
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fits into memory."""
    monkeypatch.setattr(load_module, "IN_MEMORY", 1)


def pairs(number: int) -> list[dict[str, Any]]:
    return [{"prompt": f"p{n % 7}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(number)]


def loaded(path: str, folder: Path, **how: Any) -> StoredRecords:
    records = load(Reading(path, **how), folder, Silent()).records
    assert isinstance(records, StoredRecords)
    return records


def same(one: Group, other: Group) -> bool:
    tokens = [
        [g.prompt, *(b.tokens for b in g.branches)] + ([] if g.truth is None else [g.truth]) for g in (one, other)
    ]
    equal = len(tokens[0]) == len(tokens[1]) and all(map(torch.equal, *tokens))
    numbers = [[(b.role, dict(b.columns), b.asides_as_lists()) for b in g.branches] for g in (one, other)]
    return equal and numbers[0] == numbers[1] and one.name == other.name


def made(tokenizer: Any, template: str | None = None, **settings: Any) -> Encoder:
    tokens = tokenizer(template) if template else tokenizer()
    return Encoder(tokens, frozenset({tokens.eos_token_id}), TokenizeSettings(**settings), "text")


@pytest.mark.parametrize(
    "record",
    [
        Pair("a", "b", "c", Source("", 2)),
        Pair(CHAT, "b", "ü\n", Source("", 2), 0.25),
        Pair("a", "b", "c", Source("", 2), margin=2.5, gold="d", weight=0.5),
        Demonstration(CHAT, "b", Source("", 2)),
        Demonstration(CHAT, "b", Source("", 2), 3.0),
        Ranking("a", ("b", "c"), Source("", 2), probability=0.75, weight=2.0),
        Labelled("a", "b", True, Source("", 2), 0.75, 0.0),
        Task("a", "1", Source("", 2)),
        Ranking("a", ("b", "c", "d"), Source("", 2), (3.0, 1.0, -1.0)),
        Ranking(CHAT, ("b", "c"), Source("", 2)),
        Labelled("a", "b", False, Source("", 2)),
        Request(CHAT, Source("", 2)),
        Pair((*CHAT, *TURNS), TURNS, "b", Source("", 2), gold=TURNS),
        Ranking(CHAT, (TURNS, "b"), Source("", 2)),
    ],
)
def test_a_record_comes_back_as_it_was(tmp_path: Path, record: Record) -> None:
    from twofold.data.stored_records import open_records, write_records

    rows = [replace(record, source=Source("f", n)) for n in (2, 5)]
    key = write_records(tmp_path, rows, lambda: ("k", {"a": 1}))
    found = open_records(tmp_path, key, "f")
    assert found is not None
    assert (list(found), found[1], found[-2], found[:1], found.facts) == (rows, rows[1], rows[0], rows[:1], {"a": 1})
    assert repr(list(found)) == repr(rows), "marks too, which do not count for what is equal"
    with pytest.raises(IndexError):
        found[2]


def test_rows_on_disk_are_those_in_memory(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("rows.jsonl", *pairs(2 * AT_ONCE + 3))
    records = loaded(path, tmp_path / "cache")
    monkeypatch.setattr(load_module, "IN_MEMORY", 10**6)
    held = load(Reading(path), tmp_path / "none", Silent())
    assert held.records == list(records) == [records[i] for i in range(len(records))]
    assert isinstance(held.records, list)
    first, second = split_by_prompt(records, count=900, seed=3)
    assert (list(first), list(second)) == split_by_prompt(held.records, count=900, seed=3)
    assert overlaps(first, second) == []
    assert overlaps(first, records[:9]) == overlaps(list(first), held.records[:9]) != []
    both = concat([records, held.records])
    assert isinstance(both, Concat)
    assert (list(both), both[len(records) + 1], both[-1]) == ([*held.records] * 2, records[1], records[-1])


def test_rows_of_much_text_are_not_held(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "IN_MEMORY", 10**6)
    path, reading = write("rows.jsonl", *pairs(30)), Reading(str(tmp_path / "rows.jsonl"))
    characters = 30 * 2 + 2 * (10 * 2 + 20 * 3)
    for most, is_stored in ((characters, False), (characters - 1, True)):
        monkeypatch.setattr(load_module, "TEXT_IN_MEMORY", most)
        found = load(reading, tmp_path / "cache", Silent()).records
        assert isinstance(found, StoredRecords) == is_stored
        assert [r.source for r in found] == [Source(path, n) for n in range(1, 31)]


def test_a_later_run_finds_them_unless_something_changed(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    path = write("rows.jsonl", *pairs(30))
    key = loaded(path, folder).key
    stamp = (folder / f"{key}.arrow").stat().st_mtime_ns
    assert loaded(path, folder).key == key
    assert (folder / f"{key}.arrow").stat().st_mtime_ns == stamp, "it was not written again"
    assert len({key, loaded(path, folder, limit=20).key, loaded(path, folder, columns={"prompt": "prompt"}).key}) == 3
    write("rows.jsonl", *pairs(31))
    assert (loaded(path, folder).key != key, len(loaded(path, folder))) == (True, 31)


@pytest.mark.parametrize("damage", ["flip", "cut", "facts", "gone"])
def test_what_is_damaged_is_made_again(write: Write, tmp_path: Path, damage: str) -> None:
    folder, path = tmp_path / "cache", write("rows.jsonl", *pairs(30))
    records = loaded(path, folder)
    sound, file, sheet = list(records), folder / f"{records.key}.arrow", folder / f"{records.key}.json"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-9])
    elif damage == "facts":
        sheet.write_text(sheet.read_text()[:-3])
    else:
        file.unlink()
    assert list(loaded(path, folder)) == sound


def test_errors_leave_nothing_behind_and_warnings_are_told_once_a_run(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(DataError, match=r"and 3 more errors: `twofold data check` names them all") as error:
        load(
            Reading(write("bad.jsonl", *pairs(9), {"prompt": "", "chosen": "a"}, {"chosen": 3}, '{"')), folder, Silent()
        )
    assert "bad.jsonl:10" in str(error.value)
    assert list(folder.glob("*")) == []
    progress = Silent()
    path = write("warned.jsonl", *pairs(9), *pairs(6))
    for _ in range(2):
        load(Reading(path), folder, progress)
    told = f"{path}: 6 × duplicate (rows 10, 11, 12, 13, 14, …). `twofold data check {path}` shows what to do"
    assert progress.warnings == [told, told]


def test_what_concerns_a_whole_file_is_told_in_words(write: Write, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "chosen": "a long answer", "rejected": f"{n}"} for n in range(120)]
    progress = Silent()
    load(Reading(write("long.jsonl", *rows)), tmp_path / "cache", progress)
    (told,) = progress.warnings
    assert "the longer answer is chosen in 100.0% of 120 pairs" in told
    assert " × " not in told


@pytest.mark.parametrize("rows", [
    pairs(40),
    [{**row, "weight": n % 3, "probability": 0.75} for n, row in enumerate(pairs(9))],
    [{"question": f"q{n}", "answer": f"{n}"} for n in range(9)],
    [{"prompt": f"q{n}", "completions": ["a", "b"], "scores": [2, n]} for n in range(2)],
    [{"prompt": [{"role": "user", "content": f"q{n}"}], "completion": f"{n}", "label": n > 3} for n in range(9)],
])  # fmt: skip
def test_groups_on_disk_are_those_in_memory(write: Write, tmp_path: Path, tokenizer: Any, rows: Any) -> None:
    records = loaded(write("rows.jsonl", *rows), tmp_path)
    encoder = made(tokenizer)
    stored, held = encode_stored(records, encoder, tmp_path, Silent()), encode(list(records), encoder)
    assert isinstance(stored.groups, StoredGroups)
    assert len(stored.groups) == len(held.groups)
    assert all(map(same, stored.groups, held.groups))
    assert all(same(stored.groups[i], held.groups[i]) for i in range(len(held.groups)))
    assert stored.counts() == held.counts()
    assert fingerprint(stored.groups) == fingerprint(held.groups)
    assert list(stored.groups.names()) == [g.name for g in held.groups]


def test_groups_of_several_kinds_are_in_one_batch(tmp_path: Path, tokenizer: Any) -> None:
    """A column of a batch has lists, empty ones and none, of several kinds of rows next to each other."""
    asked, at = (Message("user", "a"),), Source("f", 3)
    turns = Message("assistant", "b"), Message("tool", "t"), Message("assistant", "c")
    rows: list[Record] = [
        Pair("a", "b", "c", at, margin=2.0), Task("a", "1", at), Request("ab", at), Demonstration(asked, turns, at),
        Ranking("a", ("b", "c", "cc"), at, (3.0, 1.0, -1.0)), Task("ab", "11", at), Pair("a", "b", "c", at, gold="d"),
    ]  # fmt: skip
    encoder = made(tokenizer, SHOWN + ASKING)
    stored, held = encode_stored(rows, encoder, tmp_path, Silent()), encode(rows, encoder)
    assert len(held.groups) == len(rows)
    assert any(branch.asides for group in held.groups for branch in group.branches)
    assert all(map(same, stored.groups, held.groups))
    assert fingerprint(stored.groups) == fingerprint(held.groups)
    assert (stored.counts(), max_tokens(stored.groups)) == (held.counts(), max_tokens(held.groups))


def test_the_collector_leaves_out_what_was_there_before(tokenizer: Any) -> None:
    seen = list[int]()

    class Watching(Silent):
        def advance(self, task: str, steps: int = 1, **figures: float) -> None:
            seen.append(gc.get_freeze_count())

    encode([Pair("a", "b", "c", Source("f", 1))], made(tokenizer), Watching())
    assert seen[0] > 1000
    assert gc.get_freeze_count() == 0
    with pytest.raises(DataError):
        encode([Pair("a", "", "c", Source("f", 1))], made(tokenizer))
    assert gc.get_freeze_count() == 0, "also where a row is refused"


def test_tokens_are_made_again_for_another_tokenizer_template_or_setting(
    write: Write, tmp_path: Path, tokenizer: Any
) -> None:
    records = loaded(write("rows.jsonl", *pairs(20)), tmp_path)
    progress = Silent()

    def key(encoder: Encoder, rows: Any = records) -> str:
        groups = encode_stored(rows, encoder, tmp_path, progress).groups
        assert isinstance(groups, StoredGroups)
        return groups.key

    usual = key(made(tokenizer))
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.arrow")}
    assert key(made(tokenizer)) == usual
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.arrow")} == stamps, "nothing was tokenized again"
    merged = tokenizer(merges=(("c", "1"),))
    others = [
        key(made(tokenizer, "{% for m in messages %}{{ m.content }}{% endfor %}")),
        key(made(tokenizer, max_length=512)),
        key(Encoder(merged, frozenset({merged.eos_token_id}))),
        key(Encoder(tokenizer(), frozenset({tokenizer().eos_token_id}), chat="chat")),
        key(made(tokenizer), split_by_prompt(records, count=9, seed=0)[0]),
        key(made(tokenizer), MappedRows(records, lambda record: [record], "again")),
    ]
    assert len({usual, *others}) == 7
    assert progress.warnings == []


def test_a_tokenizer_is_told_by_its_words_and_by_how_it_cuts(tokenizer: Any) -> None:
    """Merges leave the vocabulary as it is; a tokenizer in Python has its vocabulary alone."""
    fast = [tokenizer(), tokenizer(merges=(("c", "1"),)), tokenizer("{{ messages }}")]
    slow = [ByT5Tokenizer(extra_ids=0), ByT5Tokenizer(extra_ids=1)]
    assert len({tokenizer_digest(each) for each in (*fast, *slow)}) == 5
    assert tokenizer_digest(tokenizer()) == tokenizer_digest(fast[0])
    assert tokenizer_digest(ByT5Tokenizer(extra_ids=0)) == tokenizer_digest(slow[0])


def test_what_was_dropped_is_told_from_the_cache_too(write: Write, tmp_path: Path, tokenizer: Any) -> None:
    records = loaded(write("rows.jsonl", *pairs(5), {"prompt": "p" * 30, "chosen": "a", "rejected": "b"}), tmp_path)
    progress = Silent()
    counts = [encode_stored(records, made(tokenizer, max_length=9), tmp_path, progress).counts() for _ in range(2)]
    assert counts[0] == counts[1]
    assert (counts[0]["used"], len(progress.warnings), len(set(progress.warnings))) == (5, 2, 1)


def test_a_folder_of_files_may_be_streamed(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "folder").mkdir()
    write("folder/rows.jsonl", *pairs(5))
    tables = [
        load(Reading(str(tmp_path / "folder"), stream=stream), tmp_path / "cache", Silent()) for stream in (True, False)
    ]
    assert list(tables[0].records) == list(tables[1].records)
    assert [record.chosen for record in tables[0].records if isinstance(record, Pair)] == ["c0", "c1", "c2", "c3", "c4"]
    assert tables[0].sha256 == tables[1].sha256


def test_texts_in_batches_are_tokenized_as_they_are_one_by_one(tokenizer: Any) -> None:
    one, many = made(tokenizer), made(tokenizer)
    rows: list[Record] = [
        Pair(prompt, "a b", "c</s>"[:n], Source("f", n)) for n, prompt in enumerate(("a ", CHAT, ""), 1)
    ]
    many.ahead(rows)
    assert all(same(one.group(row), many.group(row)) for row in rows)


def test_no_row_left_is_an_error_on_disk_too(write: Write, tmp_path: Path, tokenizer: Any) -> None:
    records = loaded(write("rows.jsonl", *pairs(5)), tmp_path)
    with pytest.raises(DataError, match="no row is left of 5"):
        encode_stored(records, made(tokenizer, max_length=2), tmp_path, Silent())


def test_the_counts_are_json(write: Write, tmp_path: Path, tokenizer: Any) -> None:
    stored: Encoded = encode_stored(
        loaded(write("rows.jsonl", *pairs(5)), tmp_path), made(tokenizer), tmp_path, Silent()
    )
    assert json.loads(json.dumps(stored.counts()))["rows"] == 5


def test_a_fingerprint_is_the_digest_of_lengths_tokens_and_numbers() -> None:
    """By value: a change would make every reference cache be computed again."""
    one = Branch(torch.tensor([3, 4]), Role.CHOSEN, columns={"margin": 0.5})
    group = Group("a", torch.tensor([1, 2]), (one, Branch(torch.tensor([5]), Role.REJECTED)), truth=torch.tensor([6]))
    parts = b"".join(
        len(row).to_bytes(8, "little") + b"".join(token.to_bytes(8, "little") for token in row)
        for row in ([1, 2], [3, 4], [5], [6])
    )
    expected = sha256(parts + b"[[('margin', 0.5)]]").hexdigest()[:16]
    assert fingerprint([group]) == expected
    assert fingerprint([group, group]) == sha256((parts + b"[[('margin', 0.5)]]") * 2).hexdigest()[:16]
