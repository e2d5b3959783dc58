"""The way in: fast help, short answers to mistakes, and the exit codes that scripts rely on."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.cli import main as way_in
from twofold.cli.evaluate import evaluate
from twofold.cli.evaluate_options import TASKS
from twofold.errors import NonFiniteError, RecipeError

VERBS = ("demo", "train", "evaluate", "sample", "score", "data", "export", "doctor")
HEAVY = ("torch", "transformers", "datasets", "peft", "pydantic", "numpy", "matplotlib", "yaml")

Run = Callable[..., Any]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_help_takes_less_than_half_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bytecode that the first start wrote; the best of three, since others work here."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    done, seconds = python("-m", "twofold", "--help"), list[float]()
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python("-m", "twofold", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: the clock on the wall would also measure who else is at work here.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


def test_what_libraries_can_do_without_is_not_reported() -> None:
    """On some processors bitsandbytes warns, as it is imported, that a faster kernel was not found."""
    code = """
import logging
from twofold.cli.main import main
try:
    main(["--help"])
except SystemExit:
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("no kernel")
    logging.getLogger("bitsandbytes.backends.cpu.ops").error("no device")
"""
    assert python("-c", code).stderr.splitlines() == ["no device"]


def test_nothing_heavy_is_imported_before_a_verb_runs() -> None:
    done = python("-c", f"import sys, twofold.cli.main; print(sorted(set({HEAVY}) & set(sys.modules)))")
    assert done.stdout.strip() == "[]"


def test_no_verb_imports_what_is_heavy_to_explain_itself() -> None:
    verbs = [[verb] for verb in VERBS] + [["data", verb] for verb in ("check", "show", "build", "label")]
    code = f"""
import sys
from twofold.cli.main import main
for verb in {verbs}:
    try:
        main([*verb, "--help"])
    except SystemExit as end:
        assert end.code in (None, 0), verb
    found = set({HEAVY[:4]}) & set(sys.modules)
    assert not found, (verb, found)
"""
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_passively_unless_told_otherwise(given: dict[str, str], expected: str) -> None:
    surroundings = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    code = "import os, twofold.cli.main; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "data"])
def test_every_verb_explains_itself_in_few_lines(twofold: Run, verb: str) -> None:
    answer = twofold(verb, "--help")
    assert answer.code == 0
    assert len(answer.out.splitlines()) <= 66


def test_help_of_evaluate_lists_every_task() -> None:
    listed = (evaluate.__doc__ or "").partition("Tasks: ")[2].strip().removesuffix(".")
    assert re.split(r",\s+", listed) == list(TASKS)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["doctor", "--jsn"], "--json"),
        (["sample", "somewhere", "--promt", "x"], "--prompt"),
        (["data", "chek"], "check"),
    ],
)
def test_a_wrong_word_is_met_with_the_right_one(twofold: Run, arguments: list[str], meant: str) -> None:
    answer = twofold(*arguments)
    assert answer.code == 2
    assert meant in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) <= 10


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            RecipeError("unknown key", where="r.yaml:3", remedy="did you mean `beta`?"),
            2,
            "error: r.yaml:3: unknown key",
        ),
        (NonFiniteError("loss is nan", where="step 4", remedy=""), 3, "error: step 4: loss is nan"),
        (RecipeError("[bold]\n" * 30, where="", remedy=""), 2, "error: [bold]\n[bold]"),
    ],
)
def test_an_error_of_ours_is_told_in_ten_lines(
    twofold: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    answer = _with_broken_verb(twofold, monkeypatch, error)
    assert answer.code == code
    assert answer.err.startswith(said)
    assert len(answer.err.splitlines()) <= 10


def test_an_interruption_is_one_line(twofold: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _with_broken_verb(twofold, monkeypatch, KeyboardInterrupt())
    assert (answer.code, answer.err.strip()) == (130, "interrupted")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, RecipeError("unknown key", where="", remedy=""))
    with pytest.raises(RecipeError):
        way_in.main(["broken", "--debug"])


def _with_broken_verb(twofold: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Any:
    _break(monkeypatch, error)
    return twofold("broken")


def _break(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A further verb, for this test only, that ends in `error`."""
    monkeypatch.setattr(way_in.app, "registered_commands", [*way_in.app.registered_commands])

    @way_in.app.command()
    def broken() -> None:
        raise error


def test_python_m_twofold_is_the_command() -> None:
    done = python("-m", "twofold", "train", os.devnull + "/none.yaml")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
