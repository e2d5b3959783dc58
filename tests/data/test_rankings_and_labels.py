"""Rows of ranked and of labelled completions: their shapes, their faults, their groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from twofold.batch import Role
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Source

Write = Callable[..., str]
USER = {"role": "user", "content": "a?"}
CHAT = (Message("user", "a?"),)


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "a?", "completions": ["x", "y", "z"]}, "a?"),
        ({"prompt": [USER], "completions": [[said("x")], [said("y")], [said("z")]]}, CHAT),
        ({"prompt": [USER], "completions": ["x", [USER, said("y")], "z"], "score": [3, 2, 1]}, CHAT),
        ({"prompt": "a?", "completions": [[USER, said(c)] for c in "xyz"]}, CHAT),
    ],
)
def test_rankings_are_read_best_first(write: Write, row: Any, prompt: Any) -> None:
    path = write("rows.jsonl", row)
    table = read(path)
    assert table.format == "prompt + completions (best first)"
    assert table.records == [Ranking(prompt, ("x", "y", "z"), Source(path, 1))]


def test_labelled_completions_are_read(write: Write) -> None:
    rows = [
        {"prompt": "a?", "completion": "x", "label": True},
        {"prompt": [USER], "completion": [said("y")], "label": False},
    ]
    path = write("rows.jsonl", *rows)
    table = read(path)
    assert table.format == "prompt + completion + label"
    assert table.records == [Labelled("a?", "x", True, Source(path, 1)), Labelled(CHAT, "y", False, Source(path, 2))]


def test_columns_of_ones_own_name(write: Write) -> None:
    path = write("rows.jsonl", {"question": "a?", "answers": ["x", "y"]})
    (record,) = read(path, columns={"prompt": "question", "completions": "answers"}).records
    assert record == Ranking("a?", ("x", "y"), Source(path, 1))


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"prompt": "a", "completions": ["x"]}, "completions", "has 1 completions: nothing to rank"),
        ({"prompt": "a", "completions": []}, "completions", "has 0 completions"),
        ({"prompt": "a", "completions": "x"}, "completions", "is text, not a list"),
        ({"prompt": "a", "completions": None}, "completions", "is null"),
        ({"prompt": "a", "completions": ["x", " "]}, "completions[2]", "is only white space"),
        ({"prompt": "a", "completions": ["x", None]}, "completions[2]", "is null"),
        ({"prompt": [USER], "completions": ["x", [USER]]}, "completions[2]", "no assistant turn"),
        ({"prompt": "a", "completion": "x", "label": "good"}, "label", "is text, not true, false or a probability"),
        ({"prompt": "a", "completion": "x", "label": 2}, "label", "is 2, not true, false or a probability"),
        ({"prompt": "a", "completion": "x", "label": None}, "label", "is null"),
    ],
)
def test_a_fault_names_the_completion_or_the_label(write: Write, row: Any, field: str, message: str) -> None:
    ranking = {"prompt": "a", "completions": ["x", "y"]}
    first = ranking if "completions" in row else {"prompt": "a", "completion": "b", "label": True}
    path = write("rows.jsonl", first, row)
    with pytest.raises(DataError) as error:
        read(path)
    assert message in error.value.what
    assert error.value.where == f"{path}:2, `{field}`"
    assert error.value.remedy


def test_a_first_row_without_its_label_is_told_so(write: Write) -> None:
    with pytest.raises(DataError, match="is null") as error:
        read(write("rows.jsonl", {"prompt": "a", "completion": "x", "label": None}))
    assert error.value.where.endswith(":1, `label`")


def test_the_check_of_rankings(write: Write) -> None:
    rows = [["x", "y"], ["x", "y", "x "], ["x", "y"], ["y", "x\x07"]]
    report = check(write("rows.jsonl", *({"prompt": "a", "completions": row} for row in rows)))
    assert [(f.row, f.field, f.check) for f in report.faults] == [
        (2, "completions[3]", "same rank"),
        (3, "", "duplicate"),
        (4, "completions[2]", "control character"),
    ]
    assert [f.severity for f in report.faults] == ["error", "warning", "warning"]
    assert report.records == 3


def test_the_check_of_labels(write: Write) -> None:
    rows = [("x", True), ("y", False), ("x", True), ("y", True)]
    report = check(write("rows.jsonl", *({"prompt": "a", "completion": c, "label": label} for c, label in rows)))
    assert [(f.row, f.field, f.check) for f in report.faults] == [
        (2, "label", "contradiction"),
        (3, "", "duplicate"),
        (4, "label", "contradiction"),
    ]
    assert report.faults[0].reason == "contradicts row 4"


def test_a_ranking_is_one_group_in_its_order(tokenizer: Any) -> None:
    made = tokenizer(None)
    encoder = Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(max_length=12))
    rankings = [Ranking("a:", ("x", "yyy", "x"), Source("f", 1)), Ranking("a:", ("x", "y" * 12), Source("f", 2))]
    encoded = encode(rankings, encoder)
    assert encoded.dropped == ("f:2",)
    (group,) = encoded.groups
    assert [encoder.text(b.tokens) for b in group.branches] == ["x", "yyy", "x"]
    assert {b.role for b in group.branches} == {Role.RANKED}
    assert group.truth is None
    assert group.num_tokens == len(group.prompt) + 1 + 3 + 1


def test_a_labelled_completion_is_a_group_of_one(tokenizer: Any) -> None:
    made = tokenizer(None)
    encoder = Encoder(made, frozenset({made.eos_token_id}))
    for desirable, role in ((True, Role.DESIRABLE), (False, Role.UNDESIRABLE)):
        (branch,) = encoder.group(Labelled("a:", "x", desirable, Source("f", 1))).branches
        assert (branch.role, encoder.text(branch.tokens)) == (role, "x")


def test_scores_and_probabilities_are_read_where_there_are_any(write: Write) -> None:
    rows: list[Any] = [{"scores": [3, 1.5, 1.5]}, {}, {"scores": None}]
    path = write("rankings.jsonl", *({"prompt": "a?", "completions": ["x", "y", "z"], **row} for row in rows))
    assert [r.scores for r in read(path).records] == [(3.0, 1.5, 1.5), None, None]
    rows = [{"probability": 0.8}, {}, {"probability": None}, {"probability": 1}]
    path = write("pairs.jsonl", *({"prompt": "a?", "chosen": "x", "rejected": "y", **row} for row in rows))
    assert [r.probability for r in read(path).records] == [0.8, None, None, 1.0]
    path = write("own.jsonl", {"prompt": "a?", "completions": ["x", "y"], "ratings": [2, 1]})
    assert read(path, columns={"scores": "ratings"}).records == [Ranking("a?", ("x", "y"), Source(path, 1), (2.0, 1.0))]


def test_a_gold_answer_stands_beside_the_pair(write: Write, tokenizer: Any) -> None:
    """Under its own name or another's; a row without one is a pair as ever."""
    told = {"prompt": [USER], "chosen": [said("x")], "rejected": [said("y")]}
    path = write("triples.jsonl", {**told, "reference": [said("z")]}, {**told, "reference": None})
    assert read(path, columns={"gold": "reference"}).records == [
        Pair(CHAT, "x", "y", Source(path, 1), gold="z"), Pair(CHAT, "x", "y", Source(path, 2)),
    ]  # fmt: skip
    path = write("shared.jsonl", {key: [USER, said(key)] for key in ("chosen", "rejected", "gold")})
    assert read(path).records == [Pair(CHAT, "chosen", "rejected", Source(path, 1), gold="gold")]
    made = tokenizer(None)
    encoder = Encoder(made, frozenset({made.eos_token_id}))
    group = encoder.group(Pair("a:", "x", "y", Source("f", 1), 0.8, gold="z"))
    assert [(b.role, encoder.text(b.tokens)) for b in group.branches] == [
        (Role.CHOSEN, "x"), (Role.REJECTED, "y"), (Role.DEMONSTRATION, "z"),
    ]  # fmt: skip
    assert [b.columns.get("win_rate") for b in group.branches] == [0.8, pytest.approx(0.2), None]
    assert [b.columns["probability"] for b in group.branches] == [0.8, 0.8, 0.8]


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"chosen": "x", "rejected": "y", "gold": " "}, "gold", "is only white space"),
        ({"chosen": "x", "rejected": "y", "gold": 3}, "gold", "not text or a chat"),
        ({"completions": ["x", "y"], "scores": [1]}, "scores", "has 1 scores, not one for each of 2 completions"),
        ({"completions": ["x", "y"], "scores": "good"}, "scores", "is text"),
        ({"completions": ["x", "y"], "scores": [1, True]}, "scores[2]", "not a finite number"),
        ({"completions": ["x", "y"], "scores": [float("inf"), 1]}, "scores[1]", "is inf, not a finite number"),
        ({"chosen": "x", "rejected": "y", "probability": 1.2}, "probability", "is 1.2, not a probability"),
        ({"chosen": "x", "rejected": "y", "probability": "0.8"}, "probability", "is text"),
    ],
)
def test_a_fault_names_the_score_the_probability_or_the_gold_answer(
    write: Write, row: Any, field: str, message: str
) -> None:
    path = write("rows.jsonl", {"prompt": "a?", **row})
    with pytest.raises(DataError) as error:
        read(path)
    assert message in error.value.what
    assert error.value.where == f"{path}:1, `{field}`"
    assert error.value.remedy


