"""Figures are counted on known drafts."""

from __future__ import annotations

import pytest

from support.heard import Heard
from support.recital import Letters, Recites, tasks
from twofold.errors import DataError
from twofold.evaluation.exact_match import compare, exact_match
from twofold.records import Message, Source, Task


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


def test_exact_match_draws_256_at_a_time_and_tells_how_far_it_is() -> None:
    heard, table = Heard(), {f"q{i}": "#### 1" if i < 256 else "it is 1" for i in range(259)}
    sampler = Recites(table)
    exact_match(sampler, tasks(*["#### 1"] * 259), Letters(), progress=heard, seed=7)
    assert sampler.asked == [(256, 1, (7, 0)), (3, 1, (7, 0))]
    assert heard.of("exact match") == [
        ("begin", 259), ("advance", 256, {"strict": 1.0, "flexible": 1.0}),
        ("advance", 3, {"strict": 256 / 259, "flexible": 1.0}), ("end",),
    ]  # fmt: skip
    exact_match(sampler, tasks("1"), Letters())
    assert sampler.asked[-1] == (1, 1, (0, 0))


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
    with pytest.raises(DataError) as refused:
        compare(one, two)
    assert str(refused.value) == (
        "test.jsonl:2: the two models were judged on different problems (1 and 2)\n"
        "  → evaluate both on the same file, with the same limit"
    )
    elsewhere = exact_match(sampler, [Task("q0", "1", Source("a.jsonl", 9))], Letters())
    with pytest.raises(DataError, match=r"^a\.jsonl:9: .*different problems \(1 and 1\)"):
        compare(one, elsewhere)


def test_a_problem_is_its_name_its_prompt_and_its_answer() -> None:
    """Rows of one name are one problem only where prompt and answer are the same."""
    same = [Task(prompt, answer, Source("t", 1)) for prompt, answer in (("q0", "1"), ("q0", "2"), ("q1", "1"))]
    found = exact_match(Recites({"q0": "#### 1", "q1": "#### 1"}), same, Letters())
    assert (compare(found, found).n, found.strict.count) == (3, 2)


def test_compare_refuses_a_problem_judged_twice() -> None:
    twice = exact_match(Recites({"q0": "1"}), tasks("1") * 2, Letters())
    with pytest.raises(DataError) as refused:
        compare(twice, twice)
    assert str(refused.value) == "test.jsonl:1: the problem was judged 2 times\n  → keep one row per problem"
    most = exact_match(Recites({"q0": "1", "q1": "1"}), [*tasks("1", "1"), *[tasks("1", "1")[1]] * 2], Letters())
    with pytest.raises(DataError, match=r"^test\.jsonl:2: the problem was judged 3 times"):
        compare(most, most)


def test_rules_are_obeyed_strictly_or_but_for_an_introduction() -> None:
    sampler = Recites({"q0": "small", "q1": "Sure:\nsmall", "q2": "Large"})
    result = exact_match(sampler, tasks("lowercase", "lowercase", "lowercase"), Letters(), rule="instructions")
    assert [(row.strict, row.flexible) for row in result.rows] == [(True, True), (False, True), (False, False)]


def test_a_rule_that_cannot_be_read_is_refused_before_anything_is_drawn() -> None:
    sampler = Recites({"q0": "small"})
    with pytest.raises(DataError, match="cannot be checked"):
        exact_match(sampler, tasks("be brief"), Letters(), rule="instructions")
    with pytest.raises(DataError):
        exact_match(sampler, tasks("lowercase"), Letters())
    assert sampler.calls == 0
