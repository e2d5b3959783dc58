"""Views of rows with their numbers, summed pages of tables, and rows that are like many others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.data.arrow_rows import damaged, tables
from twofold.data.arrow_rows import parquet as parquet_batches
from twofold.data.formats import scan
from twofold.data.issues import Issue
from twofold.data.packing_stats import Lengths
from twofold.data.preview import HIDDEN, Line, RowView, Span, in_words, row_view, visible
from twofold.data.profile import Profile
from twofold.data.readers import rows
from twofold.data.repeats import Overlap, Repeats
from twofold.data.survey import survey
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Message, Pair, Request, Source

Write = Callable[..., str]
PAIR = {"prompt": "a", "chosen": "bc", "rejected": "bd"}
AT = Source("f", 1)


def encoder(made: Any, **settings: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


def test_a_view_has_the_numbers_of_its_row(write: Write, tokenizer: Any) -> None:
    path = write("rows.jsonl", {**PAIR, "weight": 2, "probability": 0.75, "margin": 1}, PAIR)
    first, second = survey(scan(path), encoder(tokenizer(None)), 2, Silent()).views
    assert dict(first.numbers) == {"weight": 2.0, "probability": 0.75, "margin": 1.0}
    assert sorted(first.about.split(", ")) == ["margin 1", "probability 0.75", "weight 2"]
    assert (dict(second.numbers), second.about) == ({}, "")
    assert in_words({"weight": 1e-7, "margin": 12.5}) == "weight 1e-07, margin 12.5"


def test_turns_within_a_completion_that_are_not_scored_are_context(write: Write, tokenizer: Any) -> None:
    turns = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}</s>{% endfor %}"
    made = encoder(tokenizer(turns + "{% if add_generation_prompt %}[a]{% endif %}"))
    chat = [{"role": role, "content": text} for role, text in (("assistant", "x"), ("user", "y"), ("assistant", "z"))]
    path = write("rows.jsonl", {"prompt": [{"role": "user", "content": "q"}], "chosen": chat, "rejected": "w"})
    (view,) = survey(scan(path), made, 1, Silent()).views
    assert [(s.kind, s.text) for s in view.lines[0].spans] == [
        ("supervised", "x</s>"), ("context", "[u]y</s>[a]"), ("supervised", "z"), ("stop", "</s>"),
    ]  # fmt: skip
    assert [(s.kind, s.text) for s in view.lines[1].spans] == [("supervised", "w"), ("stop", "</s>")]


def test_a_view_by_hand() -> None:
    """Tokens are letters; the second of `one` is context, `!` stops."""

    def decode(ids: Any) -> str:
        return "".join(map(chr, ids))

    view = row_view(
        "f:1", [112], [("one", [97, 98, 99, 33]), ("two", [97, 98, 100])], decode, frozenset({33}),
        {"one": frozenset({1})},
    )  # fmt: skip
    shared, other = Span("shared", "a", 1), Span("shared", "ab", 2)
    assert view == RowView("f:1", Span("prompt", "p", 1), (
        Line("one", (shared, Span("context", "b", 1), Span("supervised", "c", 1), Span("stop", "!", 1))),
        Line("two", (other, Span("supervised", "d", 1))),
    ))  # fmt: skip
    assert (view.shared, [line.tokens for line in view.lines], [line.stops for line in view.lines]) == (
        1, [4, 3], [True, False],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (0x00, "␀"), (0x08, "␈"), (0x09, "\t"), (0x0A, "\n"), (0x0B, "␋"), (0x1F, "␟"), (0x20, " "), (0x7E, "~"),
        (0x7F, "␡"), (0x80, "⟨U+0080⟩"), (0x9F, "⟨U+009F⟩"), (0xA0, "\xa0"), (0x200A, "\u200a"), (0x200B, "⟨U+200B⟩"),
        (0x2027, "\u2027"), (0x2028, "⟨U+2028⟩"), (0x202E, "⟨U+202E⟩"), (0x202F, "\u202f"), (0x2065, "⟨U+2065⟩"),
        (0x2066, "⟨U+2066⟩"), (0x2069, "⟨U+2069⟩"), (0x206A, "\u206a"), (0xD800, "⟨U+D800⟩"), (0xFEFF, "⟨U+FEFF⟩"),
    ],
)  # fmt: skip
def test_what_a_reader_cannot_see_is_shown(code: int, shown: str) -> None:
    assert visible(chr(code)) == shown
    assert bool(HIDDEN.match(chr(code))) == (shown != chr(code))


def test_a_changed_letter_of_a_summed_page_is_refused(tmp_path: Path) -> None:
    """It would be another text to any reader who adds up nothing."""
    path = tmp_path / "rows.parquet"
    table = pa.table({"a": ["needle"]})
    for summed in (False, True):
        pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=summed,
                       write_statistics=False)  # fmt: skip
        data = path.read_bytes()
        assert data.count(b"needle") == 1
        path.write_bytes(data.replace(b"needle", b"noodle"))
        ((number, row),) = tables(parquet_batches, path, "f")
        if summed:
            assert isinstance(row, Issue)
            assert (number, row.check, row.reason[:26]) == (0, "unreadable", "not readable as parquet: c"[:26])
        else:
            assert (number, row) == (1, {"a": "noodle"})


def test_what_is_wrong_with_the_other_source_is_behind_all_rows(write: Write) -> None:
    """Even if both are one file, all of whose weights are 0."""
    path = write("rows.jsonl", {**PAIR, "weight": 0})
    assert [(f.row, f.check) for f in check(path, against=path).faults] == [
        (0, "no weight"), (1, "overlap"), (0, "no weight"),
    ]  # fmt: skip


def test_of_many_rows_that_are_alike_each_is_like_an_earlier_one() -> None:
    pytest.importorskip("datasketch")
    from twofold.data.signatures import Signatures

    draw = np.random.default_rng(0).integers(0, 2**63, (3, 30)).astype(np.uint64)
    made = Signatures(1)
    for row in range(120):
        made.add([draw[row % 3]], row)
    pairs = list(made.alike(1.0))
    assert [second for _, second, _ in pairs] == list(range(3, 120))
    assert all(first < second and first % 3 == second % 3 and share == 1.0 for first, second, share in pairs)


def test_a_damaged_table_is_named_by_the_first_line_of_its_error(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(b"")
    assert damaged([]) is None
    place = damaged([tmp_path / "a.arrow"])
    assert place is not None
    assert place[0] == tmp_path / "a.arrow"
    assert "\n" not in place[1]
    (number, issue), *more = rows(str(tmp_path / "a.arrow"))
    assert isinstance(issue, Issue)
    assert (number, issue.reason, more) == (0, f"not readable as Arrow: {place[1]}", [])


def test_opposites_are_named_by_the_first_of_them() -> None:
    seen = Repeats()
    for row, (text, good) in enumerate([("a", True), ("b", True), ("a", False), ("a", True), ("a", False)], 1):
        seen.see(Labelled("p", text, good, Source("f", row)))
    assert sorted((f.row, f.field, f.reason, f.severity) for f in seen.faults("f")) == [
        (1, "label", "contradicts row 3", "error"), (3, "label", "contradicts row 1", "error"),
        (4, "", "repeats row 1", "warning"), (4, "label", "contradicts row 3", "error"),
        (5, "", "repeats row 3", "warning"), (5, "label", "contradicts row 1", "error"),
    ]  # fmt: skip


def test_an_overlap_names_the_first_row_of_the_other_source() -> None:
    seen = Overlap()
    for row, prompt in ((4, "a"), (2, "a"), (3, "b")):
        seen.other.see(Request(prompt, Source("g", row)), {})
    for row, prompt in ((1, "a"), (2, "c"), (5, "b"), (6, "a")):
        seen.see(Request(prompt, Source("f", row)), {})
    assert sorted((f.row, f.reason) for f in seen.faults("f")) == [
        (1, "is also at g:2"), (5, "is also at g:3"), (6, "is also at g:2"),
    ]  # fmt: skip
    assert list(seen.other.faults("g")) == []


def test_a_chat_is_measured_by_all_of_its_turns() -> None:
    """Further keys of a turn are a line of their own."""
    profile = Profile()
    chat = (Message("user", "ab", '{"name": "n"}'), Message("assistant", "c"))
    profile.see(Demonstration(chat, "d", AT), {})
    assert list(profile.lengths["prompt"]) == [len('ab\n{"name": "n"}\nc')]
    profile.see(Pair("p", "abc", "d", AT), {"source": "s", "chosen_model": "m", "rejected_model": "n"})
    assert list(profile.differences) == [2]
    assert profile.longer_by_origin(1)[0][0] == "s"
    assert profile.longer_by_origin(0) == profile.win_rates(0) == []


def test_a_prompt_without_completions_is_a_sequence_of_its_own() -> None:
    assert (Lengths(3, ()).apart, Lengths(3, ()).together) == ((3,), 3)
    assert (Lengths(0, (2,)).apart, Lengths(0, (2,)).together) == ((2,), 2)
