"""What a person passes by mistake from Python is one message, not an error from the depths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import twofold
from twofold.errors import DataError, ModelError, RecipeError
from twofold.models.load import resolve_device


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no rows"),
        ("", "no rows"),
        (5, "the data are of type int"),
        (None, "the data are of type NoneType"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], "the first row is of type dict, not a record"),
    ],
)
def test_rows_that_are_none(rows: Any, words: str) -> None:
    with pytest.raises(DataError) as error:
        twofold.train("nowhere", rows)
    assert str(error.value).startswith(f"train(): {words}")


@pytest.mark.parametrize("model", [None, 5, (1, 2, 3)])
def test_a_model_that_is_none(model: Any) -> None:
    with pytest.raises(RecipeError, match=r"give a folder, a hub name, or \(model, tokenizer\)"):
        twofold.train(model, "rows.jsonl")


def test_a_path_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    assert len(twofold.read(tmp_path / "rows.jsonl").records) == 1  # type: ignore[arg-type]  # what people pass
    with pytest.raises(ModelError, match="no such folder"):
        twofold.train(tmp_path / "nowhere", tmp_path / "rows.jsonl", run=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such run directory"):
        twofold.write_report([str(tmp_path / "no")], tmp_path / "page.html")  # type: ignore[list-item]


def test_one_name_is_no_list_of_letters() -> None:
    with pytest.raises(RecipeError) as error:
        twofold.accuracy("runs/a", "rows.jsonl")
    assert str(error.value) == "accuracy(): models are a list of names\n  → write ['runs/a']"
    with pytest.raises(RecipeError, match="judges are a list of names"):
        twofold.judge_check("verifier", "rows.jsonl")


def test_what_help_calls_an_argument_is_its_name() -> None:
    with pytest.raises(DataError, match="no such file"):
        twofold.accuracy(models=["runs/a"], data="no-rows.jsonl", max_new_tokens=3)  # type: ignore[call-arg]  # their names
    with pytest.raises(TypeError, match=r"accuracy\(\) needs models and data"):
        twofold.accuracy(["runs/a"])  # type: ignore[call-arg]


def test_a_device_that_torch_does_not_know() -> None:
    with pytest.raises(ModelError, match="'gpu' is no device"):
        resolve_device("gpu")
    assert resolve_device("cpu") == "cpu"
