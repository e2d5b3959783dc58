"""A name on the hub with its configuration, split and streaming as `datasets` gets them, without its progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from twofold.data import readers
from twofold.data.issues import Issue
from twofold.errors import DataError


@pytest.fixture(autouse=True)
def bars() -> Iterator[None]:
    """As they were, whatever a test does."""
    shown = datasets.is_progress_bar_enabled()
    yield
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `datasets` is asked for, and whether it shows bars meanwhile."""
    calls = list[Any]()

    def load(name: str, configuration: str | None, *, split: str = "", streaming: bool = False) -> list[Any]:
        calls.append((name, configuration, split, streaming, datasets.is_progress_bar_enabled()))
        return [{"a": 1}, {"a": None, "b": "x"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_a_configuration_follows_the_name(asked: list[Any]) -> None:
    found = list(readers.rows("org/set:main", "test", stream=True, ignore=("b",)))
    assert found == [(1, {"a": 1}), (2, {"a": None})]
    assert list(readers.rows("org/set")) == [(1, {"a": 1}), (2, {"a": None, "b": "x"})]
    assert asked == [("org/set", "main", "test", True, False), ("org/set", None, "train", False, False)]


def test_a_folder_may_have_a_colon_in_its_name(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert len(list(readers.rows(str(tmp_path / "a:b")))) == 2
    assert asked == [(str(tmp_path / "a:b"), None, "train", False, False)]


@pytest.mark.parametrize("shown", [True, False])
def test_bars_are_shown_again_where_they_were(asked: list[Any], shown: bool) -> None:
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
    list(readers.rows("org/set"))
    assert (len(asked), datasets.is_progress_bar_enabled()) == (1, shown)


def test_a_row_that_cannot_be_decoded_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise ValueError("torn\nmore")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: decoded())
    first, (number, fault) = readers.rows("org/set")
    assert first == (1, {"a": 1})
    assert isinstance(fault, Issue)
    assert (number, fault.row, fault.reason, fault.check) == (2, 2, "cannot be read: torn", "unreadable")


def test_what_cannot_be_loaded_is_named_with_its_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no such set\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    datasets.enable_progress_bars()
    with pytest.raises(DataError) as error:
        readers.rows("org/set:main", "test")
    assert (error.value.what, error.value.where) == ("split `test` cannot be loaded: no such set", "org/set:main")
    assert datasets.is_progress_bar_enabled()
