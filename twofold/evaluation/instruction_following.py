"""`ifeval`: how many verifiable instructions, and how many prompts with all of theirs, a model's answers follow.

IFEval: Zhou et al. (2023), arXiv:2311.07911. `rewards/ifeval.py` has the checks, and the strict and loose verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.errors import DataError, RecipeError
from twofold.evaluation.answers import Answered, measure_answers
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.players import REFERENCE, parse_players
from twofold.evaluation.problems import PromptSettings
from twofold.evaluation.rows import Data, rows_of
from twofold.records import Task
from twofold.rewards import ifeval
from twofold.rewards.instructions import readable
from twofold.settings import with_keywords

VERDICTS = ("strict", "loose")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class IfevalSettings(PromptSettings):
    """As for `accuracy`, without worked examples. The limit of an answer is lm-eval's."""

    preset: str = "ifeval"
    max_new_tokens: int = 1280


@with_keywords(IfevalSettings)
def instruction_following(models: Sequence[str], data: Data, how: IfevalSettings) -> Evaluation:
    """IFEval's four accuracies of each player, greedy if it has no temperature: of prompts and of instructions, each
    strict and loose; and both of each group of instructions.

    `models` are players (docs/evaluation.md), the first the baseline; `data` are IFEval's rows, or rows whose answer is
    instructions as JSON. Shares have Wilson's intervals (instructions of one prompt count at their effective number),
    every two models a paired test per accuracy with Holm's correction. Raises DataError for an instruction that cannot
    be checked, RecipeError for a package that a check lacks, before anything is drawn.
    """
    return instruction_figures(measure_instructions(models, rows_of(data, "ifeval"), how, WHOLE), how)


def measure_instructions(
    models: Sequence[str], problems: Sequence[Task], how: IfevalSettings, part: Part
) -> dict[str, Line]:
    """Every answer of each model, with the verdicts on each instruction."""
    for player in parse_players(models):
        if player.kind == REFERENCE or player.shots:
            what, remedy = (
                f"{player.name} has no meaning here",
                "IFEval has no reference answers and no worked examples",
            )
            raise RecipeError(what, where="--task ifeval", remedy=remedy)
    for problem in problems:
        if not problem.answer.lstrip().startswith("["):
            remedy = "rows need prompt, instruction_id_list and kwargs"
            raise DataError("the row has no instructions of IFEval", where=str(problem.source), remedy=remedy)
        readable(problem.answer, str(problem.source))
    return measure_answers(models, problems, how, part, _rows)


def instruction_figures(measured: Mapping[str, Line], how: IfevalSettings) -> Evaluation:
    """The table of what was measured."""
    entries = [_entry(name, line.rows, line.about) for name, line in measured.items()]
    return Evaluation.of(entries, max_new_tokens=how.max_new_tokens)


def _rows(name: str, found: Sequence[Answered]) -> list[Row]:
    rows: list[Row] = []
    for row in found:
        told = ifeval.instructions_of(row.answer)
        rows.append(
            {"model": name, "name": row.name, "prompt": row.prompt, "completion": row.completion,
             "instructions": [{"kind": each.kind, **each.arguments} for each in told],
             "strict": ifeval.strict(row.completion, told), "loose": ifeval.loose(row.completion, told),
             "truncated": row.truncated, "tokens": row.tokens}
        )  # fmt: skip
    return rows


def _entry(name: str, rows: Sequence[Row], prompting: Mapping[str, Any]) -> Entry:
    prompts = [row["prompt"] for row in rows]
    measures: dict[str, BinaryOutcomes] = {}
    for verdict in VERDICTS:
        measures[f"prompt_{verdict}"] = BinaryOutcomes([all(row[verdict]) for row in rows], prompts)
        measures[f"instruction_{verdict}"] = _of_instructions(rows, verdict)
    groups = dict.fromkeys(told["kind"].partition(":")[0] for row in rows for told in row["instructions"])
    subsets = {g: {v: _of_instructions(rows, v, g).estimate().as_dict() for v in VERDICTS} for g in groups}
    first = {**prompting, "first prompt": prompts[0] if rows else ""}
    return Entry(
        name,
        measures,
        about={"subsets": subsets, "prompting": first},
        counts={"truncated": sum(row["truncated"] for row in rows)},
        rows=rows,
    )


def _of_instructions(rows: Sequence[Row], verdict: str, group: str | None = None) -> BinaryOutcomes:
    """The verdicts on all instructions, or on those of a group."""
    told = [
        (right, row["prompt"])
        for row in rows
        for each, right in zip(row["instructions"], row[verdict], strict=True)
        if group is None or each["kind"].partition(":")[0] == group
    ]
    return BinaryOutcomes([right for right, _ in told], [prompt for _, prompt in told])
