"""`math`: rules, levels and subjects, votes; verdicts equal to lm-eval's recorded ones, or different for a reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.speakers import speaker
from twofold.errors import DataError, RecipeError
from twofold.evaluation.math_problems import (
    MathPassAtKSettings,
    grader,
    math_accuracy,
    math_sample_figures,
    measure_math_samples,
)
from twofold.evaluation.parts import WHOLE
from twofold.evaluation.prompting import MATH
from twofold.evaluation.rows import rows_of
from twofold.statistics import mcnemar, wilson

pytest.importorskip("math_verify")
RECORD = json.loads((Path(__file__).parents[1] / "parity" / "lm_eval_math.json").read_text(encoding="utf-8"))


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROWS = [
    {"problem": "one", "solution": "So $\\boxed{\\frac{1}{2}}$.", "level": "Level 1", "type": "Algebra"},
    {"problem": "two", "solution": "So $\\boxed{\\text{even}}$.", "level": "Level 3", "type": "Algebra"},
    {"problem": "three", "solution": "So $\\boxed{(0, \\infty)}$.", "level": "Level 3", "type": "Precalculus"},
]


def why(solution: str, completion: str, ours: bool) -> str:
    """Why a verdict on the recorded answers differs from math-verify's on both texts."""
    if "\\%" in solution:
        return "percent"
    if "_8" in solution and not ours:
        return "base"
    return "bare formula" if "$" not in completion.replace("\\$", "") and ours else "unexplained"


def test_math_verify_is_lm_evals_and_the_other_rules_differ_only_where_definitions_do() -> None:
    same, reasons = Counter[bool](), Counter[str]()
    with grader() as rules:
        for solution, completion, _, theirs, _ in RECORD["cases"]:
            if "\\%" not in solution:  # which latex2sympy reads with some versions of antlr4 only
                same[rules["math_verify"](completion, solution) == bool(theirs)] += 1
            if (ours := rules["math"](completion, solution)) != bool(theirs):
                reasons[why(solution, completion, ours)] += 1
            box = rules["boxed"](completion, solution)
            assert box == (ours and "\\boxed" in completion), (solution, completion)
    assert same == {True: 190}
    assert reasons == {"percent": 5, "base": 2, "bare formula": 9}


def test_figures_of_levels_and_subjects(tmp_path: Path) -> None:
    said = {"one": ("$\\boxed{1} then \\boxed{0.5}$", "it is 1/2"), "two": ("\\boxed{even}", "\\boxed{odd}"),
            "three": ("\\boxed{[0, \\infty)}", "$(0,\\infty)$")}  # fmt: skip
    files = [
        written(tmp_path / f"{n}.jsonl", [{"prompt": p, "completion": two[n]} for p, two in said.items()])
        for n in (0, 1)
    ]
    found = math_accuracy(files, written(tmp_path / "math.jsonl", ROWS))
    first, second = found.figures["models"]
    assert [(m["boxed"]["count"], m["math"]["count"]) for m in (first, second)] == [(2, 2), (0, 2)]
    assert first["boxed"] == wilson(2, 3).as_dict()
    assert list(first["subsets"]) == ["level 1", "level 3", "Algebra", "Precalculus"]
    assert first["subsets"]["level 3"]["boxed"] == wilson(1, 2).as_dict()
    assert second["subsets"]["Precalculus"]["math"] == wilson(1, 1).as_dict()
    test = next(c for c in found.figures["comparisons"] if c["metric"] == "boxed")
    assert test["p_value"] == mcnemar([True, True, False], [False, False, False]).p_value
    assert [(row["level"], row["subject"]) for row in found.rows[:2]] == [
        ("level 1", "Algebra"),
        ("level 3", "Algebra"),
    ]
    assert found.figures["max_new_tokens"] == 1024
    only = math_accuracy(["reference"], str(tmp_path / "math.jsonl"), metrics=["boxed"])
    assert only.figures["models"][0]["boxed"]["value"] == 1
    assert "math" not in only.figures["models"][0]


def test_votes_of_samples(tmp_path: Path) -> None:
    rows = [{"problem": "roll", "answer": "\\frac{2}{4}", "level": 2}, {"problem": "fold", "answer": "7"}]
    table = {"Solution:": "\\boxed{1/2}", "\\boxed{1/2}": "</s>"}
    model = speaker(tmp_path / "model", table, words="Problem: roll fold")
    how = MathPassAtKSettings(ks=(1, 2), samples=2)
    problems = rows_of(written(tmp_path / "math.jsonl", rows), "math")
    found = math_sample_figures(measure_math_samples([model], problems, how, WHOLE), how).figures
    (line,) = found["models"]
    assert {(f["figure"], f["metric"]): f["value"] for f in line["figures"]} == {
        (f"{kind}@{k}", m): 0.5 for kind in ("pass", "maj") for m in ("boxed", "math") for k in (1, 2)
    }
    assert line["problems"][0]["boxed"] == {"right": 2, "wrong": [], "silent": 0}
    assert line["problems"][1]["math"] == {"right": 0, "wrong": [2], "silent": 0}
    assert line["subsets"]["level 2"]["pass@1 boxed"]["value"] == 1
    assert MATH.until == ("Problem:",)


def test_mistakes_are_named_before_a_model_is_opened(tmp_path: Path) -> None:
    data = written(tmp_path / "rows.jsonl", [{"problem": "a", "answer": "\\boxed{ }"}])
    with pytest.raises(DataError, match="no final answer") as error:
        math_accuracy(["nobody"], data)
    assert error.value.where == f"{tmp_path}/rows.jsonl:1"
    long = written(tmp_path / "long.jsonl", [{"problem": "a", "answer": "we argue that all of it is so " * 5}])
    with pytest.raises(DataError, match="no formula"):
        math_accuracy(["nobody"], long)
    with pytest.raises(RecipeError, match="no metric"):
        math_accuracy(["nobody"], written(tmp_path / "fine.jsonl", ROWS), metrics=["strict"])