def test_numbers_of_a_row_are_columns_of_its_branches(tokenizer: Any) -> None:
    made = tokenizer(None)
    encoder = Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(max_length=12))
    ranking = encoder.group(Ranking("a:", ("x", "y"), Source("f", 1), (2.0, -1.0)))
    assert [b.columns for b in ranking.branches] == [{"level": 0.0, "score": 2.0}, {"level": 1.0, "score": -1.0}]
    tied = encoder.group(Ranking("a:", ("x", "y", "z"), Source("f", 1), (2.0, 2.0, 1.0), 0.5))
    assert [b.columns["level"] for b in tied.branches] == [0.0, 0.0, 2.0]
    assert [b.columns["margin"] for b in tied.branches] == [0.5, 0.5, 0.5]
    pair = encoder.group(Pair("a:", "x", "y", Source("f", 1), 0.75))
    assert [b.columns for b in pair.branches] == [
        {"win_rate": 0.75, "probability": 0.75}, {"win_rate": 0.25, "probability": 0.75},
    ]  # fmt: skip
    label = encoder.group(Labelled("a:", "x", True, Source("f", 1), 0.75, 2.0))
    assert ([b.columns for b in label.branches], label.weight) == ([{"probability": 0.75, "weight": 2.0}], 2.0)
    assert not encoder.group(Ranking("a:", ("x", "y"), Source("f", 1))).has("score")


