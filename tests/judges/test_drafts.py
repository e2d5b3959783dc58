"""A policy's drafts as texts before judges of texts, and the problems on which no draft could be judged."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.errors import DataError, RecipeError
from twofold.judges.base import DraftResources, JudgeResources
from twofold.judges.drafts import open_draft_judge
from twofold.judges.registry import GATE, REWARD
from twofold.ledger import Ledger

STOP = 0


def text(tokens: Tensor) -> str:
    """A token per character; the stop token says nothing."""
    return "".join(chr(int(t)) for t in tokens if int(t) != STOP)


def tokens(written: str, *, stop: bool = True) -> Tensor:
    return torch.tensor([ord(c) for c in written] + [STOP] * stop)


def problem(name: str, truth: Tensor | None, *drafts: str) -> Group:
    return Group(name, tokens("why?"), tuple(Branch(tokens(d), Role.DRAFT) for d in drafts), truth)


class Two:
    """A reward model that gives the number of tokens."""

    def rate(self, groups: list[Group]) -> list[list[float]]:
        return [[float(len(b.tokens)) for b in g.branches] for g in groups]


def resources(tmp_path: Path, **changes: object) -> DraftResources:
    of_texts = JudgeResources(REWARD, lambda: Ledger(tmp_path / "ledger"), **changes)  # type: ignore[arg-type]
    return DraftResources(of_texts, text, frozenset({STOP}), lambda folder: Two(), Two())


def rated(name: str, drafts: DraftResources, *groups: Group) -> list[list[float]]:
    with ExitStack() as stack:
        return open_draft_judge(name, drafts, stack, groups).rate(groups)


def test_each_draft_is_judged_by_its_text(tmp_path: Path) -> None:
    group = problem("f:1", tokens("6*3=18\n#### 18"), "9+9=18\n#### 18", "9+8=17\n#### 17", "It is 18")
    assert rated("verifier", resources(tmp_path), group) == [[1.0, 0.0, 0.0]]
    assert rated("verifier:flexible", resources(tmp_path), group, group) == [[1.0, 0.0, 1.0]] * 2


def test_math_verify_judges_drafts(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    group = problem("f:1", tokens("$0.5$"), "so it is $\\frac{2}{4}$", "It is 13.")
    assert rated("verifier:math", resources(tmp_path), group) == [[1.0, 0.0]]


def test_a_reward_model_reads_the_tokens_themselves(tmp_path: Path) -> None:
    assert rated("reward:there", resources(tmp_path), problem("f:1", None, "abc", "")) == [[4.0, 1.0]]


def test_a_function_gets_texts_and_may_say_nothing(tmp_path: Path) -> None:
    seen: list[tuple[str, str, str | None]] = []

    def silent(prompt: str, completion: str, truth: str | None) -> float:
        seen.append((prompt, completion, truth))
        return math.nan

    given = resources(tmp_path, functions={"python:silent": silent})
    ((value,),) = rated("python:silent", given, problem("f:1", tokens("yes"), "no"))
    assert math.isnan(value)
    assert seen == [("why?", "no", "yes")]
    rated("python:silent", replace(given, prompt_of={"f:1": "Why?"}.get), problem("f:1", None, "no"))
    assert seen[1:] == [("Why?", "no", None)]
    with pytest.raises(RecipeError, match="python:other is a function of a program"):
        rated("python:other", given)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (tokens("#### 1", stop=False), "was cut"),
        (None, "no answer"),
        (tokens("eighteen"), "holds no number"),
        (tokens("so\n#### 3/4"), "no plain number"),
        (tokens("#### 12:30"), "no plain number"),
    ],
)
def test_problems_that_cannot_be_verified_are_named(truth: Tensor | None, message: str, tmp_path: Path) -> None:
    good, bad = problem("f:1", tokens("#### 1"), "#### 1"), problem("f:2", truth)
    with pytest.raises(DataError, match=f"f:2: .*{message}"):
        rated("verifier", resources(tmp_path), good, bad)
    assert rated("reward:there", resources(tmp_path), good, bad) == [[7.0], []]


def test_a_verifier_checks_the_rows_answer_and_not_its_completion(tmp_path: Path) -> None:
    """A row with both: `completion` is the reference answer that comparisons read, `answer` the rules."""
    group = problem("f:1", tokens("The sea is wide.", stop=False), "a b", "a b c")
    rules = replace(resources(tmp_path), answer_of={"f:1": "at most 2 words"}.get)
    assert rated("verifier:instructions", rules, group) == [[1.0, 0.0]]
    with pytest.raises(DataError, match=r"f:2: the rule .* cannot be checked"):
        rated("verifier:instructions", rules, problem("f:2", tokens("?;"), "a"))
    with pytest.raises(DataError, match=r"f:1: .*at mst"):
        rated("verifier:instructions", replace(rules, answer_of={"f:1": "at mst 2 words"}.get), group)
    seen: list[str | None] = []

    def read(prompt: str, completion: str, truth: str | None) -> float:
        seen.append(truth)
        return 0.0

    functions = replace(rules.of_texts, functions={"python:read": read})
    rated("python:read", replace(rules, of_texts=functions), group)
    assert seen == ["The sea is wide."] * 2


def test_a_gate_has_no_setting_that_allows_a_functions_programs(tmp_path: Path) -> None:
    def runs(prompt: str, completion: str, truth: str | None) -> float:
        raise AssertionError("it must not be called")

    runs.executes = True  # type: ignore[attr-defined]  # how a function says so
    of_texts = JudgeResources(GATE, lambda: Ledger(tmp_path / "ledger"), functions={"python:runs": runs})
    with pytest.raises(RecipeError, match=r"algorithm\.judge\.source: no programs of the model are run here"):
        rated("python:runs", DraftResources(of_texts, text, frozenset({STOP}), lambda folder: Two()))
