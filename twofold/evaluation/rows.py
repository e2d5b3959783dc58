"""The rows that each task measures models on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from twofold.data.formats import read
from twofold.errors import DataError
from twofold.records import Demonstration, Pair, Ranking, Record, Request, Task

Data = str | Sequence[Record]
"""Records, or the file, folder or hub name that `read` reads them from (of a data set there, its split `test`)."""
Needs = Literal[
    "answers",
    "math",
    "truthfulqa",
    "preference",
    "perplexity",
    "win-rate",
    "contest",
    "frontier",
    "judge",
    "ifeval",
    "rewardbench",
    "rewardbench2",
]

_ONE_SHAPE = "rows of one shape with prompts"
_PROMPTS = (Pair, Demonstration, Ranking, Request, Task)
_NEEDS: dict[Needs, tuple[tuple[type[Any], ...], str, str]] = {
    "answers": ((Task,), "problems with answers", "rows need a prompt and an answer"),
    "math": ((Task,), "problems with answers", "rows need problem, and solution or answer"),
    "truthfulqa": ((Task,), "TruthfulQA's questions", "rows need question, mc1_targets and mc2_targets"),
    "ifeval": ((Task,), "prompts with instructions to check",
               "rows need prompt, instruction_id_list and kwargs, as IFEval's, or instructions as JSON in `answer`"),
    "rewardbench": ((Pair,), "RewardBench's pairs", "rows need prompt, chosen, rejected and subset"),
    "rewardbench2": ((Ranking,), "RewardBench 2's rows",
                     "rows need prompt, id, subset, and lists of chosen and of rejected completions"),
    "preference": ((Pair,), "pairs", "rows need chosen and rejected"),
    "perplexity": ((Pair, Demonstration), "pairs or completions",
                   "rows need chosen and rejected, or prompt and completion"),
    "win-rate": (_PROMPTS, _ONE_SHAPE, "rows need prompts, and answers unless there is --against MODEL"),
    "contest": (_PROMPTS, _ONE_SHAPE, "rows need prompts, and answers for `reference`"),
    "judge": ((Pair,), "labeled pairs", "rows need chosen and rejected"),
    "frontier": (_PROMPTS, _ONE_SHAPE, "rows need prompts"),
}  # fmt: skip
"""Kinds of records, their names, and the remedy for others."""


def rows_of(data: Data, task: Needs) -> Sequence[Any]:
    """The rows of `data`; raises DataError unless they are of one kind that `task` can use."""
    records = read(data, split="test").records if isinstance(data, str) else data
    if not records:
        raise DataError("no rows", where=task, remedy="name a file with rows")
    kinds, (wanted, what, remedy) = {type(record) for record in records}, _NEEDS[task]
    if len(kinds) > 1 or not kinds <= set(wanted):
        other = "; for pairs choose --task preference" if kinds == {Pair} else ""
        raise DataError(f"--task {task} requires {what}", where=records[0].source.file, remedy=remedy + other)
    return records