@pytest.mark.parametrize(
    ("row", "record"),
    [
        ({"chosen": "x", "rejected": "y", "weight": 2}, Pair("a?", "x", "y", Source("", 1), weight=2.0)),
        ({"completions": ["x", "y"], "weight": 0.5, "margin": 1},
         Ranking("a?", ("x", "y"), Source("", 1), margin=1.0, weight=0.5)),
        ({"completions": [{"text": "x", "score": 2}, {"text": "y", "score": 1}], "margin": 1},
         Ranking("a?", ("x", "y"), Source("", 1), (2.0, 1.0), 1.0)),
        ({"completion": "x", "label": 0.25, "weight": 3}, Labelled("a?", "x", False, Source("", 1), 0.75, 3.0)),
        ({"completion": "x", "weight": 0}, Demonstration("a?", "x", Source("", 1), 0.0)),
    ],
)  # fmt: skip
def test_numbers_are_read_in_every_format(write: Write, row: Any, record: Record) -> None:
    path = write("rows.jsonl", {"prompt": "a?", **row}, {"prompt": "b?", **row, "weight": 1.0})
    assert read(path).records[0] == replace(record, source=Source(path, 1))
    own = write("own.jsonl", {"prompt": "a?", **row, "count": 4.0, "weight": None})
    assert read(own, columns={"weight": "count"}).records[0].weight == 4.0  # type: ignore[union-attr]  # all have one
    raw = write("raw.jsonl", {**{s: f"\n\nHuman: a\n\nAssistant: {s}" for s in ("chosen", "rejected")}, "weight": 2})
    assert [r.weight for r in read(raw).records] == [2.0]  # type: ignore[union-attr]  # all have one


def test_a_weight_of_a_task_is_refused_and_so_are_weights_that_are_all_0(write: Write) -> None:
    path = write("tasks.jsonl", {"prompt": "a?", "answer": "1", "weight": 2})
    assert [(f.row, f.field) for f in check(path).errors] == [(1, "weight")]
    path = write("rows.jsonl", *({"prompt": f"{n}?", "chosen": "x", "rejected": "y", "weight": 0} for n in range(3)))
    ((field, row, reason, remedy),) = [(f.field, f.row, f.reason, f.remedy) for f in check(path).errors]
    assert (field, row, reason) == ("weight", 0, "is 0 in every row: nothing counts")
    assert "data.ignore=[weight]" in remedy
    path = write("some.jsonl", *({"prompt": f"{n}?", "chosen": "x", "rejected": "y", "weight": n} for n in range(3)))
    weights = check(path).weights
    assert weights is not None
    assert (weights.rows, weights.total, weights.weighted) == (3, 3.0, 3)
    assert weights.effective == pytest.approx(9 / 5)


def test_two_rows_in_doubt_contradict_nothing(write: Write) -> None:
    rows = [{"prompt": "a?", "chosen": x, "rejected": y, "probability": 0.7} for x, y in (("x", "y"), ("y", "x"))]
    assert check(write("rows.jsonl", *rows)).errors == ()
    sure = [{k: v for k, v in row.items() if k != "probability"} for row in rows]
    assert [f.check for f in check(write("sure.jsonl", *sure)).errors] == ["contradiction"] * 2


@pytest.mark.parametrize(
    ("items", "scales"),
    [
        ([{"text": "a", "score": 3}, {"text": "b", "rank": 1}], "`score`, `rank`"),
        ([{"text": "a", "score": 3}, {"text": "b", "rating": 9}], "`score`, `rating`"),
        ([{"text": "a", "overall_score": 3, "score": 1}, {"text": "b", "overall_score": None, "score": 9}],
         "`overall_score`, `score`"),
    ],
)  # fmt: skip
def test_numbers_of_two_scales_are_no_order(write: Write, items: list[Any], scales: str) -> None:
    fault = check(write("rows.jsonl", {"prompt": "q", "completions": items})).faults[0]
    assert (fault.field, fault.reason) == ("completions", f"are rated by {scales}: numbers of two scales have no order")
