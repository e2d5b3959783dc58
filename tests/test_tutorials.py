"""The first hour, as its page shows it: every command from section 2 on runs, and prints what stands below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "tutorial" / "first-hour.md"
_BLOCK = re.compile(r"^```(console|yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"[-+−]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
REST = "…"
"""A line that leaves the rest of the output out."""


def lines_of(text: str) -> list[str]:
    """The words of each line, without the values of numbers: those differ by machine."""
    return [" ".join(_NUMBER.sub("N", line).split()) for line in text.splitlines() if line.strip() and line != REST]


def absent(shown: str, printed: str) -> list[str]:
    """Of the lines of `shown` those that are not in `printed`, in this order. Progress and warnings come between."""
    rest = iter(lines_of(printed))
    return [line for line in lines_of(shown) if line not in rest]


def test_numbers_may_differ_and_words_may_not() -> None:
    assert absent("n 500  95.4% [1, 2]\nend\n", "n 400 93%  [0.5, −1e-3]\ntrain 2/3\nend\n") == []
    assert absent("accuracy 5\n…\n", "loss 5\n") == ["accuracy N"]
    assert absent("a\nb\n", "b\na\n") == ["b"]


@pytest.mark.slow
def test_the_first_hour_prints_what_its_page_shows(tmp_path: Path) -> None:
    blocks = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 9
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "180"}
    for kind, text in blocks:
        if kind == "yaml":
            file = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / file).write_text(text, encoding="utf-8")
            continue
        command, _, shown = text.removeprefix("$ ").partition("\n")
        ran = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        refused = shown.startswith("error:")
        assert ran.returncode == (2 if refused else 0), ran.stdout
        printed = ran.stdout.replace(f"{PAGE.parents[2]}{os.sep}", "")  # the embedded model of a checkout
        assert absent(shown, printed) == [], f"{command}\n{printed}"
