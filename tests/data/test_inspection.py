"""What a check tells of a whole source: counts, repeats, contradictions, overlaps, guesses and lengths, by value."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.heard import Tasks
from twofold.data.formats import Stream, texts
from twofold.data.lengths import Histogram
from twofold.data.reading import Reading
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import (
    _CONTROL_BYTES,
    CHECKS,
    Inspection,
    Report,
    _may_have_controls,
    check,
    control_characters,
)
from twofold.records import Message, Request, Source

Write = Callable[..., str]
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"


def row(prompt: Any = "a", chosen: str = "b", rejected: str = "c") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def encoder(made: Any, **settings: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


def faults(report: Report) -> list[tuple[int, str, str, str, str]]:
    assert all(f.remedy for f in report.faults)
    return [(f.row, f.field, f.check, f.severity, f.reason) for f in report.faults]


def test_a_report_of_nothing_wrong(write: Write) -> None:
    path = write("rows.jsonl", row("1"), row("2", "bb"))
    report = check(path)
    assert report.bias is not None
    assert (report.source, report.format, report.rows, report.records) == (path, "prompt + chosen + rejected", 2, 2)
    assert (report.faults, report.errors, report.warnings, report.ok, report.counts) == ((), (), (), True, {})
    assert (report.bias.chosen, report.bias.same, report.tokens, report.prompts) == (1, 1, None, "")
    assert Report("a", "b", 0, 0, ()) == Report("a", "b", 0, 0, (), bias=None, tokens=None, prompts="")
    assert check(write("asked.jsonl", {"prompt": "1"})).bias is None


def test_repeats_name_the_first_and_contradictions_both(write: Write) -> None:
    report = check(write("rows.jsonl", row("1"), row("1"), row("2"), row("1"), row("1", "c", "b")))
    assert faults(report) == [
        (1, "", "contradiction", "error", "prefers what row 5 rejects"),
        (2, "", "duplicate", "warning", "repeats row 1"),
        (2, "", "contradiction", "error", "prefers what row 5 rejects"),
        (4, "", "duplicate", "warning", "repeats row 1"),
        (4, "", "contradiction", "error", "prefers what row 5 rejects"),
        (5, "", "contradiction", "error", "prefers what row 1 rejects"),
    ]
    assert (report.records, report.rows) == (1, 5)
    assert list(report.counts.items()) == [("contradiction", 4), ("duplicate", 2)]
    same = check(write("same.jsonl", row("1", "b", "b")))
    assert [f.check for f in same.faults] == ["chosen = rejected"]


def test_labels_that_contradict_each_other(write: Write) -> None:
    label = {"prompt": "1", "completion": "x"}
    report = check(write("rows.jsonl", {**label, "label": True}, {**label, "prompt": "2", "label": False},
                         {**label, "label": False}))  # fmt: skip
    assert faults(report) == [
        (1, "label", "contradiction", "error", "contradicts row 3"),
        (3, "label", "contradiction", "error", "contradicts row 1"),
    ]
    assert report.faults[0].remedy == "keep the row that is right"


@pytest.mark.parametrize(
    ("rows", "blank"),
    [
        ([{"prompt": " ", "completion": "a"}, {"prompt": "b", "completion": "a"}], [1]),
        ([{"text": "a"}, {"text": "b"}], []),
        ([{"prompt": "", "chosen": "a", "rejected": "b"}], [1]),
        ([{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "\n"}], "completion": "a"}], [1]),
    ],
)
def test_prompts_that_ask_nothing_are_warned_of(write: Write, rows: list[Any], blank: list[int]) -> None:
    found = [(f.row, f.field, f.reason) for f in check(write("rows.jsonl", *rows)).warnings]
    assert found == [(n, "prompt", "is empty or white space") for n in blank]


@pytest.mark.parametrize(
    ("text", "place"),
    [("a\tb\nc\r", None), ("ab\x00", (0x00, 3)), ("\x08", (0x08, 1)), ("a\x0b", (0x0B, 2)), ("\x0c", (0x0C, 1)),
     ("\x0e", (0x0E, 1)), ("\x1f", (0x1F, 1)), ("x\x7f", (0x7F, 2)), ("\x9f", (0x9F, 1)), ("\xa0", None),
     ("a\ufffdb\x00", (0xFFFD, 2)), (" ~é", None)],
)  # fmt: skip
def test_control_characters_are_named_by_their_place(text: str, place: tuple[int, int] | None) -> None:
    record = Request((Message("user", "a"), Message("user", text)), Source("f", 3))
    found = [(f.file, f.row, f.field, f.severity, f.reason) for f in control_characters(record, texts(record))]
    reason = "" if place is None else f"holds the control character U+{place[0]:04X} at position {place[1]}"
    assert found == ([("f", 3, "prompt", "warning", reason)] if reason else [])
    assert control_characters in CHECKS


def test_only_what_may_hold_control_characters_is_searched() -> None:
    """By bytes: what is below a space but for tab and line ends, DEL, and what C1 controls and U+FFFD begin with."""
    assert bytes([*range(9), 11, 12, *range(14, 32), 127]) == _CONTROL_BYTES
    assert not any(map(_may_have_controls, ("", "a\tb\r\n ~", "ÀÉ€語", "\ud800")))
    assert all(map(_may_have_controls, ("a\x0b", "\x7f", "\x80", "é\x9f", "\ufffd")))


def test_texts_of_a_ranking_that_are_the_same_are_named_by_the_first(write: Write) -> None:
    report = check(write("rows.jsonl", {"prompt": "a", "completions": ["x", "y", " x", "y\n", "x"]}))
    assert [(f.field, f.reason, f.check) for f in report.faults] == [
        ("completions[3]", "is the same as `completions[1]`", "same rank"),
        ("completions[4]", "is the same as `completions[2]`", "same rank"),
        ("completions[5]", "is the same as `completions[1]`", "same rank"),
    ]
    assert report.records == 0


def test_lengths_are_those_of_prompts_with_their_longest_completion(write: Write, tokenizer: Any) -> None:
    path = write("rows.jsonl", row("abc", "d", "ef"), row("a", "b", "c"), {**row("x"), "rejected": None})
    report = check(path, encoder=encoder(tokenizer(None)))
    assert report.tokens == Histogram((0, 4, 8), (1, 1), 4.5, 4.5, pytest.approx(5.97), 6)  # type: ignore[arg-type]
    assert report.bias is not None
    assert (report.bias.rejected, report.bias.same, report.bias.pairs) == (1, 1, 2)
    assert report.prompts == "2 as bare text: the tokenizer has no chat template"
    assert check(path).tokens is None
    triple = check(write("triple.jsonl", {**row("a", "bb", "c"), "gold": "ddd"}), encoder=encoder(tokenizer(None)))
    assert triple.bias is not None
    assert (triple.bias.chosen, triple.bias.pairs) == (1, 1)


def test_the_longer_answer_is_counted_in_tokens_where_there_is_an_encoder(write: Write, tokenizer: Any) -> None:
    path = write("rows.jsonl", row("1", "aaaa", "bb"))
    made = encoder(tokenizer(None, merges=(("a", "a"), ("aa", "aa"))))
    by_letters, by_tokens = check(path).bias, check(path, encoder=made).bias
    assert by_letters is not None
    assert by_tokens is not None
    assert (by_letters.chosen, by_tokens.rejected) == (1, 1)


def test_a_template_that_ends_no_answer_is_warned_of_once(write: Write, tokenizer: Any) -> None:
    made = encoder(tokenizer(TURNS.replace("</s>", "\n") + ASKING))
    chats = [{"prompt": [{"role": "user", "content": str(n)}], "completion": "a"} for n in range(3)]
    report = check(write("rows.jsonl", "", *chats), encoder=made)
    assert faults(report) == [
        (0, "", "stop token missing", "warning",
         "the chat template ends 3 answers (first in row 2) without a stop token; </s> is added"),
    ]  # fmt: skip
    assert report.faults[0].remedy.startswith("let the template end an assistant turn with </s>, or")
    assert report.prompts == "3 as chats in the model's chat template"


def test_guesses_of_prompts_are_warned_of_by_kind(write: Write, tokenizer: Any) -> None:
    made = encoder(tokenizer(TURNS + ASKING))
    rows = [row("Question: 1\nAnswer:"), row("What is [INST]?"), row("Question: 2\nAnswer:"), row("plain")]
    report = check(write("rows.jsonl", *rows), encoder=made)
    place = f"{report.source}:"
    assert [(f.row, f.field, f.severity, f.check, f.reason) for f in report.faults] == [
        (0, "prompt", "warning", "guessed prompt", f"2 prompts, the first at {place}1: looks like a transcript of no "
         "known form, ends with `Answer:`, and is put as one user's turn"),
        (0, "prompt", "warning", "guessed prompt", f"1 prompt, the first at {place}2: holds [INST], a mark of a chat "
         "template, and is put as one user's turn"),
    ]  # fmt: skip
    assert report.prompts == "4 as a user's turn in the model's chat template"


def test_a_shared_beginning_before_a_template_is_a_guess(write: Write, tokenizer: Any) -> None:
    path = write("rows.jsonl", {"chosen": "The sky is blue", "rejected": "The sky is green"})
    (fault,) = check(path, encoder=encoder(tokenizer(TURNS + ASKING))).faults
    assert fault.reason == "prompts are what both texts begin with, up to a word, and are put as a user's turn"
    assert (fault.row, fault.field, fault.check) == (0, "prompt", "guessed prompt")
    assert check(path, encoder=encoder(tokenizer(None))).faults == ()


def test_every_turn_that_is_supervised_is_looked_at_up_to_the_first_fault(write: Write, tokenizer: Any) -> None:
    said = ("1", "a", "2", "b" * 30, "3", "c" * 40)
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    path = write("rows.jsonl", {"messages": messages})
    report = check(path, encoder=encoder(tokenizer(TURNS + ASKING), max_length=60, loss_on="all"))
    assert [(f.row, f.check) for f in report.faults] == [(1, "over-long")]
    assert report.tokens is not None
    assert sum(report.tokens.counts) == 2
    assert report.prompts == "2 as chats in the model's chat template"


def test_prompts_of_the_other_source_are_errors_by_their_rows(write: Write) -> None:
    train = write("train.jsonl", row("x"), "", row("a  b"), row("c"), row("a b", "y", "z"))
    test = write("test.jsonl", "", {"question": "d", "answer": "1"}, {"question": "c", "answer": "1"},
                 {"question": "a b", "answer": "1"}, {"question": " a b", "answer": "2"})  # fmt: skip
    report = check(train, against=test)
    assert faults(report) == [
        (3, "prompt", "overlap", "error", f"is also at {test}:4"),
        (4, "prompt", "overlap", "error", f"is also at {test}:3"),
        (5, "prompt", "overlap", "error", f"is also at {test}:4"),
    ]
    assert (report.rows, report.records) == (4, 1)
    assert {f.file for f in report.faults} == {train}


def test_the_other_source_is_read_under_the_same_columns_and_must_be_there(write: Write) -> None:
    train = write("train.jsonl", {"q": "1", "answer": "2"})
    test, gone = write("test.jsonl", {"q": "1", "answer": "3"}), "gone.jsonl"
    columns = {"prompt": "q"}
    assert [f.check for f in check(train, columns=columns, against=test).faults] == ["overlap"]
    report = check(train, columns=columns, against=gone)
    assert [(f.file, f.row, f.reason, f.check) for f in report.faults] == [(gone, 0, "no such file", "unreadable")]
    assert report.records == 1
    empty = check(train, columns=columns, against=write("empty.jsonl", end=""))
    assert [(f.row, f.check) for f in empty.faults] == [(0, "no rows")]
    assert empty.faults[0].file.endswith("empty.jsonl")
    warned = check(train, columns=columns, against=write("w.jsonl", {"q": "5", "answer": "\x07"}))
    assert warned.faults == ()


def test_a_source_that_is_not_there_is_a_report(write: Write) -> None:
    for source in ("gone.jsonl", Reading("gone.jsonl")):
        report = check(source)
        assert (report.source, report.format, report.rows, report.records) == ("gone.jsonl", "unknown", 0, 0)
        assert faults(report) == [(0, "", "unreadable", "error", "no such file")]
    limited = check(Reading(write("rows.jsonl", row("1"), "{"), limit=1))
    assert (limited.faults, limited.rows) == ((), 1)


def test_a_pass_reports_rows_in_parts(write: Write, tokenizer: Any) -> None:
    """Sixteen at a time, or with an encoder as many as are tokenized together; a mark before a row is none."""
    path = write("rows.jsonl", "\ufeff" + json.dumps(row("0")), *[row(str(n)) for n in range(1, 20)], "{")
    for made, parts in ((None, [15, 6]), (encoder(tokenizer(None)), [21])):
        seen = Tasks()
        inspection = Inspection(Stream(path), encoder=made, progress=seen)
        assert sum(parsed.is_row for parsed in inspection) == 21
        assert seen.calls == [
            ("begin", f"check {path}", 21), *(("advance", f"check {path}", n) for n in parts), ("end", f"check {path}"),
        ]  # fmt: skip
        assert (inspection.report().rows, inspection.report().records) == (21, 20)
    seen, other = Tasks(), write("other.jsonl", row("x"))
    check(other, against=path, progress=seen)
    assert [call for call in seen.calls if call[0] == "begin"] == [
        ("begin", f"check {path}", 21), ("begin", f"check {other}", 1),
    ]  # fmt: skip
