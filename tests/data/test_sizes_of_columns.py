"""Bytes of each value of a column, for every type that Arrow has; and rare values of a profile, a repair, a copy."""

from __future__ import annotations

import io
from email.message import Message as Headers
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from twofold.data import remote
from twofold.data.arrow_sizes import are_small, row_sizes
from twofold.data.issues import Issue
from twofold.data.profile import MOST_NAMES, Profile
from twofold.data.repairs import Naming, Repaired, repaired
from twofold.data.unpacking import Allowance
from twofold.records import Demonstration, Pair, Source

LONG = "x" * 40
TEXTS, BYTES = ["a", None, LONG], [b"ab", None, LONG.encode()]
LISTS = [[1, 2], [], None, [3]]
STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
HERE = Source("f", 1)


def sizes(array: Any) -> list[float]:
    batch = pa.record_batch({"x": array})
    return row_sizes(batch, Allowance(Path(__file__), 1 << 40)).tolist()


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None], pa.int8(), [8.0, 8.0]), ([None, None], pa.null(), [8.0, 8.0]), (TEXTS, pa.string(), [9.0, 8, 48]),
        (TEXTS, pa.large_string(), [9.0, 8, 48]), (TEXTS, pa.string_view(), [9.0, 8, 48]),
        (BYTES, pa.binary(), [10.0, 8, 48]), (BYTES, pa.large_binary(), [10.0, 8, 48]),
        (BYTES, pa.binary_view(), [10.0, 8, 48]), ([b"abc", b"def"], pa.binary(3), [11.0, 11.0]),
        (LISTS, pa.list_(pa.int64()), [24.0, 8, 8, 16]), (LISTS, pa.large_list(pa.int64()), [24.0, 8, 8, 16]),
        (LISTS, pa.list_view(pa.int64()), [24.0, 8, 8, 16]), (LISTS, pa.large_list_view(pa.int64()), [24.0, 8, 8, 16]),
        ([[1, 2], [3, 4]], pa.list_(pa.int64(), 2), [24.0, 24.0]),
        ([["a", "bc"], [LONG]], pa.list_(pa.string()), [8 + 9 + 10.0, 8 + 48.0]),
        ([[("k", 1), ("kk", 2)], []], pa.map_(pa.string(), pa.int64()), [8 + (8 + 9 + 8) + (8 + 10 + 8.0), 8.0]),
        ([{"a": 1, "b": "x"}, None, {"a": 2, "b": LONG}], STRUCT, [8 + 8 + 9.0, 8 + 8 + 8.0, 8 + 8 + 48.0]),
        (TEXTS, pa.dictionary(pa.int32(), pa.string()), [9.0, 0, 48]),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)  # fmt: skip
def test_a_value_has_8_bytes_and_what_it_holds(values: list[Any], kind: pa.DataType, expected: list[float]) -> None:
    array = pa.array(values, kind)
    assert sizes(array) == expected
    assert sizes(array[1:]) == expected[1:]
    assert sizes(array[:1]) == expected[:1]


def test_a_value_that_is_stored_once_counts_in_each_row() -> None:
    runs: Any = pa.RunEndEncodedArray.from_arrays(pa.array([2, 5], pa.int32()), pa.array(["a", LONG]))
    assert sizes(runs) == [9.0, 9, 48, 48, 48]
    assert sizes(runs[1:4]) == [9.0, 48, 48]
    views: Any = pa.ListViewArray.from_arrays(
        pa.array([0, 0, 1], pa.int32()), pa.array([2, 2, 1], pa.int32()), TEXTS[::2]
    )
    assert sizes(views) == [8 + 9 + 48.0, 8 + 9 + 48.0, 8 + 48.0]
    two = pa.record_batch({"a": pa.array(["x", "yy"]), "b": pa.array([[1], [1, 2]])})
    assert row_sizes(two, Allowance(Path(__file__), 1 << 40)).tolist() == [9 + 16.0, 10 + 24.0]


