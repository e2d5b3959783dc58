"""Rankings, comparisons and problems: which scale orders, which side won, and each fault in full."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twofold.data.shapes import SHAPES
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.numbers import read_numbers
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Request, Source, Steps, Task

AT = Source("f", 3)
SCORED, ANSWERS = "prompt + completions (scored)", "prompt + answers (ranked)"


def parsed(name: str, **row: Any) -> tuple[Any, list[str]]:
    fields = Fields(row, AT)
    record = next(shape for shape in SHAPES if shape.name == name).parse(fields)
    issues = [*fields.faults, *fields.remarks]
    return record, [f"{i.field}: {i.reason} → {i.remedy} [{i.severity}: {i.check}]" for i in issues]


def items(key: str, *values: Any, text: str = "text") -> list[dict[str, Any]]:
    return [{text: name, key: value} for name, value in zip("abc", values, strict=False)]


@pytest.mark.parametrize(
    ("completions", "order", "scores"),
    [
        (items("score", 1, 3, 2), "bca", (3.0, 2.0, 1.0)), (items("rating", -1, -3), "ab", (-1.0, -3.0)),
        (items("overall_score", 0.5, 0.25), "ab", (0.5, 0.25)), (items("rank", 3, 1, 2), "bca", None),
        (items("rank", 0, 1), "ab", None), (items("rank", -1, -2), "ba", None),
        ([{"text": "a", "score": 1, "rank": 1}, {"text": "b", "score": 2, "rank": 2}], "ba", (2.0, 1.0)),
        ([{"text": "a", "score": None, "rank": 2}, {"text": "b", "score": None, "rank": 1}], "ba", (-1.0, -2.0)),
        (items("score", 1, 2, text="response"), "ba", (2.0, 1.0)),
        (items("score", 1, 2, text="answer"), "ba", (2.0, 1.0)),
        (items("score", 1, 2, text="completion"), "ba", (2.0, 1.0)),
        ([{"response": "a", "text": None, "score": 1}, {"text": "b", "score": 2}], "ba", (2.0, 1.0)),
    ],
)  # fmt: skip
def test_the_highest_score_and_the_lowest_rank_come_first(completions: Any, order: str, scores: Any) -> None:
    record, issues = parsed(SCORED, prompt="p", completions=completions)
    assert record == Ranking("p", tuple(order), AT, scores)
    assert issues == []


NUMBER = "write a number, or remove the row [error: mistyped field]"


@pytest.mark.parametrize(
    ("completions", "issue"),
    [
        (items("rank", 1, "x"), f"completions.score[2]: is null, not a finite number → {NUMBER}"),
        (items("rank", True, 2), f"completions.score[1]: is null, not a finite number → {NUMBER}"),
        (items("score", "x", 2), f"completions.score[1]: is text, not a finite number → {NUMBER}"),
        (items("score", 1, True), f"completions.score[2]: is a boolean, not a finite number → {NUMBER}"),
        (items("score", None, None), f"completions.score[1]: is null, not a finite number → {NUMBER}"),
        (items("score", 2e30, 1), "completions.score[1]: is 2e+30, and training in single precision takes numbers up "
                                  f"to 1e+30 → {NUMBER}"),
        ([{"text": "a", "score": 1}, 3], "completions: holds items that are not {text, score} → give every item its "
                                         "text and its score or rank [error: mistyped field]"),
        ([{"text": "a", "score": 1}, {"score": 3}], "completions: holds items that are not {text, score} → give every "
                                                    "item its text and its score or rank [error: mistyped field]"),
        ("ab", "completions: is text, not a list of completions → list the completions, best first [error: mistyped "
               "field]"),
        (items("score", 1), "completions: has 1 completions: nothing to rank → list two or more, best first [error: "
                            "nothing to rank]"),
        (items("score", 2, 2, 2), "completions: has 3 completions of 1 different scores → break the ties, unless the "
                                  "objective reads `scores`: any other learns equal ones in the file's order "
                                  "[warning: tied scores]"),
    ],
)  # fmt: skip
def test_items_at_fault_are_named_in_full(completions: Any, issue: str) -> None:
    assert parsed(SCORED, prompt="p", completions=completions)[1] == [issue]


@pytest.mark.parametrize(
    ("name", "row", "order", "scores"),
    [
        ("prompt + completions (best first)", {"completions": ["a", "b", "c"]}, "abc", None),
        ("prompt + completions (best first)", {"completions": ["a", "b"], "scores": None}, "ab", None),
        ("prompt + completions (best first)", {"completions": ["a", "b", "c"], "scores": [2, 3, 2]}, "bac",
         (3.0, 2.0, 2.0)),
        ("prompt + completions + ranks", {"completions": ["a", "b", "c"], "ranks": [2, 3, 1]}, "cab", None),
        ("prompt + completions + ranks", {"completions": ["a", "b", "c"], "ranks": [0, 2, 0]}, "acb", None),
        ("prompt + lists of chosen and rejected (RewardBench 2)", {"chosen": ["a", "b"], "rejected": ["c"]}, "abc",
         (1.0, 1.0, 0.0)),
    ],
)  # fmt: skip
def test_equal_completions_keep_their_order(name: str, row: Any, order: str, scores: Any) -> None:
    assert parsed(name, prompt="p", **row)[0] == Ranking("p", tuple(order), AT, scores)


def test_ratings_of_an_instruction_are_behind_a_users_turn() -> None:
    record, _ = parsed("instruction + generations + ratings", instruction="p", generations=["a", "b"], ratings=[1, 5])
    assert record == Ranking((Message("user", "p"),), ("b", "a"), AT, (5.0, 1.0))
    record, issues = parsed("instruction + generations + ratings", instruction="p", generations=None, ratings=[1])
    assert (record.completions, issues) == (
        (), ["generations: is null → list the completions, best first [error: mistyped field]"],
    )  # fmt: skip
    inner = items("score", 1, 2)
    for prompt in ({"prompt": "p"}, {"context": "p"}, {"prompt": None, "context": "p"}):
        assert parsed(SCORED, **prompt, completions=inner)[0].prompt == "p"
    asked = parsed("instruction + completions (scored)", instruction="p", completions=inner)[0].prompt
    assert asked == (Message("user", "p"),)
    assert parsed(ANSWERS, prompt="p", answers=inner, completions="x")[0] == Ranking("p", ("b", "a"), AT, (2.0, 1.0))


HELPSTEER2 = "prompt + response_1 + response_2 (HelpSteer2)"
SIDES = {"prompt": "p", "response_1": "a", "response_2": "b"}


@pytest.mark.parametrize(("strength", "chosen"), [(-3, "a"), (-0.5, "a"), (0.5, "b"), (1, "b"), (3, "b")])
def test_strength_above_0_is_for_the_second_side(strength: float, chosen: str) -> None:
    record, issues = parsed(HELPSTEER2, **SIDES, preference_strength=strength)
    assert (record, issues) == (Pair("p", chosen, "b" if chosen == "a" else "a", AT), [])


@pytest.mark.parametrize(
    ("name", "row", "chosen"),
    [
        ("history + human_ref_A + human_ref_B (SHP)", {"history": "p", "human_ref_A": "a", "human_ref_B": "b",
                                                       "labels": 1}, "a"),
        ("history + human_ref_A + human_ref_B (SHP)", {"history": "p", "human_ref_A": "a", "human_ref_B": "b",
                                                       "labels": 0}, "b"),
        ("prompt + response_0 + response_1 (PKU-SafeRLHF)", {"prompt": "p", "response_0": "a", "response_1": "b",
                                                             "better_response_id": 0}, "a"),
        ("prompt + response_0 + response_1 (PKU-SafeRLHF)", {"prompt": "p", "response_0": "a", "response_1": "b",
                                                             "better_response_id": 1}, "b"),
    ],
)  # fmt: skip
def test_the_side_that_a_verdict_names_is_chosen(name: str, row: dict[str, Any], chosen: str) -> None:
    record, issues = parsed(name, **row)
    assert (record.prompt, record.chosen, issues) == ("p", chosen, [])


@pytest.mark.parametrize("winner", ["tie", "tie (bothbad)", "both_bad"])
def test_ties_of_the_arena_are_passed_over(winner: str) -> None:
    turns = {f"conversation_{s}": [{"role": "user", "content": "p"}, {"role": "assistant", "content": s}] for s in "ab"}
    _, issues = parsed("conversation_a + conversation_b + winner (LMArena)", **turns, winner=winner)
    assert issues == [
        f"winner: is '{winner}': neither answer is preferred → the row is passed over [warning: no preference]"
    ]
    record, issues = parsed("conversation_a + conversation_b + winner (LMArena)", **turns, winner="model_b")
    assert (record.chosen, record.rejected, issues) == ("b", "a", [])


ARENA = "prompt + response_a + response_b (LMArena)"


@pytest.mark.parametrize(
    ("wins", "chosen"), [((1, 0, 0), "a"), ((0, 1, 0), "b"), (("1", "0", "0"), "a"), (("0", "1", "0"), "b")]
)
def test_one_win_of_three_names_the_winner(wins: Any, chosen: str) -> None:
    won = dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), wins, strict=True))
    texts = {"prompt": '["p", "q"]', "response_a": '["x", "a"]', "response_b": '["x", "b"]'}
    record, issues = parsed(ARENA, **texts, **won)
    assert (record.chosen, issues) == (chosen, [])
    assert [turn.content for turn in record.prompt] == ["p", "x", "q"]


def test_a_summary_is_of_the_post_under_its_heads() -> None:
    info = {"subreddit": "r1", "title": "t", "post": "x", "article": None, "site": "s"}
    both = [{"text": " a", "policy": "m"}, {"text": " b", "policy": "n"}]
    record, issues = parsed("info + summaries + choice (OpenAI summaries)", info=info, summaries=both, choice=0)
    prompt = "SUBREDDIT: r/r1\n\nTITLE: t\n\nPOST: x\n\nTL;DR:"
    assert (record, issues) == (Pair(prompt, " a", " b", AT), [])
    record, _ = parsed("info + summaries + choice (OpenAI summaries)", info={"article": "y"}, summaries=both, choice=1)
    assert record == Pair("ARTICLE: y\n\nTL;DR:", " b", " a", AT)


@pytest.mark.parametrize(
    ("value", "pairs", "fault"),
    [
        ({"choices": ["a", "b"], "labels": [1, 0]}, [["a", 1], ["b", 0]], None),
        ({"choices": ("a",), "labels": (1,)}, [["a", 1]], None),
        ({"a": 1, "b": 1}, [["a", 1], ["b", 1]], None),
        ({"choices": 1}, [["choices", 1]], None),
        ({"choices": ["a"], "labels": [1], "more": 0}, None, "is no list of texts with labels 0 and 1"),
        ({"choices": ["a", "b"], "labels": "10"}, None, "is no list of texts with labels 0 and 1"),
        ({"choices": "ab", "labels": [1, 0]}, None, "is no list of texts with labels 0 and 1"),
        ({"choices": ["a", ""], "labels": [1, 0]}, None, "is no list of texts with labels 0 and 1"),
        ({"choices": ["a"], "labels": [0.5]}, None, "is no list of texts with labels 0 and 1"),
        ({"a": 0}, None, "has no right answer"),
    ],
)
def test_choices_have_a_label_each(value: Any, pairs: Any, fault: str | None) -> None:
    name = "question + mc1_targets + mc2_targets (TruthfulQA)"
    record, issues = parsed(name, question="q", mc1_targets={"x": 1}, mc2_targets=value)
    remedies = {
        "has no right answer": "give one answer the label 1",
        "is no list of texts with labels 0 and 1": 'write {"choices": ["…"], "labels": [1]}',
    }
    assert issues == ([] if fault is None else [f"mc2_targets: {fault} → {remedies[fault]} [error: mistyped field]"])
    if pairs is not None:
        assert json.loads(record.answer) == {"mc1": [["x", 1]], "mc2": pairs}


GSM8K = "GSM8K model solutions"


def solved(correct: Any, solution: str = "s") -> dict[str, Any]:
    return {"is_correct": correct, "solution": solution}


@pytest.mark.parametrize(
    ("models", "rejected", "issues"),
    [
        ({"m": solved(False, "x"), "n": solved(False, "y")}, "x", []),
        ({"m": solved(True), "n": solved(False, "y")}, "y", []),
        ({"m": solved(None), "n": solved(False, "y"), "id": 3}, "y", []),
        ({"m": solved(0), "n": solved(False, "y")}, "y",
         ["m.is_correct: is not true or false → write true for a right solution, false for a wrong one [error: "
          "mistyped field]"]),
        ({"m": solved(True), "n": solved(None)}, "",
         [": has no wrong solution to reject → the row is passed over [warning: nothing to reject]"]),
    ],
)  # fmt: skip
def test_the_ground_truth_is_preferred_to_the_first_wrong_solution(models: Any, rejected: str, issues: Any) -> None:
    record, notes = parsed(GSM8K, question="q", ground_truth="2", **models)
    assert (record.rejected, notes) == (rejected, issues)
    assert (record.prompt, record.chosen) == (("q", "2") if rejected else ("", ""))


def test_answers_that_are_no_single_text_are_empty() -> None:
    turns = [{"role": "assistant", "content": "a", "thinking": "t"}]
    prompt = [{"role": "user", "content": "p"}]
    for name, row in (
        ("prompt + answer", {"prompt": prompt, "answer": turns}),
        ("problem + answer", {"problem": prompt, "answer": turns}),
    ):
        record, issues = parsed(name, **row)
        assert (record.answer, len(issues)) == ("", 1)
        assert issues[0].startswith("answer: is no single text, by which an answer could be checked → write ")
    record, issues = parsed("prompt + completion + answer", prompt="p", completion="c", answer=None)
    assert issues == [
        "answer: is null → write what a verifier checks as text: a result, rules, tests [error: mistyped field]"
    ]


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (Pair("p", "a", "b", AT), ("weight", "probability", "margin")),
        (Ranking("p", ("a", "b"), AT), ("weight", "margin")),
        (Labelled("p", "a", True, AT), ("weight",)),
        (Demonstration("p", "a", AT), ("weight",)),
        (Steps("p", ("a",), (1.0,), AT), ("weight",)),
        (Task("p", "a", AT), ()),
        (Request("p", AT), ()),
    ],
)
def test_which_numbers_a_kind_of_row_may_have(kind: Record, numbers: tuple[str, ...]) -> None:
    assert read_numbers(kind) == numbers
