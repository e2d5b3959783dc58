"""The interval that benchmarks print: order statistics, no assumption but independence."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from scipy.stats import binom

from benchmarks.reporting import command, median_interval, page


@pytest.mark.parametrize(("n", "cut"), [(5, 0), (6, 0), (9, 1), (15, 3)])
def test_the_median_lies_between_order_statistics(n: int, cut: int) -> None:
    found = median_interval([float(x) for x in reversed(range(n))])
    assert found.value == (n - 1) / 2
    assert (found.low, found.high) == (cut, n - 1 - cut)
    assert found.level == pytest.approx(1 - 2 * binom.cdf(cut, n, 0.5))
    assert (found.level >= 0.95) == (n > 5)


def test_a_page_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "family.md").touch()
    assert page(str(tmp_path / "family.md")) == tmp_path / "family.md"
    with pytest.raises(argparse.ArgumentTypeError, match="is not there"):
        page(str(tmp_path / "famly.md"))


def test_a_command_names_no_place_of_one_machine() -> None:
    told = command("python -m benchmarks.frontier", ["--data", "/somewhere/imdb", "--page", "docs/frontier.md"])
    assert told == "python -m benchmarks.frontier --data imdb --page docs/frontier.md"
