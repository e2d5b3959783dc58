"""What rows become for a learner: every kind of row before every kind of learner, and the messages of those that do not
fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twofold.batch import DataKind
from twofold.data.kinds import RowNeeds, best_completion, rows_of_kind
from twofold.data.lazy import Concat, MappedRows, key
from twofold.errors import DataError
from twofold.records import (
    Demonstration,
    Labelled,
    Message,
    Pair,
    Ranking,
    Record,
    Request,
    Source,
    Task,
    completion_fields,
)

AT = Source("f", 4)
CHAT = (Message("user", "p"),)
PAIR = Pair("p", "a", "b", AT)
TRIPLE = replace(PAIR, gold="g")
RANKED = Ranking("p", ("a", "b", "c"), AT)
GOOD, BAD = Labelled("p", "a", True, AT), Labelled("p", "b", False, AT)
SHOWN, TASK, ASKED = Demonstration("p", "a", AT), Task("p", "a", AT), Request("p", AT)
KNOWN = {
    "a pair": PAIR, "a triple": TRIPLE, "a ranking": RANKED, "a desirable completion": GOOD,
    "an undesirable completion": BAD, "a demonstration": SHOWN, "a problem with its answer": TASK,
    "only a prompt": ASKED,
}  # fmt: skip
MADE: dict[DataKind, dict[str, list[Record]]] = {
    "pairs": {"a pair": [PAIR], "a triple": [PAIR]},
    "triples": {"a triple": [TRIPLE]},
    "rankings": {
        "a ranking": [RANKED],
        "a pair": [Ranking("p", ("a", "b"), AT)],
        "a triple": [Ranking("p", ("a", "b"), AT)],
    },
    "labels": {
        "a desirable completion": [GOOD],
        "an undesirable completion": [BAD],
        "a pair": [GOOD, BAD],
        "a triple": [GOOD, BAD],
    },
    "demonstrations": {
        name: [SHOWN] for name in ("a pair", "a triple", "a ranking", "a desirable completion", "a demonstration",
                                   "a problem with its answer")
    },
    "prompts": {name: [ASKED] if name in ("an undesirable completion", "only a prompt") else [TASK] for name in KNOWN},
}  # fmt: skip
REMEDIES: dict[DataKind, str] = {
    "pairs": "provide prompt, chosen and rejected, or set objective.kind=sft",
    "triples": "provide prompt, gold, chosen and rejected",
    "rankings": "provide prompt and completions (best first), or pairs",
    "labels": "provide prompt, completion and label, or pairs",
    "demonstrations": "keep only the desirable rows",
}


def test_a_problem_with_a_completion_of_its_own_is_checked_by_its_answer() -> None:
    """What verifies reads the answer; what imitates reads the completion, and the answer stays for its gate."""
    task = Task("Why?", "at most 5 words", Source("f", 1), "It is so.")
    (checked,) = rows_of_kind([task], RowNeeds("prompts", (), "x"))
    assert checked == Task("Why?", "at most 5 words", Source("f", 1))
    assert rows_of_kind([task], RowNeeds("prompts", (), "x", imitates=True)) == [task]
    (shown,) = rows_of_kind([task], RowNeeds("demonstrations", (), "x"))
    assert shown == Demonstration("Why?", "It is so.", Source("f", 1))
    turns = replace(task, completion=(Message("assistant", "a"), Message("user", "b"), Message("assistant", "c")))
    with pytest.raises(DataError, match="has 3 turns"):
        rows_of_kind([turns], RowNeeds("prompts", (), "x", imitates=True))


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("name", KNOWN)
def test_every_row_is_what_a_learner_takes_or_is_refused(kind: DataKind, name: str) -> None:
    needs = RowNeeds(kind, (), "DPO")
    wanted = MADE[kind].get(name)
    if wanted is not None:
        assert rows_of_kind([KNOWN[name]], needs) == wanted
        return
    with pytest.raises(DataError) as error:
        rows_of_kind([KNOWN[name]], needs)
    shown = "a pair" if name == "a triple" else name
    assert error.value.what == f"DPO learns from {kind}, and this row is {shown}"
    assert (error.value.where, error.value.remedy) == ("f:4", REMEDIES[kind])


def test_rows_keep_their_prompts_and_places() -> None:
    pair = Pair(CHAT, "a", "b", Source("g", 7), margin=2.0)
    assert rows_of_kind([pair], RowNeeds("rankings", ("margin",), "x")) == [
        Ranking(CHAT, ("a", "b"), Source("g", 7), margin=2.0)
    ]
    plain = replace(pair, margin=None)
    assert (
        rows_of_kind([plain, plain], RowNeeds("demonstrations", (), "x"))
        == [Demonstration(CHAT, "a", Source("g", 7))] * 2
    )
    assert rows_of_kind([plain], RowNeeds("prompts", (), "x")) == [Task(CHAT, "a", Source("g", 7))]
    assert rows_of_kind([], RowNeeds("pairs", (), "x")) == []


@pytest.mark.parametrize(
    ("kind", "record", "column", "field", "remedy"),
    [
        ("rankings", RANKED, "score", "scores",
         "provide a number for each completion, or set objective.alpha=0: only the best is the label"),
        ("rankings", RANKED, "margin", "margin",
         "provide a number by how much the better leads, or set objective.margin to one for all"),
        ("pairs", PAIR, "margin", "margin",
         "provide a number by how much the better leads, or set objective.margin to one for all"),
        ("pairs", PAIR, "win_rate", "probability",
         "provide how likely chosen is to win, or set objective.probability to one number for all"),
    ],
)  # fmt: skip
def test_a_number_that_a_learner_asks_for_must_be_there(
    kind: DataKind, record: Record, column: str, field: str, remedy: str
) -> None:
    needs = RowNeeds(kind, (column,), "the learner")
    with pytest.raises(DataError) as error:
        rows_of_kind([record], needs)
    assert error.value.what == f"the learner as set here asks for `{field}`, and this row has none"
    assert (error.value.where, error.value.remedy) == ("f:4", remedy)
    changes = {"scores": {"scores": (3.0, 2.0, 1.0)}, "margin": {"margin": 0.0}, "probability": {"probability": 0.0}}
    filled = replace(record, **changes[field])  # type: ignore[arg-type]  # of the fields that it has
    assert rows_of_kind([filled], needs) == [filled]
    assert rows_of_kind([record], RowNeeds(kind, ("another",), "x")) == [record]
    assert rows_of_kind([SHOWN], RowNeeds("demonstrations", (column,), "x")) == [SHOWN]


@pytest.mark.parametrize(
    ("field", "kind", "record", "setting", "remedy"),
    [
        ("margin", "pairs", PAIR, None, "let it go: data.ignore=[margin]"),
        ("margin", "pairs", PAIR, "offset", "set objective.offset=data, or let it go: data.ignore=[margin]"),
        ("probability", "demonstrations", PAIR, None, "let it go: data.ignore=[probability]"),
        ("probability", "prompts", PAIR, None, "let it go: data.ignore=[probability]"),
        ("weight", "prompts", RANKED, None, "let it go: data.ignore=[weight]"),
    ],
)
def test_a_number_that_nobody_reads_is_refused(
    field: str, kind: DataKind, record: Record, setting: str | None, remedy: str
) -> None:
    row = replace(record, **{field: 0.0})  # type: ignore[arg-type]  # of the fields that it has
    with pytest.raises(DataError) as error:
        rows_of_kind([row], RowNeeds(kind, (), "DPO", setting))
    assert error.value.what == f"`{field}` is filled, and DPO as set here does not read it"
    assert (error.value.where, error.value.remedy) == ("f:4", remedy)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("pairs", [replace(PAIR, probability=0.75, weight=2.0)]),
        ("rankings", [Ranking("p", ("a", "b"), AT, probability=0.75, weight=2.0)]),
        ("labels", [Labelled("p", "a", True, AT, 0.75, 2.0), Labelled("p", "b", False, AT, 0.75, 2.0)]),
    ],
)
def test_weight_and_probability_go_with_a_pair_whatever_it_becomes(kind: DataKind, made: list[Record]) -> None:
    needs = RowNeeds(kind, (), "x")
    assert rows_of_kind([replace(PAIR, probability=0.75, weight=2.0)], needs) == made
    light = replace(PAIR, weight=0.5)
    assert rows_of_kind([light], RowNeeds("demonstrations", (), "x")) == [replace(SHOWN, weight=0.5)]


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("weight", -1.0, "provide a number from 0 up"), ("weight", float("nan"), "provide a number from 0 up"),
        ("weight", float("inf"), "provide a number from 0 up"), ("probability", 1.5, "provide a number from 0 to 1"),
    ],
)  # fmt: skip
def test_impossible_numbers_of_records_from_python_are_refused(field: str, value: float, remedy: str) -> None:
    with pytest.raises(DataError) as error:
        rows_of_kind([replace(PAIR, **{field: value})], RowNeeds("pairs", (), "x"))
    assert (error.value.what, error.value.where) == (f"`{field}` is {value:g}", "f:4")
    assert error.value.remedy == remedy
    with pytest.raises(DataError, match="more than two completions have no other order"):
        rows_of_kind([replace(RANKED, probability=0.5)], RowNeeds("rankings", (), "x"))


def test_rows_on_disk_are_read_as_they_pass() -> None:
    """The same rows as of a list, refused when they are read; another kind or other columns are another reading."""
    rows = Concat([[PAIR, TRIPLE], [PAIR]])
    labels = rows_of_kind(rows, RowNeeds("labels", (), "KTO"))
    assert isinstance(labels, MappedRows)
    assert list(labels) == rows_of_kind(list(rows), RowNeeds("labels", (), "KTO")) == [GOOD, BAD] * 3
    refused = rows_of_kind(rows, RowNeeds("triples", (), "TPO"))
    with pytest.raises(DataError, match="TPO learns from triples, and this row is a pair"):
        list(refused)
    one, same, other, wider = (
        rows_of_kind(rows, RowNeeds(kind, columns, "x"))
        for kind, columns in (("pairs", ("a", "b")), ("pairs", ("b", "a")), ("labels", ("a", "b")), ("pairs", ("a",)))
    )
    assert key(one) == key(same)
    assert len({key(one), key(other), key(wider)}) == 3


def test_the_best_completion_is_the_first_good_one() -> None:
    found = [best_completion(record) for record in (*KNOWN.values(),)]
    assert found == ["a", "a", "a", "a", None, "a", "a", None]


CALLED = Message("assistant", "", '{"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}')
THOUGHT = Message("assistant", "a", '{"reasoning_content": "so"}')
SEVERAL = (CALLED, Message("tool", "1"), Message("assistant", "a"))


def test_what_an_answer_is_for_decides_how_much_of_it_is_read() -> None:
    """A text to check against, or the whole turn to imitate; a gold answer of turns makes a triple like any other."""
    checked, imitated = (RowNeeds("prompts", (), "x", imitates=imitates) for imitates in (False, True))
    rows = [replace(PAIR, prompt=CHAT, chosen=turns) for turns in ((THOUGHT,), (CALLED,), SEVERAL)]
    assert rows_of_kind(rows, checked) == [Task(CHAT, "a", AT), Request(CHAT, AT), Task(CHAT, "a", AT)]
    tasks = [Task(CHAT, "a", AT, (THOUGHT,)), Task(CHAT, "", AT, (CALLED,))]
    assert rows_of_kind(rows[:2], imitated) == tasks
    assert [told for task in tasks for told in completion_fields(task)] == [
        ("answer", (THOUGHT,)),
        ("answer", (CALLED,)),
    ]
    assert rows_of_kind([PAIR], imitated) == [TASK]
    with pytest.raises(DataError, match="its reference answer has 3 turns, and a sample is one turn") as error:
        rows_of_kind(rows[2:], imitated)
    assert error.value.where == "f:4"
    assert key(rows_of_kind(Concat([rows]), checked)) != key(rows_of_kind(Concat([rows]), imitated))
    gold = replace(PAIR, prompt=CHAT, gold=SEVERAL)
    assert rows_of_kind([gold], RowNeeds("triples", (), "TPO")) == [gold]
