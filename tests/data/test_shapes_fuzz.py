"""Whatever a row holds under whatever known keys, it is read or its fault is named; nothing raises."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twofold.data.shapes import FIELDS, SHAPES
from twofold.data.validate import check

texts = st.sampled_from(
    ["", " ", "a", "a b", "a c", "true", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant:"]
)
roles = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", "function_call", None, 3])
messages = st.fixed_dictionaries({"role": roles, "content": texts}) | st.fixed_dictionaries(
    {"from": roles, "value": texts}
)
judged = st.fixed_dictionaries({"text": texts, "score": st.none() | st.integers(0, 2) | st.floats() | texts})
ranked = st.fixed_dictionaries({"answer": texts, "rank": st.none() | st.integers(0, 2) | st.just("1")})
solved = st.fixed_dictionaries({"is_correct": st.booleans() | st.none(), "solution": st.none() | texts})
scalars = st.none() | st.booleans() | st.integers(-2, 2) | texts
values = (
    scalars
    | messages
    | solved
    | st.lists(messages | judged | ranked | scalars, max_size=3)
    | st.lists(st.lists(texts, max_size=3), max_size=2)
    | st.fixed_dictionaries({"messages": scalars | st.lists(messages, max_size=2), "tools": scalars | st.just([{}])})
)


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of one or two shapes, with fields of others among them."""
    keys: Callable[[], Any] = lambda: draw(st.sampled_from(SHAPES)).keys  # noqa: E731
    first, other = keys(), keys()
    extra = st.dictionaries(st.sampled_from(FIELDS), values, max_size=2)
    made = [
        {**{k: draw(values) for k in draw(st.sampled_from([first, first, other]))}, **draw(extra)} for _ in range(3)
    ]
    return made


@given(made=rows())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_of_any_shape_makes_a_check_raise(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    report = check(str(path))
    left_out = {f.row for f in report.errors if f.row} | {f.row for f in report.faults if "passed over" in f.remedy}
    assert report.rows == len(made)
    assert report.records + len(left_out) == len(made)
    assert all(f.reason and f.remedy for f in report.faults)


@given(data=st.binary(max_size=60) | st.text('ab,"\r\n\x00é[{}]', max_size=60).map(str.encode))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.arrow"])
def test_no_bytes_behind_a_header_make_a_check_raise(tmp_path: Path, name: str, data: bytes) -> None:
    header = b"prompt,completion\n" if "csv" in name else b""
    (tmp_path / name).write_bytes(gzip.compress(header + data) if name.endswith(".gz") else header + data)
    report = check(str(tmp_path / name))
    assert report.records + len({f.row for f in report.errors if f.row}) == report.rows
