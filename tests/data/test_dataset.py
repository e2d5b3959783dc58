"""The rows of a run by their use: read, split, compared with each other, and as a generator's problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.data import load as load_module
from twofold.data.dataset import Dataset, Reader, as_tasks, encode_rows
from twofold.data.kinds import RowNeeds
from twofold.data.lazy import Concat, MappedRows
from twofold.data.settings import DataSettings, DataSource, DataSplit
from twofold.data.stored_groups import StoredGroups
from twofold.data.tokenize import Encoder
from twofold.errors import DataError, LeakError
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Pair, Ranking, Record, Request, Source, Task

Write = Callable[..., str]
AT = Source("f", 4)


def pairs(*prompts: str) -> list[dict[str, str]]:
    return [{"prompt": p, "chosen": "b", "rejected": "c"} for p in prompts]


def prompts(rows: Any) -> list[str]:
    return [str(r.prompt) for r in rows]


def reader(folder: Path, seed: int = 0, **data: Any) -> Reader:
    return Reader(DataSettings(**data), folder / "cache", seed, Silent())


def test_what_nobody_asks_for_is_empty(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", *pairs("1", "2"))
    found = reader(tmp_path, train=path).read(None)
    assert (prompts(found.train), found.generator, found.heldout, found.tasks) == (["1", "2"], [], [], [])
    assert [(name, table.source) for name, table in found.tables.items()] == [("train", path)]


def test_tables_are_named_by_their_use(write: Write, tmp_path: Path) -> None:
    a, b = write("a.jsonl", *pairs("1")), write("b.jsonl", *pairs("2"))
    held, asked = write("held.jsonl", *pairs("3")), write("asked.jsonl", {"question": "4", "answer": "5"})
    more = {"heldout": DataSplit(file=held), "generator": DataSplit(file=asked)}
    found = reader(tmp_path, train=(a, b), **more).read(
        DataSplit(file=write("t.jsonl", {"prompt": "6", "answer": "7"}))
    )
    assert list(found.tables) == ["train 1", "train 2", "heldout", "generator", "tasks"]
    assert [table.source for table in found.tables.values()][:4] == [a, b, held, asked]
    assert (prompts(found.train), prompts(found.heldout), prompts(found.generator)) == (["1", "2"], ["3"], ["4"])
    assert found.tasks == [Task("6", "7", Source(str(tmp_path / "t.jsonl"), 1))]
    assert list(reader(tmp_path, train=(a,)).read(None).tables) == ["train 1"]


def test_every_file_is_read_as_its_section_says(write: Write, tmp_path: Path) -> None:
    """Columns, a limit and a split, of a file to train on and of a held-out one."""
    named = [{"q": p, "good": "b", "bad": "c"} for p in ("1", "2", "3")]
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    a, b = write("a.jsonl", *named), write("b.jsonl", *[{**row, "q": row["q"] * 2} for row in named])
    heldout = DataSplit(file=b, columns=columns, limit=1)
    found = reader(tmp_path, train=a, columns=columns, limit=2, heldout=heldout).read(None)
    assert (prompts(found.train), prompts(found.heldout)) == (["1", "2"], ["11"])
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list
    datasets.DatasetDict({"train": made(pairs("5")), "test": made(pairs("6"))}).save_to_disk(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    assert prompts(reader(tmp_path, train=saved, split="test").read(None).train) == ["6"]
    found = reader(tmp_path, train=saved, heldout=DataSplit(file=saved, split="test")).read(None)
    assert (prompts(found.train), prompts(found.heldout)) == (["5"], ["6"])


def test_kinds_of_errors_that_are_accepted_reach_the_reader(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", {"prompt": "1", "chosen": "b", "rejected": "b"}, *pairs("2"))
    assert prompts(reader(tmp_path, train=path, accept=("chosen = rejected",)).read(None).train) == ["1", "2"]
    with pytest.raises(DataError, match="is the same as `chosen`"):
        reader(tmp_path, train=path).read(None)


def test_shares_are_split_off_by_prompt(write: Write, tmp_path: Path) -> None:
    """The generator's share is of what the held-out rows leave."""
    rows = [{"prompt": str(n), "answer": str(n)} for n in range(20)]
    path = write("a.jsonl", *rows)
    how = {"train": path, "heldout": DataSplit(count=4), "generator": DataSplit(fraction=0.25)}
    found = reader(tmp_path, **how).read(None)
    assert [len(part) for part in (found.heldout, found.generator, found.train)] == [4, 4, 12]
    asked = [{r.prompt for r in part} for part in (found.train, found.generator, found.heldout)]
    assert len(set().union(*asked)) == 20
    assert list(found.tables) == ["train"]
    again, other = reader(tmp_path, 0, **how).read(None), reader(tmp_path, 1, **how).read(None)
    assert again.heldout == found.heldout != other.heldout


