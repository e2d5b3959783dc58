"""Pages of experiments: what stands between marks, what a command says, how rates are shown."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.commands import command, page_file
from experiments.harness.pages import between, markdown, marks, put, rates_table


def test_a_page_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "family.md").touch()
    assert page_file(str(tmp_path / "family.md")) == tmp_path / "family.md"
    with pytest.raises(argparse.ArgumentTypeError, match="is not there"):
        page_file(str(tmp_path / "famly.md"))


def test_a_command_names_no_place_of_one_machine() -> None:
    written = command("python -m experiments.frontier", ["--data", "/somewhere/imdb", "--page", "docs/frontier.md"])
    assert written == "python -m experiments.frontier --data imdb --page docs/frontier.md"


def test_only_what_stands_between_the_marks_is_written(tmp_path: Path) -> None:
    page, own = tmp_path / "page.md", marks("python -m x", " (shop)")
    other = marks("python -m x", " (boxes)")
    page.write_text("\n".join(["before", *own, "after", *other, ""]))
    put(page, own, markdown([("a", "b"), ("1", "2")]))
    assert between(page, own) == "\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\n"
    assert between(page, other) == "\n"
    assert page.read_text().startswith("before\n<!-- begin: written by python -m x (shop) -->\n| a")
    with pytest.raises(SystemExit, match="no marks <!-- begin: written by python -m y -->"):
        put(page, marks("python -m y"), "")


def test_the_chosen_rate_is_bold_and_a_rate_not_tried_is_a_dash() -> None:
    table = rates_table(
        "solved of 9", {"a": {"1e-05": "3", "0.0001": "4"}, "b": {"0.001": "5"}}, {"a": 1e-4, "b": 1e-3}
    )
    assert table.splitlines()[2:] == ["| a | 3 | **4** | – |", "| b | – | – | **5** |"]
