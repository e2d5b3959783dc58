"""Names, prompts, rows and warnings of other people are shown on the terminal, never obeyed by it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from support.made_up_runs import Make, make_run
from twofold.cli.progress import RichProgress
from twofold.cli.terminal import Terminal, table

__all__ = ["make_run"]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
EVIL = "\x1b]0;owned\x07\x1b[31m\x1b[2J\x9b1A\u202egnp\u2066 [bold]x[/] :warning:"
Run = Callable[..., Any]


def harmless(answer: Any, *, seen: bool = True) -> None:
    """Nothing is left to obey, and where `seen` the text is there (rich drops the bell itself)."""
    said = answer.out + re.sub("\rLoading weights[^\r\n]*", "", answer.err)  # a bar of transformers' own
    assert not OBEYED.search(said)
    assert "Traceback" not in said
    assert not seen or "]0;owned␛[31m␛[2J⟨U+009B⟩1A⟨U+202E⟩gnp⟨U+2066⟩ [bold]x[" in said.translate(
        {10: None, 0x2407: None}
    )


def rows(path: Path, *objects: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in objects))
    return path


@pytest.mark.parametrize("terminal", [True, False])
def test_no_way_into_a_console_lets_commands_through(terminal: bool) -> None:
    console = Terminal(file=io.StringIO(), force_terminal=terminal, width=150, color_system=None)
    cells = table(EVIL, title=EVIL)
    cells.add_row(EVIL)
    for thing in (EVIL, Text(EVIL, style="dim"), Text.assemble((EVIL, "bold"), EVIL), cells):
        console.print(thing)
        assert "⟨U+202E⟩gnp⟨U+2066⟩ [bold]x[/] :warning:" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert not OBEYED.search(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO


def test_bars_and_lines_of_progress_obey_nothing() -> None:
    console = Terminal(file=io.StringIO(), force_terminal=True, width=300, color_system=None)
    with RichProgress(console) as progress:
        progress.begin(EVIL, 2)
        progress.advance(EVIL, 1, **{EVIL: 1.0})
        progress.warn(EVIL)
        progress.note(EVIL)
    said = re.sub("\x1b\\[(\\?25[lh]|2K|1A)|\r", "", console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO
    assert not OBEYED.search(said)
    assert said.count("owned") >= 4


@pytest.mark.parametrize("verb", [["report"], ["compare"], ["watch", "--once"]])
def test_runs_with_evil_names_warnings_and_figures(
    make_run: Make, twofold: Run, tmp_path: Path, verb: list[str]
) -> None:
    run = make_run("mine")
    run = run.rename(run.with_name(EVIL.replace("/", "")))
    results = json.loads((run / "results.json").read_text())
    results |= {
        "name": EVIL,
        "warnings": [EVIL],
        "models": [*results["models"], {**results["models"][1], "name": EVIL}],
    }
    (run / "results.json").write_text(json.dumps(results))
    rows(run / "warnings.jsonl", {"step": 1, "text": EVIL})
    out = ["--out", tmp_path / "page.html"] if verb[0] != "watch" else []
    answer = twofold(verb[0], run, *verb[1:], *out)
    assert answer.code == 0
    harmless(answer)


def test_rows_with_evil_names_and_texts(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    pair = {"prompt": EVIL, "chosen": f"{EVIL} a", "rejected": f"{EVIL} b"}
    file = rows(tmp_path / f"{EVIL.replace('/', '')}.jsonl", pair, {**pair, EVIL: EVIL}, {**pair, "chosen": 3})
    harmless(twofold("data", "check", file))
    harmless(twofold("data", "check", file, "--against", file))
    good = rows(tmp_path / "good.jsonl", pair)
    harmless(twofold("data", "show", good, "--model", model_folder, "max_length=512"))


def test_evil_prompts_and_drafts(twofold: Run, model_folder: Path, tmp_path: Path) -> None:
    harmless(twofold("sample", model_folder, "--prompt", EVIL, "max_new_tokens=20", "temperature=1", "-n", 4))
    file = rows(tmp_path / "tasks.jsonl", {"prompt": EVIL, "answer": "1"})
    harmless(twofold("sample", model_folder, "--file", file, "max_new_tokens=2"))


@pytest.mark.parametrize(
    "words",
    [
        ["train", f"{EVIL.replace('/', '')}.yaml"], ["report", EVIL], ["watch", EVIL], ["export", EVIL, "out"],
        ["sample", EVIL, "--prompt", "x"], ["compare", EVIL, EVIL], ["data", "check", EVIL],
        ["data", "show", "x", "--model", EVIL],
    ],
)  # fmt: skip
def test_mistakes_with_evil_names(twofold: Run, words: list[str], tmp_path: Path) -> None:
    answer = twofold(*words)
    assert answer.code == 2
    harmless(answer, seen=False)
    assert "owned" in answer.out + answer.err


def test_an_evil_recipe(twofold: Run, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps({EVIL: {EVIL: EVIL}, "model": {"path": EVIL}, "data": {"train": EVIL}, "run": EVIL}))
    harmless(twofold("train", file))
    harmless(twofold("train", file, f"{EVIL}=1"))
