"""Judges as evaluations open them: a referee of matchups, or what rates single answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from twofold.errors import RecipeError
from twofold.judges.matchups import Referee
from twofold.judges.matchups import open_referee as open_by_name
from twofold.judges.registry import KINDS, JudgeResources, judge_kind, open_judge
from twofold.judges.scoring import Judge
from twofold.ledger import Ledger
from twofold.rewards.model import open_reward

OpenLedger = Callable[[], Ledger]


def open_referee(
    name: str, open_ledger: OpenLedger, resources: ExitStack, *, rubric: str | None, max_length: int
) -> Referee:
    """What decides matchups: any judge of answers, or the people of human:FILE. Raises RecipeError for other names."""
    return open_by_name(name, _resources(open_ledger, rubric, max_length), resources)


def open_rater(
    name: str, open_ledger: OpenLedger, resources: ExitStack, *, rubric: str | None, max_length: int
) -> Judge:
    """What gives each answer a reward; a folder's name alone is a reward model. Raises RecipeError for any other."""
    name = name if name.partition(":")[0] in KINDS else f"reward:{name}"
    try:
        if judge_kind(name)[0] == "llm":
            raise ValueError("llm compares answers and gives no reward; llm-score:URL#NAME does")
        return open_judge(name, _resources(open_ledger, rubric, max_length), resources)
    except ValueError as error:
        raise RecipeError(str(error), where="--reward") from None


def _resources(open_ledger: OpenLedger, rubric: str | None, max_length: int) -> JudgeResources:
    return JudgeResources(partial(open_reward, max_length=max_length), open_ledger, rubric)
