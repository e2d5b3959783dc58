"""Checks of more rows than memory holds: the same results as in memory, and a peak that does not grow with the rows."""

from __future__ import annotations

import json
import random
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twofold.data import contamination, digests, fault_store, scratch, signatures
from twofold.data.examples import kinds
from twofold.data.fault_store import StoredFaults
from twofold.data.fix import Fixed, fix
from twofold.data.looks import Further
from twofold.data.profile import Profile
from twofold.data.reading import Reading
from twofold.data.report import Report
from twofold.data.tokenize import Encoder
from twofold.data.validate import check
from twofold.data.values import Values, quantiles
from twofold.progress import Silent
from twofold.reports.dataset import dataset_page

Write = Callable[..., str]
COSTLY = ("near", "against", "against more", "model")
SLACK = 48 * 1024
"""Bytes by which peaks of n and 4n rows may differ: a row more in memory of every 4 would be far beyond it."""


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, limits in {
        fault_store: {"IN_MEMORY": 64, "_AT_ONCE": 16},
        scratch: {"AT_ONCE": 16},
        digests: {"AT_ONCE": 128, "_PARTS": 3},
        signatures: {"CHUNK": 64, "AT_ONCE": 64, "RANGE": 128},
        contamination: {"MOST": 2000},
    }.items():
        for name, most in limits.items():
            monkeypatch.setattr(module, name, most)


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs with all kinds of faults: repeated, nearly repeated, turned, tied, and with characters of control."""
    draw, made = random.Random(seed), list[dict[str, Any]]()
    words = [f"w{n}" for n in range(200)]
    for _ in range(count):
        texts = {name: " ".join(draw.choices(words, k=16)) for name in ("prompt", "chosen", "rejected")}
        row = {**texts, "score_chosen": draw.gauss(1, 1), "score_rejected": 0.0, "source": draw.choice("ab")}
        old = dict(draw.choice(made or [row]))
        changes: list[dict[str, Any]] = [
            {}, {"prompt": f"{old['prompt']} more"}, {"chosen": old["rejected"], "rejected": old["chosen"]},
            {"rejected": old["chosen"]}, {"prompt": " "}, {"chosen": "\x07"}, {"chosen": 3},
        ]  # fmt: skip
        made.append(row if draw.random() < 0.5 else old | draw.choice(changes))
    return made


def evaluation(some: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"question": f"{row['prompt']}{n % 3 * ' more'}", "answer": "1"} for n, row in enumerate(some[::4])]


def everything(path: str, against: str) -> tuple[Any, ...]:
    """All that the check finds and the page shows."""
    profile = Profile()
    further = Further(near=0.7, least_margin=0.5, looks=(profile,))
    report = check(path, against=against, further=further)
    page = dataset_page(report, profile, kinds(report.faults, Reading(path), 3), "t", [])
    return tuple(report.faults), tuple(report.errors), tuple(report.warnings), report.counts, report.records, page


def test_results_on_disk_are_those_in_memory(write: Write, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("datasketch")
    made = rows(200)
    path, test = write("rows.jsonl", *made), write("test.jsonl", *evaluation(made))
    expected = everything(path, test)
    request.getfixturevalue("little_memory")
    assert everything(path, test) == expected
    checks = {"duplicate", "contradiction", "near-duplicate", "near-overlap", "contamination", "overlap", "low margin"}
    assert checks <= set(expected[3])
    stored = check(path).faults
    assert isinstance(stored, StoredFaults)
    assert (stored[0], stored[-1], stored[2:5]) == (next(iter(stored)), tuple(stored)[-1], tuple(stored)[2:5])
    assert stored[6:2:-2] == list(stored)[6:2:-2]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_figures_of_values_on_disk_are_those_of_numpy(dtype: Any) -> None:
    draw = np.random.default_rng(0)
    numbers = (draw.normal(0, 300, 555)).astype(dtype)
    values = Values.of(numbers.tolist(), dtype)
    levels = [0.0, 0.01, 0.3, 0.5, 0.99, 1.0]
    assert quantiles([values], levels) == np.quantile(numbers, levels).tolist()
    both = [Values.of(numbers[:100].tolist(), dtype), Values.of(numbers[100:].tolist(), dtype)]
    assert quantiles(both, levels) == np.quantile(numbers, levels).tolist()
    edges = [-900.0, -1.0, 0.0, 200.5, 900.0]
    assert values.counts(edges) == np.histogram(numbers, edges)[0].tolist()
    assert values.beyond(-100, 200) == ((numbers < -100) | (numbers > 200)).sum()
    assert (len(values), values.low, values.high) == (555, numbers.min(), numbers.max())
    assert values.mean == pytest.approx(numbers.mean())
    assert list(values) == numbers.tolist()


class FromFirstRow(Silent):
    """Forgets the peak of what counts the rows, which reads a small file at once."""

    def begin(self, task: str, total: int | None = None) -> None:
        tracemalloc.reset_peak()


def peak(path: str, **how: Any) -> int:
    tracemalloc.start()
    try:
        report = check(path, progress=FromFirstRow(), **how)
        assert report.rows
        assert all(fault.remedy for fault in report.errors)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "option",
    ["plain", "margin", "profile", "all the same", *(pytest.param(o, marks=pytest.mark.slow) for o in COSTLY)],
)
def test_the_peak_does_not_grow_with_the_rows(write: Write, tokenizer: Any, option: str) -> None:
    if option == "near":
        pytest.importorskip("datasketch")
    same = {"prompt": "a", "chosen": "b\x07", "rejected": "b\x07"}
    many = rows(800) if option != "all the same" else [same] * 800
    few, all_rows = write("few.jsonl", *many[:200]), write("many.jsonl", *many)
    test = write("test.jsonl", *evaluation(many[:200]))

    def measured(path: str) -> int:
        further = {"near": Further(near=0.7), "margin": Further(least_margin=9.0)}.get(option, Further())
        how: dict[str, Any] = {"further": Further(looks=(Profile(),)) if option == "profile" else further}
        if option == "model":
            made = tokenizer()
            how["encoder"] = Encoder(made, frozenset({made.eos_token_id}))
        against = {"against": test, "against more": path}.get(option)
        return peak(few if option == "against more" else path, against=against, **how)

    measured(few)  # what a first pass loads
    assert measured(all_rows) - measured(few) < SLACK


def fixed(path: str, out: Path) -> tuple[Fixed, list[str], list[str]]:
    made = fix(check(path), str(out), check)
    written, left = out.read_text().splitlines(), Path(made.beside).read_text().splitlines()
    return replace(made, out="", beside=""), written, left


@pytest.mark.usefixtures("little_memory")
def test_a_fix_with_little_memory_writes_or_leaves_out_every_row(write: Write, tmp_path: Path) -> None:
    """With all the reasons of those left out; what was written has no fault."""
    made = rows(400)
    path = write("rows.jsonl", *made)
    report = check(path)
    result, written, left = fixed(path, tmp_path / "out.jsonl")
    assert (result.rows_left, result.left_out, result.rows_left + result.left_out) == (len(written), len(left), 400)
    assert not check(str(tmp_path / "out.jsonl")).faults
    reasons = {entry["row"]: entry["reasons"] for entry in map(json.loads, left)}
    assert [*reasons] == sorted(reasons)
    for row, listed in reasons.items():
        found = [f"{fault.field}: {fault.reason}".removeprefix(": ") for fault in report.faults if fault.row == row]
        assert listed[: len(found)] == found
    assert sum(result.reasons.values()) == sum(map(len, reasons.values()))
    assert [json.loads(line) for line in written] == [
        {**row, "chosen": row["chosen"].replace("\x07", "")} for n, row in enumerate(made, 1) if n not in reasons
    ]


@pytest.mark.usefixtures("little_memory")
def test_the_peak_of_a_fix_does_not_grow_with_the_rows(write: Write, tmp_path: Path) -> None:
    many = rows(800)
    few, all_rows = write("few.jsonl", *many[:200]), write("many.jsonl", *many)

    def look(path: str) -> Report:
        return check(path, progress=FromFirstRow())

    def measured(path: str, out: str) -> int:
        tracemalloc.start()
        try:
            assert fix(look(path), str(tmp_path / out), look).left_out
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    measured(few, "first.jsonl")  # what a first pass loads
    assert measured(all_rows, "many.out.jsonl") - measured(few, "few.out.jsonl") < SLACK


@pytest.mark.parametrize("limit", [(fault_store, "IN_MEMORY"), (scratch, "AT_ONCE")])
def test_a_full_disk_is_one_clear_error(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: tuple[Any, str]
) -> None:
    path = write("rows.jsonl", *rows(40))
    monkeypatch.setattr(*limit, 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    (fault,) = check(path, further=Further(least_margin=9.0)).faults
    assert (fault.file, fault.check) == (str(tmp_path / "absent"), "unreadable")
    assert fault.reason.startswith("cannot be written: ")
    assert "TMPDIR" in fault.remedy
