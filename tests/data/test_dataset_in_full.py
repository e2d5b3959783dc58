"""Rows of a run next to those to train on, what is nearly trained on, and what is refused, in full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data import load as load_module
from twofold.data.dataset import Dataset, Reader, as_tasks, encode_rows
from twofold.data.kinds import RowNeeds, best_completion, has, imitated, is_wrong, rows_of_kind
from twofold.data.lazy import LazySequence
from twofold.data.settings import DataBeside, DataSettings, DataSource, DataSplit
from twofold.data.stored_records import StoredRecords
from twofold.data.tokenize import Encoder
from twofold.errors import DataError, LeakError
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Request, Source, Steps, Task

Write = Callable[..., str]
AT = Source("f", 4)
PAIR, RANKED = Pair("p", "a", "b", AT), Ranking("p", ("a", "b"), AT)


def pairs(*prompts: str) -> list[dict[str, str]]:
    return [{"prompt": p, "chosen": "b", "rejected": "c"} for p in prompts]


def reader(folder: Path, **data: Any) -> Reader:
    return Reader(DataSettings(**data), folder / "cache", 0, Silent())


def prompts(rows: Any) -> list[str]:
    return [str(row.prompt) for row in rows]


def refusal(work: Callable[[], Any]) -> tuple[str, str, str | None]:
    with pytest.raises(DataError) as error:
        work()
    return error.value.what, error.value.where, error.value.remedy


def test_rows_next_to_those_to_train_on_are_a_table_of_their_own(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", *pairs("1", "2"))
    more = write("b.jsonl", *({"q": str(n), "completion": "x"} for n in (3, 4, 5)))
    beside = DataBeside(file=more, columns={"prompt": "q"}, limit=2)
    dataset = reader(tmp_path, train=path, also=beside).read(None)
    assert list(dataset.tables) == ["train", "also"]
    assert (prompts(dataset.train), prompts(dataset.also)) == (["1", "2"], ["3", "4"])
    assert reader(tmp_path, train=path).read(None).also == []


def test_rows_next_to_them_are_trained_on_and_never_measured_on(write: Write, tmp_path: Path) -> None:
    path, more = write("a.jsonl", *pairs("1")), write("b.jsonl", {"prompt": "2", "completion": "x"})
    heldout = write("c.jsonl", *pairs("2", "9"))
    with pytest.raises(LeakError) as error:
        reader(tmp_path, train=path, also=DataBeside(file=more), heldout=DataSplit(file=heldout)).read(None)
    assert error.value.what == (f"1 of 2 evaluation rows have a prompt that is trained on: {heldout}:1 = {more}:1")
    assert (error.value.where, error.value.remedy) == (
        heldout, "remove these rows from the training data, or evaluate on others",
    )  # fmt: skip


def test_rows_that_are_nearly_trained_on_are_counted_by_their_use(write: Write, tmp_path: Path) -> None:
    """They differ in case and punctuation. A use without any has no count."""
    path = write("a.jsonl", *pairs("one", "two"))
    heldout = write("h.jsonl", *pairs("ONE", "two!", "three"))
    tasks = write("t.jsonl", {"prompt": "Two.", "answer": "1"}, {"prompt": "four", "answer": "1"})
    data = reader(tmp_path, train=path, heldout=DataSplit(file=heldout))
    assert dict(data.read(DataSplit(file=tasks)).alike) == {"heldout": 2, "tasks": 1}
    assert dict(data.read(None).alike) == {"heldout": 2}
    generator = DataSplit(file=write("g.jsonl", *pairs("FOUR")))
    assert dict(reader(tmp_path, train=path, generator=generator).read(DataSplit(file=tasks)).alike) == {"tasks": 2}
    assert dict(reader(tmp_path, train=path).read(None).alike) == {}


@pytest.mark.parametrize(
    ("name", "where"),
    [("heldout", "data.heldout"), ("generator", "data.generator"), ("tasks", "evaluation.tasks")],
)
def test_a_split_that_takes_all_rows_names_its_setting(write: Write, tmp_path: Path, name: str, where: str) -> None:
    path = write("a.jsonl", *({"prompt": str(n), "answer": "1"} for n in range(3)))
    split = DataSplit(count=3)
    data = reader(tmp_path, train=path, **({} if name == "tasks" else {name: split}))
    assert refusal(lambda: data.read(split if name == "tasks" else None)) == (
        "cannot put 3 of 3 rows on one side and keep some for the other", where, "ask for 1 to 2 rows",
    )  # fmt: skip


def test_tasks_need_an_answer(write: Write, tmp_path: Path) -> None:
    path, other = write("a.jsonl", *pairs("1")), write("b.jsonl", *pairs("x", "y"))
    assert refusal(lambda: reader(tmp_path, train=path).read(DataSplit(file=other))) == (
        "evaluation.tasks need a prompt and an answer", f"{other}:1", "provide the answer, or leave the row out",
    )  # fmt: skip


def test_a_file_of_a_list_is_numbered_and_a_single_name_is_not(write: Write, tmp_path: Path) -> None:
    a, b = write("a.jsonl", *pairs("1")), write("b.jsonl", *pairs("2"))
    assert list(reader(tmp_path, train=a).read(None).tables) == ["train"]
    assert list(reader(tmp_path, train=(DataSource(file=a),)).read(None).tables) == ["train 1"]
    assert list(reader(tmp_path, train=str(tmp_path / "?.jsonl")).read(None).tables) == ["train 1", "train 2"]
    assert list(reader(tmp_path, train=str(tmp_path / "b*")).read(None).tables) == ["train"]
    assert b


def test_of_a_kind_are_the_rows_of_both_objectives() -> None:
    dataset = Dataset([PAIR], [], [PAIR], [], also=[PAIR])
    pairs_only, shown = RowNeeds("pairs", (), "DPO"), RowNeeds("demonstrations", (), "SFT")
    assert dataset.of_kind(pairs_only).also == [PAIR]
    made = dataset.of_kind(pairs_only, shown)
    assert (made.train, made.heldout, made.also) == ([PAIR], [PAIR], [Demonstration("p", "a", AT)])


@pytest.mark.parametrize(
    ("record", "what", "remedy"),
    [
        (Labelled("p", "a", False, AT), "an undesirable completion is no ground truth",
         "leave the row out of data.generator"),
        (Steps("p", ("a",), (0.0,), AT), "an undesirable completion is no ground truth",
         "leave the row out of data.generator"),
        (Request("p", AT), "a prompt without an answer has no reference answer", "provide its answer"),
        (Pair("p", "a", "b", AT, weight=0.0), "`weight` is filled, and a generator does not read it",
         "drop it: data.ignore=[weight]"),
        (Pair("p", (Message("assistant", "a"), Message("user", "q"), Message("assistant", "c")), "b", AT),
         "its reference answer has 3 turns, and a sample is one turn: they cannot be compared",
         "end the row with its first answer, or train on whole conversations as pairs"),
    ],
)  # fmt: skip
def test_what_is_no_problem_of_a_generator(record: Record, what: str, remedy: str) -> None:
    assert refusal(lambda: as_tasks([record])) == (what, "f:4", remedy)


def test_one_turn_is_a_reference_answer_whole() -> None:
    turn = (Message("assistant", "a", '{"reasoning_content": "so"}'),)
    assert imitated(PAIR, turn) == Task("p", "a", AT, turn)
    assert imitated(PAIR, "a") == Task("p", "a", AT)
    assert imitated(Task("p", "1", AT, "so 1"), "so 1") == Task("p", "1", AT, "so 1")


@pytest.mark.parametrize(
    ("record", "accepted"),
    [
        (Pair("p", "a", "b", AT, weight=0.0), True), (Pair("p", "a", "b", AT, weight=1e300), True),
        (Pair("p", "a", "b", AT, weight=-1e-9), False), (Pair("p", "a", "b", AT, probability=0.0), True),
        (Pair("p", "a", "b", AT, probability=1.0), True), (Pair("p", "a", "b", AT, probability=1.0001), False),
        (Pair("p", "a", "b", AT, probability=-0.1), False), (Pair("p", "a", "b", AT, probability=float("nan")), False),
    ],
)  # fmt: skip
def test_numbers_of_rows_at_their_bounds(record: Pair, accepted: bool) -> None:
    needs = RowNeeds("pairs", (), "DPO")
    if accepted:
        assert rows_of_kind([record], needs) == [record]
        return
    value = record.probability if record.weight is None else record.weight
    name, remedy = ("probability", "from 0 to 1") if record.weight is None else ("weight", "from 0 up")
    assert refusal(lambda: rows_of_kind([record], needs)) == (
        f"`{name}` is {value:g}", "f:4", f"provide a number {remedy}",
    )  # fmt: skip


def test_a_probability_is_of_two_completions() -> None:
    needs = RowNeeds("rankings", (), "PL")
    two, three = (Ranking("p", tuple("abc"[:n]), AT, probability=0.5) for n in (2, 3))
    assert rows_of_kind([two], needs) == [two]
    assert refusal(lambda: rows_of_kind([three], needs)) == (
        "`probability` is filled, and more than two completions have no other order", "f:4", "leave it out",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("record", "wrong", "best"),
    [
        (Labelled("p", "a", True, AT), False, "a"), (Labelled("p", "a", False, AT), True, None),
        (Steps("p", ("a", "b"), (1.0, None), AT), False, "a\nb"), (Steps("p", ("a",), (0.0,), AT), True, None),
        (PAIR, False, "a"), (Request("p", AT), False, None), (Task("p", "1", AT), False, "1"),
    ],
)  # fmt: skip
def test_the_best_completion_is_one_that_is_not_wrong(record: Record, wrong: bool, best: str | None) -> None:
    assert (is_wrong(record), best_completion(record)) == (wrong, best)


def test_which_numbers_a_record_has() -> None:
    record = Pair("p", "a", "b", AT, margin=0.0)
    assert [has(record, name) for name in ("margin", "probability", "weight", "other")] == [True, False, False, False]


@pytest.mark.parametrize(
    ("needs", "record", "remedy"),
    [
        (RowNeeds("rankings", ("margin",), "PL", "beta"), RANKED,
         "provide a number by how much the better leads, or set objective.beta to one for all"),
        (RowNeeds("pairs", ("margin",), "PL"), PAIR,
         "provide a number by how much the better leads, or set objective.margin to one for all"),
    ],
)  # fmt: skip
def test_the_setting_that_may_replace_a_column_is_named(needs: RowNeeds, record: Record, remedy: str) -> None:
    assert refusal(lambda: rows_of_kind([record], needs)) == (
        "PL as set here asks for `margin`, and this row has none", "f:4", remedy,
    )  # fmt: skip


def test_steps_are_for_those_who_learn_from_steps() -> None:
    steps = Steps("p", ("a",), (1.0,), AT)
    assert rows_of_kind([steps], RowNeeds("steps", (), "PRM")) == [steps]
    assert refusal(lambda: rows_of_kind([PAIR], RowNeeds("steps", (), "PRM"))) == (
        "PRM learns from steps, and this row is a pair", "f:4",
        "provide prompt, completions (the steps of one solution) and labels",
    )  # fmt: skip


def test_rows_on_disk_are_tasks_and_groups_on_disk(
    write: Write, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "IN_MEMORY", 1)
    path = write("a.jsonl", *({"prompt": str(n), "answer": "1"} for n in range(3)))
    data = reader(tmp_path, train=path, generator=DataSplit(count=1))
    dataset = data.read(None)
    assert isinstance(dataset.train, LazySequence)
    assert isinstance(dataset.tables["train"].records, StoredRecords)
    assert (len(dataset.train), prompts(dataset.generator)) == (2, prompts(list(dataset.generator)))
    made = tokenizer(None)
    encoded = encode_rows(dataset.train, Encoder(made, frozenset({made.eos_token_id})), tmp_path / "tokens", Silent())
    assert (encoded.rows, encoded.num_groups, len(list((tmp_path / "tokens").glob("*.arrow")))) == (2, 2, 1)
