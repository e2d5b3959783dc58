"""Which prompt of an evaluation a row contains, in shares of its 8-word sequences; templates do not count."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twofold.data import contamination
from twofold.data.contamination import Contamination, EvaluationPrompts
from twofold.data.grams import grams, words
from twofold.records import Demonstration, Pair, Record, Source, Task

COMMON = "please answer the question below in one word"


def asked(*prompts: str) -> EvaluationPrompts:
    seen = EvaluationPrompts()
    for number, prompt in enumerate(prompts, 1):
        seen.see(Task(prompt, "a", Source("test.jsonl", number)), {})
    return seen


def unique(number: int, count: int = 8) -> str:
    return " ".join(f"word{number}x{place}" for place in range(count))


def most(seen: EvaluationPrompts, text: str) -> tuple[int, float]:
    return seen.index().most(grams(words(text), contamination.WORDS))


def test_the_prompt_with_the_largest_share_is_found() -> None:
    """A prompt of 16 words has nine sequences of eight."""
    prompts = [unique(0, 16), unique(1, 16), unique(2, 7), unique(3)]
    assert contamination.WORDS == 8
    assert most(asked(*prompts), unique(1)) == (1, pytest.approx(1 / 9))
    assert most(asked(*prompts), unique(1, 12)) == (1, pytest.approx(5 / 9))
    assert most(asked(*prompts), f"{unique(0)} {unique(1, 9)}") == (1, pytest.approx(2 / 9))
    assert most(asked(*prompts), unique(3)) == (3, 1.0)
    for nothing in (unique(2), unique(3, 7), "", unique(9, 20)):
        assert most(asked(*prompts), nothing) == (-1, 0.0)
    assert most(asked(), unique(1)) == (-1, 0.0)


@pytest.mark.parametrize(
    ("number", "others", "counted"), [(10, 0, True), (11, 0, False), (11, 1089, True), (12, 1088, False)]
)
def test_what_many_prompts_share_is_a_template(number: int, others: int, counted: bool) -> None:
    """In more than ten of them and more than one of a hundred."""
    prompts = [f"{COMMON} {unique(n)}" for n in range(number)] + [unique(number + n) for n in range(others)]
    assert (most(asked(*prompts), COMMON)[1] > 0) == counted
    share = most(asked(*prompts), f"{COMMON} {unique(3)}")
    assert share == (3, 1.0), "the template is no part of the whole"


def faults(seen: EvaluationPrompts, threshold: float, *records: Record) -> list[tuple[int, str]]:
    check = Contamination(seen, threshold)
    for record in records:
        check.see(record, {})
    found = list(check.faults("train.jsonl"))
    assert all((f.file, f.field, f.severity, f.check) == ("train.jsonl", "", "warning", "contamination") for f in found)
    return [(f.row, f.reason) for f in found]


@pytest.mark.parametrize(("threshold", "found"), [(0.5, True), (5 / 9, True), (0.56, False)])
def test_a_row_is_named_from_the_threshold_on(threshold: float, found: bool) -> None:
    """In its prompt or its completions together."""
    reason = "contains 56% of the 8-word sequences of the prompt at test.jsonl:2"
    prompts = (unique(0, 16), unique(1, 16))
    rows: Sequence[Record] = [
        Demonstration(f"q {unique(1, 12)}", "a", Source("train.jsonl", 1)),
        Demonstration("q", f"so {unique(1, 12)} end", Source("train.jsonl", 2)),
        Pair(unique(1, 10), unique(9), " ".join(unique(1, 12).split()[2:]), Source("train.jsonl", 3)),
        Demonstration("q", unique(1, 11), Source("train.jsonl", 4)),
    ]
    assert faults(asked(*prompts), threshold, *rows) == ([(n, reason) for n in (1, 2, 3)] if found else [])


def test_an_equal_prompt_is_an_overlap_and_not_named_here() -> None:
    same = Demonstration(unique(0, 16), "a", Source("train.jsonl", 1))
    longer = Demonstration(f"{unique(0, 16)} more", "a", Source("train.jsonl", 2))
    assert [row for row, _ in faults(asked(unique(0, 16)), 0.5, same, longer)] == [2]


def test_of_very_many_sequences_a_part_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contamination.MOST == 1 << 22
    prompts = [unique(n, 40) for n in range(20)]
    whole = asked(*prompts)
    assert whole.divisor == 1
    monkeypatch.setattr(contamination, "MOST", 200)
    part = asked(*prompts)
    assert part.divisor in (4, 8)
    assert len(part.index().grams) <= 200
    for n in (0, 7, 19):
        rows = [Demonstration(f"q {prompts[n]}", "a", Source("train.jsonl", 1))]
        assert faults(asked(*prompts), 0.9, *rows) == [
            (1, f"contains 100% of the 8-word sequences of the prompt at test.jsonl:{n + 1}")
        ]
