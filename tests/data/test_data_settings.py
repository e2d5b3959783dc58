"""What a data section takes, and what it refuses before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.reading import BOUNDS, Reading, RowBounds
from twofold.data.settings import DataBeside, DataSettings, DataSource, DataSplit
from twofold.data.tokenize import TokenizeSettings


def test_a_newcomers_settings() -> None:
    made = DataSettings(train="a.jsonl")
    assert made == DataSettings(
        train="a.jsonl", split="train", columns={}, limit=None, stream=False, accept=(), ignore=(),
        bounds=RowBounds(bytes=16 * 2**20, items=1000), cache=None, generator=None, heldout=None, chat="auto",
        tokenize=TokenizeSettings(max_length=1024, truncation="drop", loss_on="last"),
    )  # fmt: skip
    assert DataSplit(file="a") == DataSplit(file="a", split="train", columns={}, limit=None)
    assert DataSource(file="a") == DataSource(
        file="a", weight=None, split="train", columns={}, limit=None, stream=False
    )
    assert Reading("a") == Reading("a", {}, "train", None, False, (), (), RowBounds(), False)
    assert (BOUNDS, DataSettings(train="a").is_mixture) == (RowBounds(), False)


@pytest.mark.parametrize("given", [{"file": "a"}, {"count": 1}, {"fraction": 0.5}])
def test_a_split_is_a_file_a_count_or_a_fraction(given: dict[str, Any]) -> None:
    made = DataSplit(**given)
    assert {name: getattr(made, name) for name in ("file", "count", "fraction")} == {
        "file": None, "count": None, "fraction": None, **given,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of file, count and fraction"),
        ({"file": "a", "count": 1}, "give one of file, count and fraction"),
        ({"count": 1, "fraction": 0.5}, "give one of file, count and fraction"),
        ({"file": "a", "count": 1, "fraction": 0.5}, "give one of file, count and fraction"),
        ({"fraction": 0.0}, r"fraction must be in \(0, 1\)"),
        ({"fraction": 1.0}, r"fraction must be in \(0, 1\)"),
        ({"fraction": -0.1}, r"fraction must be in \(0, 1\)"),
        ({"count": 0}, "count must be ≥ 1"),
        ({"count": -1}, "count must be ≥ 1"),
    ],
)
def test_any_other_split_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSplit(**given)


@pytest.mark.parametrize("given", [{"bytes": 0}, {"items": 0}, {"growth": 0}, {"bytes": -1}, {"bytes": 0, "items": 0}])
def test_bounds_below_one_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bounds must be ≥ 1"):
        RowBounds(**given)
    assert RowBounds(bytes=1, items=1).items == 1


def test_lengths_below_two_are_refused() -> None:
    assert TokenizeSettings(max_length=2).max_length == 2
    with pytest.raises(ValueError, match="max_length must be ≥ 2: a prompt token and a completion token"):
        TokenizeSettings(max_length=1)


def test_a_limit_leaves_a_row() -> None:
    for of_one in (DataSplit, DataSource, DataBeside):
        with pytest.raises(ValueError, match="limit must be ≥ 1"):
            of_one(file="a.jsonl", limit=0)
    with pytest.raises(ValueError, match="limit must be ≥ 1"):
        DataSettings(train="a.jsonl", limit=-1)
    assert DataSplit(file="a.jsonl", limit=1).limit == 1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_above_nothing(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be > 0"):
        DataSource(file="a", weight=weight)
    assert DataSource(file="a", weight=1e-9).weight == 1e-9


@pytest.mark.parametrize("name", ["share", "weight"])
def test_rows_beside_others_have_a_finite_share_and_weight(name: str) -> None:
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be > 0 and finite"):
            DataBeside(file="a", **{name: value})  # type: ignore[arg-type]  # one of its numbers
    assert getattr(DataBeside(file="a", **{name: 1e-9}), name) == 1e-9  # type: ignore[arg-type]  # likewise
    assert [DataBeside(file="a", share=share).rows_per_step(8) for share in (0.01, 0.25, 2.0)] == [1, 2, 16]


@pytest.mark.parametrize("given", [{"weight": 1.0}, {"limit": 1}, {"weight": 1.0, "limit": 1}])
def test_what_goes_with_one_file_goes_with_no_pattern(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="weight and limit go with one file, not with a pattern"):
        DataSource(file="data/*.jsonl", **given)
    assert DataSource(file="data/a.jsonl", **given).file == "data/a.jsonl"
    assert DataSource(file="data/*.jsonl", split="test", columns={"prompt": "q"}).columns == {"prompt": "q"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": ()}, "train needs at least one file"),
        ({"train": ("a", "a")}, "train names a file twice"),
        ({"train": ("a", DataSource(file="a", weight=1.0))}, "train names a file twice"),
        ({"train": ("a", DataSource(file="b", weight=1.0))}, "train needs a weight for every file, or for none"),
        ({"train": ("a", "b"), "columns": {"prompt": "q"}}, "train is a mixture: give columns, split, limit and"),
        ({"train": ("a", "b"), "limit": 3}, "train is a mixture"),
        ({"train": ("a", "b"), "split": "test"}, "train is a mixture"),
        ({"train": ("a", "b"), "stream": True}, "train is a mixture"),
        ({"train": "data/*.jsonl", "limit": 3}, "limit goes with one file, not with a pattern"),
        ({"train": "a", "heldout": DataSplit(fraction=0.5), "generator": DataSplit(fraction=0.5)},
         "the fractions of heldout and generator leave no row to train on: lower one"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSettings(**given)


def test_shares_beside_files_and_counts_are_taken() -> None:
    for generator in (DataSplit(fraction=0.4), DataSplit(count=9), DataSplit(file="b"), None):
        assert DataSettings(train="a", heldout=DataSplit(fraction=0.5), generator=generator).generator == generator


def test_one_file_is_read_as_the_section_says() -> None:
    made = DataSettings(train="a", split="test", columns={"prompt": "q"}, limit=3, stream=True)
    assert made.sources == (DataSource(file="a", split="test", columns={"prompt": "q"}, limit=3, stream=True),)


def test_files_with_weights_are_a_mixture() -> None:
    weighed = DataSource(file="a", weight=1.0), DataSource(file="b", weight=3.0)
    assert DataSettings(train=weighed).sources == weighed
    assert DataSettings(train=weighed).is_mixture
    assert not DataSettings(train=("a", "b")).is_mixture
