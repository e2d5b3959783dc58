"""GSM8K's published solutions of models: the ground truth over the first wrong solution of a problem.

github.com/openai/grade-school-math, example_model_solutions.jsonl (Cobbe et al. 2021, arXiv:2110.14168): `question`,
`ground_truth` and, under each model's name, {is_correct, solution}. Correct solutions tie with each other and so do
wrong ones, so that a row holds no ranking; a problem that every model solved is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair


def _is_solution(value: Any) -> bool:
    return isinstance(value, Mapping) and {"is_correct", "solution"} <= set(value)


def _solved(row: Mapping[str, Any]) -> bool:
    return any(_is_solution(v) for v in row.values())


def _truth_over_wrong(row: Fields) -> Pair:
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


SHAPES = (
    Shape("GSM8K model solutions", ("question", "ground_truth"), _truth_over_wrong, fits=_solved, beside=_solutions),
)