def test_a_share_that_leaves_nothing_names_its_setting(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", *({"prompt": str(n), "answer": str(n)} for n in range(4)))
    with pytest.raises(DataError, match=r"^data\.generator: cannot put 3 of 3 rows on one side"):
        reader(tmp_path, train=path, heldout=DataSplit(count=1), generator=DataSplit(count=3)).read(None)


def test_rows_of_the_caller_replace_the_files(tmp_path: Path) -> None:
    rows = (Pair("1", "b", "c", AT), Pair("2", "b", "c", AT))
    found = reader(tmp_path, train="there is none.jsonl").read(None, rows)
    assert (found.train, found.tables) == (list(rows), {})


def test_what_is_trained_on_is_not_measured_on(write: Write, tmp_path: Path) -> None:
    path, other = write("a.jsonl", *pairs("1", "2")), write("b.jsonl", *pairs("9", "2"))
    asked = write("c.jsonl", {"prompt": "2", "answer": "2"}, {"prompt": "8", "answer": "2"})
    for data, tasks in (
        ({"heldout": DataSplit(file=other)}, None),
        ({"generator": DataSplit(file=other)}, None),
        ({}, DataSplit(file=asked)),
        ({"train": write("d.jsonl", *pairs("5")), "generator": DataSplit(file=path)}, DataSplit(file=asked)),
        ({"train": write("d.jsonl", *pairs("5")), "generator": DataSplit(file=path), "heldout": DataSplit(file=other)},
         None),
    ):  # fmt: skip
        with pytest.raises(LeakError, match=r"1 of 2 evaluation rows.*\n  → remove these rows from the"):
            reader(tmp_path, **{"train": path, **data}).read(tasks)
    both = {"heldout": DataSplit(file=other), "train": write("d.jsonl", *pairs("5"))}
    assert prompts(reader(tmp_path, **both).read(DataSplit(file=asked)).tasks) == ["2", "8"]


def test_tasks_without_an_answer_are_refused(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", *pairs("1"))
    with pytest.raises(DataError, match=r"b\.jsonl:1: evaluation\.tasks need a prompt and an answer"):
        reader(tmp_path, train=path).read(DataSplit(file=write("b.jsonl", *pairs("2"))))


@pytest.mark.parametrize(
    ("record", "task"),
    [
        (Pair("p", "a", "b", AT), Task("p", "a", AT)),
        (Ranking("p", ("a", "b"), AT), Task("p", "a", AT)),
        (Demonstration("p", "a", AT), Task("p", "a", AT)),
        (Labelled("p", "a", True, AT), Task("p", "a", AT)),
        (Task("p", "a", AT), Task("p", "a", AT)),
        (Labelled("p", "a", False, AT), "an undesirable completion is no ground truth"),
        (Request("p", AT), "a prompt without an answer has no reference answer"),
    ],
)
def test_a_generators_problem_is_a_prompt_with_its_best_answer(record: Record, task: Task | str) -> None:
    if isinstance(task, Task):
        assert as_tasks([record]) == [task]
        assert list(as_tasks(Concat([[record]]))) == [task]
        return
    with pytest.raises(DataError) as error:
        as_tasks([record])
    assert (error.value.what, error.value.where) == (task, "f:4")
    remedy = "provide its answer" if isinstance(record, Request) else "leave the row out of data.generator"
    assert error.value.remedy == remedy


def test_of_a_kind_are_the_rows_that_are_learnt_and_measured_alone() -> None:
    pair, shown, task = Pair("p", "a", "b", AT), Demonstration("p", "a", AT), Task("q", "1", AT)
    made = Dataset([pair], [task], [pair, pair], [task]).of_kind(RowNeeds("demonstrations", (), "SFT"))
    assert (made.train, made.generator, made.heldout, made.tasks) == ([shown], [task], [shown, shown], [task])
    assert made.tables == {}


def test_groups_are_on_disk_where_the_rows_are(
    write: Write, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", *pairs("1", "2", "3"))
    made = tokenizer()
    encoder = Encoder(made, frozenset({made.eos_token_id}))
    held = reader(tmp_path, train=path).read(None).train
    monkeypatch.setattr(load_module, "IN_MEMORY", 1)
    stored = reader(tmp_path, train=path).read(None).train
    one, other = (encode_rows(rows, encoder, tmp_path / "tokens", Silent()) for rows in (held, stored))
    assert (type(one.groups), type(other.groups)) == (list, StoredGroups)
    assert one.counts() == other.counts()
    assert json.loads(next((tmp_path / "tokens").glob("*.json")).read_text())
    tasks = as_tasks(stored)
    assert isinstance(tasks, MappedRows)
    assert prompts(tasks) == ["1", "2", "3"]
    assert as_tasks(stored).key == tasks.key != getattr(stored, "key", "")  # type: ignore[attr-defined]  # as asserted


def test_a_source_of_a_mixture_is_streamed_where_it_says_so(write: Write, tmp_path: Path) -> None:
    """Streaming and copying read the same rows; a split that is not there shows that both were asked of it."""
    (tmp_path / "folder").mkdir()
    write("folder/rows.jsonl", *pairs("1"))
    folder = str(tmp_path / "folder")
    assert prompts(reader(tmp_path, train=(DataSource(file=folder, stream=True),)).read(None).train) == ["1"]
    assert list((tmp_path / "folder").iterdir()) == [tmp_path / "folder" / "rows.jsonl"]
