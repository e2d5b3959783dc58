"""Completion scripts are what the parser knows, and bash completes with them; help has all verbs in groups."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import typer

from twofold.cli.completion import SCRIPTS, Shell, fish, verbs, zsh
from twofold.cli.main import VERBS, app
from twofold.cli.verbs import PANELS

FOUND = list(verbs(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """What bash offers after these words."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine: its completion is not tried here")
    script = tmp_path_factory.mktemp("completion") / "twofold.bash"
    script.write_text(SCRIPTS[Shell.BASH](FOUND))
    ask = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _twofold; printf "%s\\n" "${COMPREPLY[@]}"'

    def run(*words: str) -> list[str]:
        line = [bash, "-c", ask, "-", str(script), "twofold", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["co"], ["compare", "completion"]),
        (["data", ""], ["check", "show", "report", "build", "label", "merge"]),
        (["data", "show", "--m"], ["--model"]),
        (["train", "--no"], ["--no-resume", "--nodes"]),
        (["watch", "run", "--o"], ["--once"]),
        (["import", ""], ["trl-config", "axolotl", "llama-factory"]),
        (["completion", "z"], ["zsh"]),
        (["import", "axolotl", ""], []),  # a file: left to bash
        (["train", "recipe"], []),
        (["nonsense", "--x"], []),
    ],
)
def test_bash_completes(complete: Callable[..., list[str]], words: list[str], expected: list[str]) -> None:
    assert complete(*words) == expected


def test_every_verb_and_option_is_in_every_script(twofold: Any) -> None:
    assert {verb.name for verb in FOUND} == set(VERBS)
    scripts = {shell: twofold("completion", shell.value).out for shell in Shell}
    assert scripts[Shell.ZSH] == zsh(FOUND)
    assert scripts[Shell.FISH] == fish(FOUND)
    for verb in FOUND:
        assert {"--help", "--debug"} < set(verb.spellings)
        (line,) = [ln for ln in scripts[Shell.ZSH].splitlines() if ln.startswith(f"    '{verb.name}') ")]
        assert all(f"'{spelling}:" in line for spelling in verb.spellings)
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in verb.name.split())
        own = [ln for ln in scripts[Shell.FISH].splitlines() if ln.startswith(f"complete -c twofold -n '{seen}' -")]
        assert all(any(f" -l {s[2:]} " in ln for ln in own) for s in verb.spellings if s.startswith("--"))
    assert "-l once -d" in scripts[Shell.FISH]
    assert "-l every -r -d" in scripts[Shell.FISH]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_that_its_shell_reads(twofold: Any, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} on this machine: its script is not read by it here")
    option = ["--no-execute"] if shell == "fish" else ["-n"]
    script = twofold("completion", shell).out
    assert subprocess.run([path, *option], input=script, capture_output=True, text=True).stderr == ""


def test_help_has_every_verb_once_in_a_group_with_one_line(twofold: Any) -> None:
    lines = {verb: line for panel in PANELS.values() for verb, line in panel.items()}
    assert lines.keys() - {"data"} == VERBS.keys()
    assert sum(map(len, PANELS.values())) == len(lines)
    assert all(len(line) <= 60 for line in lines.values())
    out = twofold("--help").out
    assert all(panel in out for panel in PANELS)
    assert all(line in out for verb, line in lines.items() if " " not in verb)
    assert lines["data check"] in twofold("data", "--help").out


def test_an_option_has_the_same_spellings_in_every_verb() -> None:
    """And no two options are the same word spelled with and without a hyphen."""
    known: dict[str, set[tuple[str, ...]]] = {}
    for verb in FOUND:
        for option in verb.options:
            for spelling in option.spellings:
                known.setdefault(spelling, set()).add(option.spellings)
    assert {s: found for s, found in known.items() if len(found) > 1} == {}
    bare = [spelling.replace("-", "") for spelling in known]
    assert len(bare) == len(set(bare))


def test_the_second_spelling_of_a_tokenizer_is_refused_with_the_first(twofold: Any) -> None:
    answer = twofold("data", "show", "x.jsonl", "--tokenizer", "m")
    assert (answer.code, answer.err.strip()) == (2, "error: --tokenizer: was renamed\n  → use --model")
