"""Repairs, JSON, scores and near contents of rows at the bounds of each, with what is reported in full."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twofold.data import contamination
from twofold.data import fix as fix_module
from twofold.data.contamination import Contamination, EvaluationPrompts
from twofold.data.csv import is_csv, spelled
from twofold.data.csv import rows as csv_rows
from twofold.data.encode import Encoded, Spread, encode, tell
from twofold.data.fix import fix
from twofold.data.issues import Issue
from twofold.data.json_rows import array, lines, wide_encoding
from twofold.data.lengths import LengthBias
from twofold.data.packing_stats import Lengths, Savings, savings
from twofold.data.reading import Reading
from twofold.data.repairs import Naming, Repaired, repaired
from twofold.data.scores import LowMargins, score_margin
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.data.weights import Weights
from twofold.errors import DataError
from twofold.progress import Silent
from twofold.records import Demonstration, Pair, Record, Request, Source, Task

Write = Callable[..., str]
AT = Source("f", 4)
GOOD = {"prompt": "a b c", "chosen": "x", "rejected": "y"}


def test_each_row_of_a_repair_is_counted_from_the_first_on(write: Write, tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": str(n), "chosen": f"x\x00{n}"} for n in range(3)]
    path = write("rows.jsonl", GOOD, *rows, {**GOOD, "prompt": "9", "weight": "2"})
    done = fix(check(path), str(tmp_path / "out.jsonl"), check)
    assert done.repairs == {
        "control characters removed": Repaired(3, 2, "chosen", '"x\\u00000"', '"x0"'),
        "number as text": Repaired(1, 5, "weight", '"2"', "2"),
    }


LISTS = "CSV has no lists but chats: name an output that ends in .jsonl"


@pytest.mark.parametrize(
    ("name", "rows", "remedy"),
    [
        ("out.csv", [{"prompt": "p", "completion": " "}], "see `twofold data check`"),
        ("out.csv.gz", [{"prompt": "p", "completions": ["a", "b"]}], LISTS),
        ("out.csv", [{"prompt": "p", "completions": ["a", "b"]}, {"prompt": "q", "completions": ["a", ""]}], LISTS),
        ("out.jsonl", [{"prompt": "p", "completions": ["a", ""]}], "see `twofold data check`"),
    ],
)
def test_where_no_row_is_left_the_remedy_depends_on_the_kind_of_file(
    write: Write, tmp_path: Path, name: str, rows: list[Any], remedy: str
) -> None:
    path = write("rows.jsonl", *rows)
    with pytest.raises(DataError) as error:
        fix(check(path), str(tmp_path / name), check)
    assert (error.value.what, error.value.where, error.value.remedy) == ("no row is without faults", path, remedy)


@pytest.mark.parametrize(("columns", "fits"), [(3, True), (4, True), (5, False)])
def test_a_table_has_a_most_of_columns(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, fits: bool
) -> None:
    """Columns of rows that are left out are none of its own."""
    monkeypatch.setattr(fix_module, "MOST_COLUMNS", 4)
    row = {"prompt": "p", "completion": "a", **{f"c{n}_id": n for n in range(2, columns)}}
    path = write("rows.jsonl", row, {"prompt": "p", "completion": "", **{f"d{n}_id": 1 for n in range(9)}})
    out = tmp_path / "out.csv"
    if fits:
        assert fix(check(path), str(out), check).rows_left == 1
        assert out.read_text().splitlines()[0] == ",".join(row)
        return
    with pytest.raises(DataError) as error:
        fix(check(path), str(out), check)
    assert (error.value.what, error.value.where, error.value.remedy) == (
        "has more than 4 different fields", path, "name an output that ends in .jsonl",
    )  # fmt: skip


@pytest.mark.parametrize(("digits", "kind"), [(299, int), (300, float)])
def test_a_number_of_many_digits_is_no_whole_one(digits: int, kind: type) -> None:
    faults = [Issue("f", 1, "", "why", "what", check="mistyped field")]
    row, _ = repaired({"weight": "1" * digits}, Naming({}), faults)
    assert (type(row["weight"]), row["weight"]) == (kind, kind("1" * digits))
    signed, _ = repaired({"weight": "+7", "margin": "-7", "probability": "0.0"}, Naming({}), faults)
    assert signed == {"weight": 7, "margin": -7, "probability": 0.0}


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ('{"a": abcdef', True), ('{"a": abcdefg', False), ('{"a": "b', True), ('{"a": "bcdefghijk', True),
        ('{"a": 1', True), ('{"a": 1} x', False), ("tru", False), ('{"a": tru', True), ("[1, 2", True),
        ('  {"a"', True),
    ],
)  # fmt: skip
def test_a_line_is_cut_where_json_would_continue_within_six_letters(text: str, cut: bool) -> None:
    ((number, fault),) = lines(io.BytesIO(text.encode()), "f", 1000)
    assert isinstance(fault, Issue)
    assert (number, fault.row, fault.check) == (1, 1, "truncated last line" if cut else "bad JSON")
    if cut:
        reason = "the last line is cut off: it is no complete JSON and has no line end"
        assert (fault.reason, fault.remedy) == (reason, "copy or write the file again")
    else:
        assert fault.remedy == "write one JSON object per line"
    ((_, whole),) = lines(io.BytesIO(text.encode() + b"\n"), "f", 1000)
    assert isinstance(whole, Issue)
    assert whole.check == "bad JSON"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfea\0", "UTF-16"),
        (b"\xfe\xff\0a", "UTF-16"), (b"a\0\0\0", "UTF-32"), (b"\0\0\0a", "UTF-32"), (b"a\0b\0", "UTF-16"),
        (b"\0a\0b", "UTF-16"), (b"ab\0\0", ""), (b"ab\0\0\0", ""), (b"\0\0ab", ""), (b"abc", ""), (b"", ""),
        (b"\0", ""),
    ],
)  # fmt: skip
def test_encodings_are_known_by_their_first_letters(head: bytes, name: str) -> None:
    assert wide_encoding(head) == name


@pytest.mark.parametrize(
    ("read", "data", "issue"),
    [
        (lines, b"version https://git-lfs.github.com/spec/v1\n",
         Issue("f", 1, "", "the file is a Git LFS pointer: its contents were not fetched",
               "run `git lfs pull` where it came from", check="unreadable")),
        (lines, b"\xef\xbb\xbf{}\n",
         Issue("f", 1, "", "starts with a byte order mark", "save as UTF-8 without BOM", "warning", "BOM")),
        (lines, b"[1]\n", Issue("f", 1, "", "the row is a list, not an object with named fields",
                                'write rows as {"prompt": …, …}', check="bad JSON")),
        (lines, b"{\xff}\n", Issue("f", 1, "", "byte 2 (0xff) is not UTF-8", "save the file as UTF-8",
                                   check="bad UTF-8")),
        (lines, b'{"a": 1, "a": 2}\n', Issue("f", 1, "a", "is there twice in one object: one of the two would be lost",
                                             "keep one of them", check="field twice")),
        (array, b"[{\xff}]", Issue("f", 0, "", "byte 3 (0xff) is not UTF-8", "save the file as UTF-8",
                                   check="bad UTF-8")),
        (array, b"[3", Issue("f", 1, "", "the row is a number, not an object with named fields",
                             'write rows as {"prompt": …, …}', check="bad JSON")),
        (csv_rows, b"a,b\n1\n", Issue("f", 2, "", "has 1 cells, the header 2", "put cells with commas between quotes",
                                      check="bad CSV")),
        (csv_rows, b"a|b\n1|2\n", Issue("f", 1, "", "its cells are separated by '|'",
                                        "save the file with a comma between cells", check="bad CSV")),
        (csv_rows, b"a,a\n", Issue("f", 1, "a", "is there twice: one of the two columns would be lost",
                                   "keep one of them", check="field twice")),
        (csv_rows, b'a\n"x"y\n', Issue("f", 2, "", "bad CSV: ',' expected after '\"'", "put cells with quotes or line "
                                       "ends between quotes, and double the quotes inside", check="bad CSV")),
    ],
)  # fmt: skip
def test_each_fault_of_a_text_in_full(read: Any, data: bytes, issue: Issue) -> None:
    assert next(iter(read(io.BytesIO(data), "f", 1000)))[1] == issue


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (" True ", True), ("FALSE", False), ("1", 1.0), (" -.5e1 ", -5.0), ("+3.", 3.0), ("nan ", "nan "),
        ("-INF", None), ("", None), ("1 2", "1 2"), ("yes", "yes"), (3, 3), ("1e", "1e"),
    ],
)  # fmt: skip
def test_cells_spell_numbers_and_truths(cell: Any, value: Any) -> None:
    read = spelled(cell)
    assert read == (float("-inf") if cell == "-INF" else value)
    assert type(read) is (float if cell == "-INF" else type(value))


@pytest.mark.parametrize(
    ("source", "csv"),
    [("a.CSV", True), ("a.csv.gz", True), ("a.csv.zst", True), ("https://h/a.csv?x=1", True), ("h/a?f=b.csv", True),
     ("a.csv.json", False), ("a.csv?", True), ("acsv", False)],
)  # fmt: skip
def test_which_sources_are_csv(source: str, csv: bool) -> None:
    assert is_csv(source) is csv


MOST = sys.float_info.max


@pytest.mark.parametrize(
    ("chosen", "rejected", "margin"),
    [(MOST, 0, MOST), (0, -MOST, MOST), (2 * int(MOST), 0, None), (1, True, None), (3, 1.5, 1.5)],
)
def test_scores_up_to_the_largest_number(chosen: Any, rejected: Any, margin: float | None) -> None:
    row = {"score_chosen": chosen, "score_rejected": rejected}
    assert score_margin(Pair("p", "a", "b", AT), row) == margin


def test_margins_that_are_low_are_named_with_four_digits() -> None:
    low = LowMargins(1.23456)
    low.see(Pair("p", "a", "b", AT, margin=0.123456), {})
    low.see(Pair("p", "a", "b", AT, margin=1.23456), {})
    reason = "chosen scores +0.1235 against rejected, less than 1.23456"
    remedy = "remove the row: the preference is probably noise"
    assert list(low.faults("f")) == [Issue("f", 4, "", reason, remedy, "warning", "low margin")]


def unique(number: int, count: int = 8) -> str:
    return " ".join(f"word{number}x{place}" for place in range(count))


def seen(*prompts: str) -> EvaluationPrompts:
    made = EvaluationPrompts()
    for row, prompt in enumerate(prompts, 1):
        made.see(Task(prompt, "1", Source("test.jsonl", row)), {})
    return made


@pytest.mark.parametrize(("words", "divisor"), [(14, 1), (15, 1), (16, 2)])
def test_as_many_sequences_as_there_is_room_for_are_compared(
    monkeypatch: pytest.MonkeyPatch, words: int, divisor: int
) -> None:
    """A prompt of 15 words has eight."""
    monkeypatch.setattr(contamination, "MOST", 8)
    assert seen(unique(0, words)).divisor == divisor


def test_nothing_in_common_is_no_contamination_whatever_the_threshold() -> None:
    look = Contamination(seen(unique(0)), 0.0)
    look.see(Demonstration(unique(1), "a", Source("f", 1)), {})
    look.see(Demonstration("q", f"so {unique(0)}", Source("f", 2)), {})
    reason = "contains 100% of the 8-word sequences of the prompt at test.jsonl:1"
    remedy = "remove the row here or there: what was trained on is no test"
    assert list(look.faults("f")) == [Issue("f", 2, "", reason, remedy, "warning", "contamination")]


def test_an_index_counts_the_sequences_of_every_prompt_that_has_some() -> None:
    """The eleven last ones share all that they have: it is a template."""
    index = seen("short", unique(0, 9), unique(1), *[unique(2)] * 11).index()
    assert (index.sizes.tolist(), index.prompts.tolist()) == ([2, 1, *[0] * 11], list(range(1, 14)))
    assert (len(index.grams), index.counts.tolist()) == (3, [1, 1, 1])
    assert [each.dtype for each in (index.grams, index.begins, index.counts, index.holders, index.prompts)] == [
        np.uint64, np.int32, np.int32, np.uint32, np.uint32,
    ]  # fmt: skip


def encoder(made: Any, **settings: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


def test_what_is_cut_is_counted_by_rows_and_by_completions(tokenizer: Any) -> None:
    made, heard = encoder(tokenizer(None), max_length=4, truncation="cut_completion"), Silent()
    rows: list[Record] = [Pair("ab", "cde", "cdf", AT), Pair("ab", "cde", "c", AT), Pair("ab", "c", "d", AT)]
    counts = encode(rows, made, heard).counts()
    assert (counts["rows"], counts["used"], counts["cut_completion"], counts["stop_cut"]) == (3, 3, 2, 3)
    assert counts["completion_tokens"] == {"mean": 2.0, "max": 2}
    assert heard.warnings == ["3 completions cut to fit 4 tokens: they have no stop token"]
    prompts = encoder(tokenizer(None), max_length=4, truncation="cut_prompt")
    counts = encode([Pair("abcd", "e", "f", AT), Request("ab", AT)], prompts, heard).counts()
    assert (counts["cut_prompt"], counts["prompt_tokens"]) == (1, {"mean": 2.0, "max": 2})


def test_rows_that_leave_nothing_are_an_error_in_full(tokenizer: Any) -> None:
    for rows, what, remedy in (([], "no row is left of 0", "provide rows"), (
        [Demonstration("abcd", "e", AT)], "no row is left of 1", "raise max_length (now 3)",
    )):  # fmt: skip
        with pytest.raises(DataError) as error:
            encode(rows, encoder(tokenizer(None), max_length=3))
        assert (error.value.what, error.value.where, error.value.remedy) == (what, "", remedy)


def test_nothing_to_report_is_not_reported() -> None:
    nothing = Encoded([], 0, (), 0, 0, 0, 0, Spread(0.0, 0), Spread(0.0, 0), {}, {}, Weights())
    heard = Silent()
    tell(nothing, 9, heard)
    assert heard.warnings == []


@pytest.mark.parametrize(
    ("rows", "batch", "expected"),
    [
        ([Lengths(3, (1, 2))], 8, Savings(1, 10, 9, 6)),
        ([Lengths(3, (1, 2)), Lengths(1, (1,))], 1, Savings(2, 12, 11, 8)),
        ([Lengths(3, (1, 2)), Lengths(1, (1,))], 2, Savings(2, 15, 11, 8)),
        ([Lengths(4, ())], 8, Savings(1, 4, 4, 4)),
    ],
)
def test_what_rows_cost_in_batches(rows: list[Lengths], batch: int, expected: Savings) -> None:
    """A batch is as wide as its longest sequence; apart each completion has a prompt of its own."""
    assert savings(rows, batch) == expected
    assert (expected.padding, expected.sharing, expected.factor) == (
        1 - expected.apart / expected.padded, 1 - expected.together / expected.apart,
        expected.padded / expected.together,
    )  # fmt: skip


def test_equal_lengths_are_no_share() -> None:
    bias = LengthBias()
    for chosen, rejected in ((2, 1), (1, 2), (1, 1), (1, 1)):
        bias.add(chosen, rejected)
    assert (bias.chosen, bias.rejected, bias.same, bias.pairs, bias.share.n) == (1, 1, 2, 4, 2)
    assert json.loads(json.dumps(bias.as_dict()))["share"]["count"] == 1
    assert Reading("a").bounds.growth == 100
