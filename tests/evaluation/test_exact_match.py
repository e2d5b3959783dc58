"""Answers are read as GSM8K's own code reads them, and as people mean them; figures are counted on known drafts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from twofold.errors import DataError
from twofold.evaluation.exact_match import (
    CHUNK,
    compare,
    exact_match,
    flexible,
    judge,
    same_number,
    strict,
    truth,
)
from twofold.records import Message, Prompt, Source, Task
from twofold.sampling.base import Draft


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 9 * 2 = <<9*2=18>>18.\n#### 18", "18"),
        ("#### 1,000", "1000"),
        ("#### 18.", "18"),
        ("#### -7", "-7"),
        ("#### 18\n#### 19", "18"),
        ("#### 2.50 dollars", "2.50"),
        ("The answer is 18.", None),
        ("####18", None),
        ("#### $18", None),
        ("", None),
    ],
)
def test_strict_is_gsm8ks_rule(text: str, expected: str | None) -> None:
    assert strict(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18", "18"),
        ("That makes 18 dollars", "18"),
        ("It costs $18.", "18"),
        ("$1,234,567.", "1234567"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\u22127 degrees", "-7"),
        ("16-3", "3"),
        ("16 - 3", "3"),
        ("(16)-3", "3"),
        ("x = -3.", "-3"),
        ("1,2,3", "3"),
        ("18.0", "18.0"),
        ("about .5", ".5"),
        ("see No.5", "5"),
        ("**42**", "42"),
        ("50%", "50"),
        ("from 12 to 15 eggs", "15"),
        ("no number", None),
    ],
)
def test_flexible_takes_the_last_number(text: str, expected: str | None) -> None:
    assert flexible(text) == expected


def test_same_number_compares_values() -> None:
    assert same_number("18.0", "18")
    assert same_number("-.5", "-0.50")
    assert same_number("0", "-0")
    assert not same_number("18", "18.01")
    assert not same_number(None, None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Worked 3 * 6.\n#### 18", "18"),
        ("Worked 3 * 6.\nA: 18", "18"),
        ("A: $1,000 in 12 months", "1000"),
        ("18", "18"),
        ("eighteen, i.e. $18", "18"),
        ("#### ... 18", "18"),
    ],
)
def test_truth_reads_every_form_of_answer(answer: str, expected: str) -> None:
    assert truth(answer) == expected


def test_truth_refuses_an_answer_without_a_number() -> None:
    with pytest.raises(DataError, match="holds no number"):
        truth("eighteen")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("#### 18", (True, True)),
        ("#### 18.0", (False, True)),
        ("It is 18", (False, True)),
        ("#### 18\nand 5 more", (True, False)),
        ("#### 19", (False, False)),
        ("", (False, False)),
    ],
)
def test_judge_gives_both_verdicts(completion: str, expected: tuple[bool, bool]) -> None:
    verdict = judge(completion, "…\n#### 18")
    assert (verdict.strict, verdict.flexible) == expected


class Letters:
    """A codec of one token per character."""

    def prompt(self, prompt: Prompt) -> Tensor:
        text = prompt if isinstance(prompt, str) else prompt[-1].content
        return torch.tensor([ord(c) for c in text])

    def text(self, tokens: Tensor) -> str:
        return "".join(chr(int(t)) for t in tokens)


class Recites:
    """A sampler that answers each prompt from a table; a completion that ends in … was cut."""

    def __init__(self, table: dict[str, str]) -> None:
        self.table, self.calls = table, 0

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        self.calls += 1
        return [[self._draft(Letters().text(p))] * samples for p in prompts]

    def _draft(self, prompt: str) -> Draft:
        text = self.table[prompt]
        return Draft(Letters().prompt(text), torch.zeros(len(text)), text.endswith("…"))


def tasks(*answers: str) -> list[Task]:
    return [Task(f"q{i}", answer, Source("test.jsonl", i + 1)) for i, answer in enumerate(answers)]


def test_exact_match_counts_what_was_said() -> None:
    sampler = Recites({"q0": "#### 1", "q1": "it is 2", "q2": "#### 4", "q3": "3 and 4 and…"})
    result = exact_match(sampler, tasks("#### 1", "#### 2", "#### 3", "#### 4"), Letters())
    assert (result.strict.count, result.flexible.count, result.truncated) == (1, 3, 1)
    assert (result.strict.n, result.strict.value) == (4, 0.25)
    assert result.rows[1].as_dict() == {
        "name": "test.jsonl:2", "prompt": "q1", "completion": "it is 2", "answer": "#### 2",
        "strict": False, "flexible": True, "truncated": False,
    }  # fmt: skip


def test_exact_match_shows_a_chat_as_text() -> None:
    chat = (Message("system", "be brief"), Message("user", "q0"))
    result = exact_match(Recites({"q0": "1"}), [Task(chat, "1", Source("t", 1))], Letters())
    assert result.rows[0].prompt == "system: be brief\nuser: q0"


class Counts:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done: list[int] = []
        self.figures: dict[str, float] = {}
        self.ended = False

    def begin(self, task: str, total: int | None = None) -> None:
        self.total = total

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.done.append(steps)
        self.figures = figures

    def end(self, task: str) -> None:
        self.ended = True

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


def test_exact_match_reports_its_progress_in_chunks() -> None:
    count, seen = CHUNK + 3, Counts()
    sampler = Recites({f"q{i}": "#### 1" for i in range(count)})
    exact_match(sampler, tasks(*["#### 1"] * count), Letters(), progress=seen)
    assert (seen.total, seen.done, sampler.calls, seen.ended) == (count, [CHUNK, 3], 2, True)
    assert seen.figures == {"strict": 1.0, "flexible": 1.0}


def test_exact_match_names_the_row_before_it_draws() -> None:
    sampler = Recites({})
    with pytest.raises(DataError, match=r"test\.jsonl:2: .*holds no number"):
        exact_match(sampler, tasks("#### 1", "none"), Letters())
    assert sampler.calls == 0


def test_compare_is_mcnemar_on_the_same_problems_in_any_order() -> None:
    problems = tasks("1", "2", "3")
    base = exact_match(Recites({"q0": "1", "q1": "0", "q2": "0"}), problems, Letters())
    policy = exact_match(Recites({"q0": "0", "q1": "2", "q2": "3"}), problems[::-1], Letters())
    test = compare(base, policy, "flexible")
    assert (test.only_a, test.only_b, test.n, test.p_value) == (1, 2, 3, 1.0)
    assert compare(base, policy).only_b == 0


def test_compare_refuses_different_problems() -> None:
    sampler = Recites({"q0": "1", "q1": "2"})
    one, two = (exact_match(sampler, tasks(*answers), Letters()) for answers in (["1"], ["1", "2"]))
    with pytest.raises(DataError, match=r"test\.jsonl:2: .*different problems"):
        compare(one, two)


def test_compare_refuses_a_problem_judged_twice() -> None:
    twice = exact_match(Recites({"q0": "1"}), tasks("1") * 2, Letters())
    with pytest.raises(DataError, match="judged 2 times"):
        compare(twice, twice)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_verdicts_agree_with_openais_labels(shared: Path) -> None:
    rows = lines(shared / "data" / "gsm8k" / "example_model_solutions.jsonl")
    models = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    pairs = [(row[m], row["ground_truth"]) for row in rows for m in models]
    agree = [judge(said["solution"], answer).flexible == said["is_correct"] for said, answer in pairs]
    assert len(agree) == 4 * 1319
    assert sum(agree) / len(agree) >= 0.98


def test_truths_of_both_files_are_the_same(shared: Path) -> None:
    problems = lines(shared / "data" / "gsm8k" / "test.jsonl")
    solved = lines(shared / "data" / "gsm8k" / "example_model_solutions.jsonl")
    assert [truth(row["answer"]) for row in problems] == [truth(row["ground_truth"]) for row in solved]
