"""Final answers of MATH as texts and votes, and the levels and subjects of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.evaluation import math_problems
from twofold.evaluation.math_problems import MathSettings, labels_of, measure_math
from twofold.evaluation.parts import WHOLE
from twofold.evaluation.pass_at_k import Sampled
from twofold.records import Source, Task


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\\text{Even}", "even"), ("\\textbf {B}", "b"), ("(C)", "c"), ("( c )", "c"), ("(cd)", "(cd)"), ("(2)", "(2)"),
        ("3\\, 4.", "34"), ("\\left( 1 , 2 \\right)", "(1,2)"), ("$x$..", "x"), ("\\mbox{a b}", "ab"), ("x.y", "x.y"),
    ],
)  # fmt: skip
def test_a_final_answer_as_text(text: str, plain: str) -> None:
    assert math_problems._plain(text) == plain


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        ({"level": "Level 5", "type": "Algebra"}, {"level": "level 5", "subject": "Algebra"}),
        ({"level": 2, "subject": "A", "type": "B"}, {"level": "level 2", "subject": "A"}),
        ({"level": " LEVEL  3 "}, {"level": "level 3"}), ({"level": 0}, {"level": "level 0"}),
        ({"level": "", "subject": ""}, {}), ({"level": None, "subject": None, "type": "B"}, {}), ({}, {}),
        ({"level": "levels"}, {"level": "level levels"}),
    ],
)  # fmt: skip
def test_a_row_has_level_and_subject(row: dict[str, Any], labels: dict[str, str]) -> None:
    assert math_problems._labels(row) == labels


def test_rows_behind_problems_are_known_by_number(tmp_path: Path) -> None:
    """Those of other rows, and of problems made in memory, are left out."""
    path = tmp_path / "rows.jsonl"
    made: list[Any] = [{"level": n} for n in range(1, 5)]
    made[1] = [2]
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    problems = [Task("p", "1", Source(str(path), n)) for n in (3, 1, 2)] + [Task("p", "1", Source("memory", 1))]
    assert labels_of(problems, "test") == {f"{path}:1": {"level": "level 1"}, f"{path}:3": {"level": "level 3"}}


def test_rows_are_read_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()

    def rows(file: str, split: str) -> Any:
        for number in range(1, 100):
            asked.append((file, split, number))
            yield number, {"level": number}

    monkeypatch.setattr(math_problems, "rows_in", rows)
    found = labels_of([Task("p", "1", Source("org/data", 2)), Task("q", "1", Source("org/data", 3))], "validation")
    assert found == {f"org/data:{n}": {"level": f"level {n}"} for n in (2, 3)}
    assert asked == [("org/data", "validation", n) for n in (1, 2, 3, 4)]


def test_subsets_are_levels_then_subjects_by_name() -> None:
    rows = [{"level": "level 2", "subject": "B"}, {"level": "level 1", "subject": "A"}, {"subject": "B"}, {}]
    assert math_problems._subsets(rows) == {
        "level 1": rows[1:2], "level 2": rows[:1], "A": rows[1:2], "B": [rows[0], rows[2]],
    }  # fmt: skip
    assert list(math_problems._subsets(rows)) == ["level 1", "level 2", "A", "B"]


def test_votes_are_counted_by_what_is_in_the_box() -> None:
    """One right, two wrong answers in two writings of one formula, one more, and one without a box."""
    texts = ["\\boxed{7}", "\\boxed{2}", "so \\boxed{2}", "\\boxed{even}", "it is 7"]
    task = Task("p", "7", Source("f", 1))
    right = lambda text, answer: answer in text  # noqa: E731  # short
    assert math_problems._counted(task, texts, "boxed", right) == Sampled("f:1", 1, (2, 1), 1)
    assert math_problems._counted(task, texts, "math", right) == Sampled("f:1", 2, (2, 1), 0)


def test_a_metric_that_is_none_is_named() -> None:
    with pytest.raises(RecipeError) as refused:
        measure_math(["m"], [], MathSettings(metrics=["boxed", "strict"]), WHOLE)
    assert (refused.value.what, refused.value.where) == ("'strict' is no metric", "--metrics")
    assert refused.value.remedy == "some of boxed, math, math_verify"


def test_a_reference_answer_is_a_formula_a_word_or_in_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    required = list[str]()
    monkeypatch.setattr(math_problems, "require_math_verify", required.append)

    def check(answer: str) -> dict[str, dict[str, str]]:
        return math_problems._checked([Task("p", answer, Source("memory", 3))], None)

    for fine in ("7", "\\frac{1}{2}", "even", "so " * 60 + "\\boxed{even}"):
        assert check(fine) == {}
    assert required == ["--task math"] * 4
    with pytest.raises(DataError) as refused:
        check("\\boxed{}")
    assert (refused.value.what, refused.value.where) == ("the row has no final answer", "memory:3")
    with pytest.raises(DataError):
        check("we argue that it is so " * 5)
