"""The page of a data set: its figures by value, every text escaped, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data.examples import kinds
from twofold.data.reading import Reading
from twofold.data.validate import check
from twofold.reports.guide import docs

Run = Callable[..., Any]
HOSTILE = "</div><script>alert(1)</script>"


def rows() -> list[dict[str, Any]]:
    models = {"chosen_model": "big", "rejected_model": "small"}
    made = [
        {
            "prompt": f"question {n}",
            "chosen": "x" * (n + 9),
            "rejected": "y" * 5,
            "source": "ours" if n % 2 else HOSTILE,
            "score_chosen": n,
            "score_rejected": 3,
            **models,
        }
        for n in range(12)
    ]
    return [*made, made[0], {**made[1], "chosen": HOSTILE, "rejected": HOSTILE}, {"prompt": "p", "chosen": ""}]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def test_the_verb_writes_a_page_with_figures_findings_and_rows(twofold: Run, written: Path, tmp_path: Path) -> None:
    answer = twofold("data", "report", written, "--out", tmp_path / "page.html")
    assert answer.code == 2
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    titles = re.findall(r'<h3><span data-zh="[^"]+">([^<]*)</span></h3>', page)
    assert titles == [
        "Faults", "Length bias", "Preferences against the scores",
        "Length of prompts", "Length of answers", "Length, chosen minus rejected", "Score margin",
    ]  # fmt: skip
    assert "15 rows, 13 usable" in page
    assert "<td>ours</td>" in page
    assert "repeats row 1" in page
    assert "is the same as `chosen`" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1
    assert set(re.findall(r' (?:src|href)="([^"]*)/[\w-]+\.\w+"', page)) == {docs()}


def test_examples_are_the_first_rows_of_each_kind(written: Path) -> None:
    reading = Reading(str(written))
    found = kinds(check(reading).faults, reading, 1)
    assert [(kind.name, kind.severity) for kind in found][-1] == ("duplicate", "warning")
    shown = {kind.name: kind.examples for kind in found}
    assert dict(shown["duplicate"][0][1])["prompt"] == "question 0"
    assert dict(shown["chosen = rejected"][0][1])["chosen"] == HOSTILE
    assert '"chosen": ""' in dict(shown[next(k.name for k in found if k.examples[0][0].row == 15)][0][1])["row"]
    assert all(len(kind.examples) == 1 for kind in found)


def test_a_report_does_not_replace_its_rows(twofold: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    answer = twofold("data", "report", rows, "--out", rows)
    assert (answer.code, rows.read_text()[:10]) == (2, '{"prompt":')
    assert "would overwrite what this command reads" in answer.err
    other = tmp_path / "other.jsonl"
    other.write_text("{}\n")
    answer = twofold("data", "report", rows, "--out", other)
    assert (answer.code, other.read_text()) == (2, "{}\n")
    assert "exists and is no page" in answer.err
