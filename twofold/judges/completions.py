"""Judges that score each completion independently: verifiers, tests of programs, functions of the calling program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

from twofold.errors import DataError, RecipeError
from twofold.judges.base import TASK, Judge, JudgeKind, JudgeNameError, JudgeResources, Scores
from twofold.judges.questions import Question
from twofold.progress import Progress
from twofold.records import final_text, transcript_of
from twofold.rewards.base import RewardFunction, executes, rated
from twofold.rewards.execution import CodeReward
from twofold.rewards.instructions import InstructionReward, readable
from twofold.rewards.mathematics import MathVerifier, solvable
from twofold.rewards.verifier import Metric, VerifierReward, answerable

RULES = ("strict", "flexible", "math", "instructions")


@dataclass(frozen=True)
class CompletionJudge:
    """Scores by a function of prompt, completion and reference answer, with `parallel` calls at once."""

    function: RewardFunction
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    refuse: Callable[[str | None, str], None] = lambda truth, where: None
    """Raises DataError for a question that cannot be judged, from its reference answer."""
    parallel: int = 1

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        for question in questions:
            self.refuse(question.answer, str(question.source))
        before, scores = getattr(self.function, "timeouts", 0), Scores()
        asked = [
            ((transcript_of(q.prompt), final_text(c.completion), q.answer), str(q.source))
            for q in questions
            for c in q.candidates
        ]
        progress.begin(TASK, len(questions))
        with ExitStack() as stack:
            each = map if self.parallel == 1 else stack.enter_context(ThreadPoolExecutor(self.parallel)).map
            numbers = iter(each(lambda one: rated(self.function, *one), asked))
            for question in questions:
                scores.append([next(numbers) for _ in question.candidates])
                progress.advance(TASK)
        progress.end(TASK)
        if late := getattr(self.function, "timeouts", 0) - before:
            seconds = getattr(self.function, "timeout", 0)
            progress.warn(f"{late} comparisons took longer than {seconds:g} s and count as unequal")
        return scores


class VerifierKind(JudgeKind):
    """1 for a completion that ends in the ground truth's answer, or obeys its rules, else 0"""

    name, usage = "verifier", "verifier[:strict|:flexible|:math|:instructions]"
    needs_truth = True
    middle = 0.5

    def __post_init__(self) -> None:
        if self.argument not in ("", *RULES):
            raise JudgeNameError(f"a verifier's rule is one of {', '.join(RULES)}, not {self.argument!r}")

    def refuse(self, truth: str | None, where: str) -> None:
        super().refuse(truth, where)
        if truth is not None:
            {"math": solvable, "instructions": readable}.get(self.argument, answerable)(truth, where)

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        rule = self.argument or "strict"
        reward: RewardFunction
        if rule == "math":
            reward = stack.enter_context(MathVerifier())
        else:
            reward = InstructionReward() if rule == "instructions" else VerifierReward(cast("Metric", rule))
        return CompletionJudge(reward, {"kind": self.name, "metric": rule}, self.refuse)


class CodeKind(JudgeKind):
    """1 for a completion whose program passes the ground truth's tests in a sandbox, else 0"""

    name = usage = "code"
    needs = ("programs",)
    needs_truth = True
    middle = 0.5
    refusal = "runs programs of the model, and nothing here allows them"

    def refuse(self, truth: str | None, where: str) -> None:
        if truth is None:
            remedy = "add tests, as Python, as its answer"
            raise DataError("a program without tests cannot be rated", where=where, remedy=remedy)

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        sandbox = resources.sandbox()
        return CompletionJudge(CodeReward(sandbox), {"kind": self.name}, self.refuse, sandbox.execution.parallel)


class FunctionKind(JudgeKind):
    """what a function of (prompt, completion, ground truth) returns; `twofold.train` takes the function itself"""

    name, usage = "python", "python:FUNCTION"
    needs = ("function",)
    refusal = "is a function of a program: hand it to twofold.train(…)"

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        source, where = f"{self.name}:{self.argument}", resources.place.where
        if source not in resources.functions:
            remedy = "hand the function to twofold.train(…, algorithm={…: function}), or name another judge"
            raise RecipeError(f"{source} is a function of a program", where=where, remedy=remedy)
        function = resources.functions[source]
        if executes(function):
            resources.sandbox()  # raises if not allowed; the function has its own way to run
        return CompletionJudge(function, {"kind": self.name, "function": self.argument})
