"""No traceback for anything a user can do: every verb, every option, every kind of broken path and odd value."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import sweep
from twofold.border import as_bug, explained
from twofold.errors import TwofoldError

Run = Callable[..., Any]
EVERY = 61
"""Of the command lines the default suite tries one in so many."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> list[sweep.Case]:
    folder = tmp_path_factory.mktemp("sweep")
    good = sweep.good_lines(folder, model_folder)
    assert (folder / "run" / "results.json").is_file()
    return list(sweep.cases(good, sweep.broken_paths(folder / "broken", folder / "run")))


def faults(lines: list[sweep.Case], folder: Path) -> dict[str, str]:
    before = Path.cwd()
    os.chdir(folder)  # names without a folder are made here
    try:
        return {str(case): fault for case in lines if (fault := sweep.fault(case))}
    finally:
        os.chdir(before)


def test_a_sample_of_broken_lines_ends_as_documented(lines: list[sweep.Case], tmp_path: Path) -> None:
    assert len(lines) > 2000
    assert faults(lines[::EVERY], tmp_path) == {}


@pytest.mark.slow
def test_every_broken_line_ends_as_documented(lines: list[sweep.Case], tmp_path: Path) -> None:
    assert faults(lines, tmp_path) == {}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (SystemExit(7), "exit code 7: "),
        (SystemExit(2), "exit code 2 without a word"),
        (KeyboardInterrupt(), "raised KeyboardInterrupt: "),
    ],
)
def test_the_sweep_finds_what_is_not_documented(
    monkeypatch: pytest.MonkeyPatch, end: BaseException, expected: str
) -> None:
    def broken(**_: object) -> None:
        raise end

    monkeypatch.setattr("twofold.cli.main.app", broken)
    assert sweep.fault(sweep.Case("watch", "run", "-", ("watch", "."))) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "x"), "x: no space left on device\n  → free space there"),
        (PermissionError(13, "Permission denied", "x"), "x: permission denied\n  → choose a place that you may"),
        (OSError(36, "File name too long", "x"), "x: file name too long\n  → choose a shorter name"),
        (IsADirectoryError(21, "Is a directory", "x"), "x: is a directory\n  → name a file"),
        (OSError("the hub says no"), "the hub says no\n  → check the path and the connection"),
        (MemoryError(), "there is not enough memory\n  → take smaller packs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory"),
        (OverflowError("int too big"), "a number is too large: int too big"),
        (RecursionError(), "the input is nested too deeply"),
        (ImportError("No module named 'bitsandbytes'", name="bitsandbytes"), "pip install bitsandbytes"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "a text is not valid Unicode"),
    ],
)
def test_what_is_no_bug_is_one_message(error: Exception, expected: str) -> None:
    told = explained(error)
    assert isinstance(told, TwofoldError)
    assert expected in str(told)


def test_a_damaged_weights_file_is_named_as_such(tmp_path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(SafetensorError) as caught:
        safe_open(path, "pt")
    assert str(explained(caught.value)).startswith("a .safetensors file is damaged: ")


def test_an_error_in_the_users_own_code_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_that_fails.py").write_text("def loss():\n    raise KeyError('reward')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import mine_that_fails  # type: ignore[import-not-found]  # written above

    with pytest.raises(KeyError) as caught:
        mine_that_fails.loss()
    expected = "mine_that_fails.py:2: your code raised KeyError: 'reward'\n  → --debug shows the traceback"
    assert str(explained(caught.value)) == expected


def test_a_bug_is_no_mistake_of_the_users_and_leaves_its_traceback_in_a_file() -> None:
    from twofold.settings import require

    with pytest.raises(ValueError, match="impossible") as caught:
        require(False, "impossible")
    assert explained(caught.value) is None
    told = as_bug(caught.value)
    assert told.what.startswith("twofold failed where it should not: ValueError: impossible (settings.py:")
    path = Path(told.remedy.rpartition(" ")[2])
    text = path.read_text(encoding="utf-8")
    path.unlink()
    assert "Traceback" in text
    assert "ValueError: impossible" in text


def test_a_full_disk_under_standard_output_is_one_message(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "twofold", "watch", str(tmp_path), "--help"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left on device")
    assert len(done.stderr.splitlines()) == 2


def test_an_argument_that_is_not_utf_8_is_refused(twofold: Run) -> None:
    answer = twofold("sample", "m", "--prompt", "a\udcff")
    assert (answer.code, answer.err.splitlines()[0]) == (2, r"error: 'a\udcff': is not UTF-8")