@pytest.mark.parametrize(
    ("kind", "small"),
    [
        (pa.int64(), True), (pa.float32(), True), (pa.bool_(), True), (pa.string(), True), (pa.binary(), True),
        (pa.list_(pa.string()), True), (STRUCT, True), (pa.map_(pa.string(), pa.int64()), True), (pa.null(), False),
        (pa.large_string(), False), (pa.list_view(pa.int64()), False), (pa.string_view(), False),
        (pa.dictionary(pa.int32(), pa.string()), False), (pa.list_(pa.string_view()), False),
        (pa.struct([("a", pa.int64()), ("b", pa.string_view())]), False), (pa.large_list(pa.int64()), False),
    ],
    ids=str,
)  # fmt: skip
def test_only_plain_columns_need_no_look(kind: pa.DataType, small: bool) -> None:
    """A type that may share its values is looked at, wherever it is in a column."""
    assert are_small(pa.record_batch({"n": pa.array([1]), "x": pa.array([None], kind)}), 10**6) is small


@pytest.mark.parametrize(("digits", "kind"), [(299, int), (300, float), (1, int), (308, float)])
def test_numbers_of_300_digits_are_no_whole_ones(digits: int, kind: type) -> None:
    row, made = repaired({"weight": "1" * digits}, Naming({}), [Issue("f", 1, "", "", "", check="mistyped field")])
    assert (type(row["weight"]), list(made)) == (kind, ["number as text"])
    assert row["weight"] == kind("1" * digits)


@pytest.mark.parametrize("value", ["85", "85 percent", None, [], True, -1, 101])
def test_only_numbers_of_a_source_in_percent_are_divided(value: Any) -> None:
    assert repaired({"probability": value}, Naming({}, percent=True), []) == ({"probability": value}, {})


def test_the_first_changed_field_is_shown() -> None:
    row = {"id": 1, "weight": "2", "margin": "3", "probability": "0.5"}
    after, made = repaired(row, Naming({}), [Issue("f", 1, "", "", "", check="mistyped field")])
    assert after == {"id": 1, "weight": 2, "margin": 3, "probability": 0.5}
    assert made == {"number as text": Repaired(1, 0, "weight", '"2"', "2")}
    assert repaired({"m": [], "n": ()}, Naming({}), []) == ({"m": [], "n": ()}, {})


def test_an_origin_without_pairs_has_no_share_of_longer_answers() -> None:
    profile = Profile()
    profile.see(Demonstration(prompt="q", completion="a", source=HERE), {"source": "s"})
    profile.see(Pair(prompt="q", chosen="aa", rejected="a", source=HERE), {"source": ""})
    assert (profile.origins, profile.bias, profile.longer_by_origin(5)) == ({"s": 1}, {}, [])
    profile.see(Pair(prompt="q", chosen="aa", rejected="b", source=HERE), {"source": "t", "task": "x"})
    assert [(name, share.n) for name, share in profile.longer_by_origin(5)] == [("t", 1)]
    assert (profile.origin_column, profile.origins) == ("source", {"s": 1, "t": 1})


def test_the_origin_after_500_names_is_others() -> None:
    profile = Profile()
    for i in range(502):
        profile.see(Demonstration(prompt="q", completion="a", source=HERE), {"topic": f"t{i}"})
    profile.see(Demonstration(prompt="q", completion="a", source=HERE), {"topic": "t3"})
    assert (MOST_NAMES, len(profile.origins)) == (500, 501)
    assert (profile.origins["others"], profile.origins["t3"], profile.origins["t499"]) == (2, 2, 1)


class Answer(io.BytesIO):
    """What a web server sends."""

    def __init__(self, content: bytes, **headers: str) -> None:
        super().__init__(content)
        self.headers = Headers()
        for name, value in headers.items():
            self.headers[name.replace("_", "-")] = value


@pytest.mark.parametrize(
    ("address", "name"),
    [("https://h.org", "file"), ("https://h.org/a/b.jsonl?x=1#y", "b.jsonl"), ("http://h/", "file")],
)
def test_a_copy_is_called_as_its_address_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, name: str
) -> None:
    calls = list[Any]()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = {"Content_Length": "3", "ETag": "e"}
    monkeypatch.setattr(remote, "urlopen", lambda *a, **k: calls.append((a, k)) or Answer(b"abc", **answer))
    remote._copied.cache_clear()
    copy = remote.located(address)
    assert (copy.name, copy.read_bytes()) == (name, b"abc")
    assert calls == [((address,), {"timeout": 60.0})]
    assert remote.located(address) == copy
    assert len(calls) == 1
    remote._copied.cache_clear()
    copy.write_bytes(b"")
    assert remote.located(address).read_bytes() == b"abc", "a damaged copy is made again"
    remote._copied.cache_clear()
    answer["ETag"] = "f"
    assert remote.located(address).parent != copy.parent, "another version has a folder of its own"
    remote._copied.cache_clear()
