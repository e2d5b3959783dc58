"""Problems of mathematics with solutions.

GSM8K's published solutions of models, github.com/openai/grade-school-math, example_model_solutions.jsonl (Cobbe et al.
2021, arXiv:2110.14168): `question`, `ground_truth` and, under each model's name, {is_correct, solution}. Correct
solutions tie with each other and so do wrong ones, so that a row holds no ranking: the ground truth is preferred to the
first wrong solution, and a problem that every model solved is passed over.

MATH (Hendrycks et al. 2021, arXiv:2103.03874) and MATH-500: `problem`, `solution` with a boxed answer, `answer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair, Task


def _is_solution(value: Any) -> bool:
    return isinstance(value, Mapping) and {"is_correct", "solution"} <= set(value)


def _solved(row: Mapping[str, Any]) -> bool:
    return any(_is_solution(v) for v in row.values())


def _truth_over_wrong(row: Fields) -> Pair:
    for name in _solutions(row.row):
        if not isinstance(row.row[name]["is_correct"], bool | None):
            row.fault(
                f"{name}.is_correct", "is not true or false", "write true for a right solution, false for a wrong one"
            )
    wrong = {
        f"{name}.solution": value["solution"]
        for name, value in row.row.items()
        if _is_solution(value) and value["is_correct"] is False
    }
    if not wrong:
        row.pass_over("", "has no wrong solution to reject", "nothing to reject")
        return Pair("", "", "", row.source)
    first = next(iter(wrong))
    prompt, (chosen, rejected) = row.spread(wrong).turns("question", "ground_truth", first)
    return Pair(prompt, chosen, rejected, row.source)


def _solutions(row: Mapping[str, Any]) -> list[str]:
    return [name for name, value in row.items() if _is_solution(value)]


def _problem(row: Fields, told: str) -> Task:
    """A problem with its worked solution, or with its bare answer, as the reference answer."""
    prompt, (answer,) = row.turns("problem", told)
    if not isinstance(answer, str):
        row.fault(told, "is no single text, by which an answer could be checked", "write it as text")
        answer = ""
    return Task(prompt, answer, row.source)


def _boxed(row: Mapping[str, Any]) -> bool:
    return "prompt" not in row and isinstance(row["solution"], str) and "\\boxed" in row["solution"]


def _bare(row: Mapping[str, Any]) -> bool:
    return "prompt" not in row and "question" not in row


SHAPES = (
    Shape("GSM8K model solutions", ("question", "ground_truth"), _truth_over_wrong, fits=_solved, beside=_solutions),
)
PROBLEMS = (
    Shape(
        "problem + solution (MATH)", ("problem", "solution"), partial(_problem, told="solution"), ("answer",), _boxed
    ),
    Shape("problem + answer", ("problem", "answer"), partial(_problem, told="answer"), fits=_bare,
          beside=lambda _: ("solution",)),
)  # fmt: skip
