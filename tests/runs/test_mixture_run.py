"""Several training files in one run, each with its weight; and the split of the source on real GSM8K."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data.mixture import mixture
from twofold.data.settings import DataSource
from twofold.data.split import prompt_key
from twofold.errors import DataError, RecipeError
from twofold.models.load import load_policy
from twofold.progress import Silent
from twofold.records import Pair
from twofold.runs.build import build_trainer
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset
from twofold.runs.train import train_recipe


class Notes(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def files(tmp_path: Path) -> list[dict[str, Any]]:
    """Nine pairs and, under other names, three."""
    many = write(tmp_path / "many.jsonl", *({"prompt": f"{n}+1", "chosen": "1", "rejected": "2"} for n in range(9)))
    few = write(tmp_path / "few.jsonl", *({"q": f"{n}-1", "good": "3", "bad": "4"} for n in range(3)))
    return [
        {"file": many, "weight": 1.0},
        {"file": few, "weight": 3.0, "columns": {"prompt": "q", "chosen": "good", "rejected": "bad"}},
    ]


def recipe(tmp_path: Path, base: Path, train: Any, **data: Any) -> Recipe:
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": train, **data},
        "training": {"steps": 3, "batch_size": 4},
        "run": str(tmp_path / "run"),
    }
    return validate(Recipe, Document("test", given, {}))


def assembled(recipe: Recipe, progress: Silent | None = None) -> RunContext:
    records = read_dataset(recipe, recipe.objective)
    policy, loaded = load_policy(recipe.model, recipe.seed)
    return RunContext(recipe, recipe.objective, policy, loaded, records, progress or Silent())


def test_a_mixture_is_met_by_its_weights_and_repeats(tmp_path: Path, base: Path) -> None:
    mixed, notes = recipe(tmp_path, base, files(tmp_path)), Notes()
    run = assembled(mixed, notes)
    loop = build_trainer(run, tmp_path / "run")
    names = [g.name for step in range(3) for g in loop.algorithm.round(step, {}).parts[0].groups]
    assert sum("few" in name for name in names) == 9
    assert len({name for name in names if "few" in name}) == 3
    assert [line.rpartition("/")[2] for line in notes.lines if "mixture" in line] == [
        "many.jsonl: 25.0% of the rows, 0.33 passes an epoch",
        "few.jsonl: 75.0% of the rows, 3.00 passes an epoch",
    ]
    assert run.recipe.training.total_steps(len(run.groups["train"])) == 3


def test_a_run_of_a_mixture_says_where_every_row_came_from(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base, files(tmp_path), heldout={"count": 2}))
    data = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))["data"]
    assert {name: told["rows"] for name, told in data.items()} == {"train 1": 9, "train 2": 3}
    again = validate(Recipe, load_recipe(tmp_path / "run" / "resolved.yaml"))
    assert again.data.sources[1].columns == {"prompt": "q", "chosen": "good", "rejected": "bad"}


def test_without_weights_all_rows_are_one_stream(tmp_path: Path, base: Path) -> None:
    listed = [{k: v for k, v in each.items() if k != "weight"} for each in files(tmp_path)]
    run = assembled(recipe(tmp_path, base, listed))
    assert mixture(run.recipe.data.sources, run.groups["train"], 0, Silent()) is None
    assert {type(r) for r in run.dataset.train} == {Pair}
    assert len(run.groups["train"]) == 12


@pytest.mark.parametrize(
    ("train", "more", "message"),
    [
        ([{"file": "a"}, {"file": "a"}], {}, "data.train: names a file twice"),
        ([{"file": "a", "weight": 1}, {"file": "b"}], {}, "data.train: needs a weight for every file, or for none"),
        ([{"file": "a", "weight": 0}], {}, "weight: must be > 0"),
        ([{"file": "a", "wieght": 1}], {}, r"data.train.0.wieght: unknown key"),
        ([{"file": "a"}], {"limit": 3}, "data.train: is a mixture: give columns, split, limit and stream to its files"),
        ([], {}, "data.train: needs at least one file"),
    ],
)
def test_mixtures_that_cannot_be_meant(tmp_path: Path, base: Path, train: Any, more: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        recipe(tmp_path, base, train, **more)
    assert len(str(error.value).splitlines()) <= 2


def test_a_file_without_a_row_in_an_epoch_is_named(tmp_path: Path, base: Path) -> None:
    listed = files(tmp_path)
    run = assembled(recipe(tmp_path, base, listed))
    light = [DataSource(file=listed[0]["file"], weight=1000.0), DataSource(file=listed[1]["file"], weight=0.001)]
    with pytest.raises(DataError, match="gives it no row in an epoch of 12"):
        mixture(light, run.groups["train"], 0, Silent())
    with pytest.raises(DataError, match="no row of this file is left"):
        mixture([*light, DataSource(file="gone.jsonl", weight=1.0)], run.groups["train"], 0, Silent())


def test_the_split_of_the_source_on_real_gsm8k(shared: Path, tmp_path: Path, base: Path) -> None:
    """6000 discriminator rows and 1473 generator problems out of 7473 (PDPO's own numbers)."""
    train = str(shared / "data" / "gsm8k" / "train.jsonl")
    columns = {"prompt": "question", "completion": "answer"}
    given = {"objective": {"kind": "sft"}, "model": {"path": str(base)}}
    data = {"train": train, "columns": columns, "generator": {"count": 1473}}
    split = read_dataset(made := validate(Recipe, Document("test", {**given, "data": data}, {})), made.objective)
    assert (len(split.train), len(split.generator)) == (6000, 1473)
    sides = [{prompt_key(r.prompt) for r in side} for side in (split.train, split.generator)]
    assert not sides[0] & sides[1]
    assert len({r.source.row for r in (*split.train, *split.generator)}) == 7473


def test_files_that_count_the_same_have_weighted_rows(tmp_path: Path, base: Path) -> None:
    listed = [{k: v for k, v in file.items() if k != "weight"} for file in files(tmp_path)]
    run = assembled(recipe(tmp_path, base, listed, balance="sources"))
    weights = [group.weight for group in run.groups["train"]]
    assert weights == pytest.approx([6 / 9] * 9 + [6 / 3] * 3)
    assert {group.weight for group in assembled(recipe(tmp_path, base, listed)).groups["train"]} == {None}
