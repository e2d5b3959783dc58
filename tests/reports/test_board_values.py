"""The board by value: a run's row, the titles and tags of pages, and when a page is drawn again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from twofold.reports import board as module
from twofold.reports.board import Board
from twofold.reports.live import Curve, Snapshot


def snapshot(**changes: Any) -> Snapshot:
    plain: dict[str, Any] = {
        "path": Path("x/mine"), "state": "running", "step": 1200, "steps": 3000, "pace": 0.5, "seconds": 900.0,
        "quiet": 3.0, "curves": [Curve("loss", [0, 1], [1.0, 0.12345]), Curve("KL", [0], [1234.5])],
        "warnings": ["a", "b"],
    }  # fmt: skip
    return Snapshot(**{**plain, **changes})


def test_a_row_has_the_last_figure_of_each_curve() -> None:
    row = {"name": "deep/a", "state": "running", "kind": "running", "steps": "1,200 / 3,000", "left": "15 min",
           "quiet": "3 s", "figures": {"loss": "0.123", "KL": "1,234"}, "warnings": 2}  # fmt: skip
    assert module._row("deep/a", snapshot()) == row
    assert module._row("deep/a", snapshot(steps=None))["steps"] == "1,200"
    for changes in ({"seconds": None}, {"seconds": 0.0}, {"state": "silent"}, {"state": "finished"}):
        assert module._row("deep/a", snapshot(**changes))["left"] == ""
    assert module._row("a", snapshot(state="waiting", step=0, curves=[], warnings=[])) == {
        "name": "a", "state": "waiting", "kind": "waiting", "steps": "0 / 3,000", "left": "", "quiet": "3 s",
        "figures": {}, "warnings": 0,
    }  # fmt: skip
    assert module._row("a", None) == {
        "name": "a", "state": "cannot be read", "kind": "unread", "steps": "–", "left": "", "quiet": "", "figures": {},
        "warnings": 0,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for age, name in enumerate("abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").touch()
        os.utime(tmp_path / name / "metrics.jsonl", (1e9 - age,) * 2)
    return tmp_path


def test_runs_are_cut_behind_the_last_that_were_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Board(folder).runs() == ["a", "b", "c", "d"]
    monkeypatch.setattr(module, "MOST_RUNS", 3)
    assert Board(folder).runs() == ["a", "b", "c"]
    assert Board(folder).page(["a", "d"]) is None


def test_a_page_of_many_runs_has_the_names_of_three(folder: Path) -> None:
    board = Board(folder, every=2.5)
    page = board._drawn(["a", "b", "c", "d"])
    assert "<title>a · b · c</title>" in page
    assert 'data-refresh="2.5"' in page
    gone = board._drawn(["a", "b", "c", "gone"])
    assert "<title>a · b · c</title>" in gone
    assert "no such run directory" in gone
    assert 'data-refresh="2.5"' in gone


def test_a_tag_changes_with_the_files_that_are_read(folder: Path) -> None:
    board = Board(folder)
    first = board._tag(["a"])
    assert (len(first), first == board._tag(["a"]), first == board._tag(["b"])) == (32, True, False)
    (folder / "a" / "notes.txt").write_text("x")
    assert board._tag(["a"]) == first
    (folder / "a" / "timings.jsonl").write_text("{}\n")
    assert board._tag(["a"]) != first


def test_a_page_is_drawn_again_after_ten_times_its_cost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn from 100 to 101 s it stands until 110 s, if anything changed by then; else for ever."""
    now, drawn = [100.0], list[Any]()

    def draw(self: Board, names: Any) -> str:
        now[0] += 1
        drawn.append(names)
        return f"page {len(drawn)}"

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Board, "_drawn", draw)
    board, pages = Board(folder), list[str]()
    for when, change in ((100.0, False), (1e6, False), (109.9, True), (110.0, False), (110.0, False)):
        now[0] = when
        if change:
            (folder / "a" / "metrics.jsonl").write_text("{}\n")
        found = board.page(["a"])
        assert found is not None
        pages.append(found[0])
    assert pages == ["page 1", "page 1", "page 1", "page 2", "page 2"]
    assert drawn == [["a"], ["a"]]


def test_a_run_that_cannot_be_read_or_looked_at_is_no_end_of_the_board(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("disk gone\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_run", refuse)
        page = Board(folder)._drawn(["a"])
    assert "disk gone" in page
    assert "more" not in page.split("disk gone")[1].split("<")[0]
    assert module._is_inside(folder / "a", folder)
    monkeypatch.setattr(Path, "is_symlink", refuse)
    assert not module._is_inside(folder / "a", folder)
