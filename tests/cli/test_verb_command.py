"""One spelling for each thing: an option works in every verb, and another verb's way is answered with this one's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.cli.main import VERBS

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("data show x.jsonl --model m -n 3", "-n: was renamed\n  → use --rows"),
        ("explain m x.jsonl -n 3", "-n: was renamed\n  → use --rows"),
        ("data check x.jsonl --column a=b", "--column: was renamed\n  → use --columns"),
        ("evaluate m max_new_tokens=5", "max_new_tokens=5: evaluate takes options here\n  → write --max-new-tokens 5"),
        ("explain m x.jsonl max_length=5", "max_length=5: explain takes options here\n  → write --max-length 5"),
        ("sample m --prompt x --top-p 0.9", "--top-p: no such option\n  → a setting is written top_p=0.9"),
        ("sample m --temprature 0.5", "--temprature: no such option\n  → did you mean temperature=0.5?"),
        ("data build x --out y --top_p=1", "--top_p: no such option\n  → a setting is written sampling.top_p=1"),
        ("train r.yaml --temprature 0.5", "--temprature: no such option\n  → did you mean sampling.temperature=0.5?"),
        (
            "train r.yaml --learning-rat 1",
            "--learning-rat: no such option\n  → did you mean optimizer.learning_rate=1?",
        ),
        ("train r.yaml --beta --dry-run", "--beta: no such option\n  → a setting is written objective.beta=VALUE"),
        ("train r.yaml -dry-run", "-dry-run: no such option\n  → did you mean `--dry-run`?"),
        ("evaluate m --temprature=0.5", "--temprature: no such option\n  → did you mean `--temperature`?"),
        ("evaluate m --max_new_token 5", "--max_new_token: no such option\n  → did you mean `--max-new-tokens`?"),
        ("data check x --modle m", "--modle: no such option\n  → did you mean `--model`?"),
        ("report r --zebra", "--zebra: no such option\n  → --help lists the options"),
        ("train r.yaml --seed=3", "--seed: no such option\n  → a setting is written seed=3"),
    ],
)
def test_another_spelling_is_answered_with_the_right_one(twofold: Run, line: str, expected: str) -> None:
    answer = twofold(*line.split())
    assert (answer.code, answer.err.strip()) == (2, f"error: {expected}")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_knows_the_nearest_option(twofold: Run, verb: str) -> None:
    names = [n for n in re.findall(r"--[a-z][a-z-]+", twofold(*verb.split(), "--help").out) if len(n) > 5]
    for name in {*names, "--help"} - {"--no-resume"}:
        turned = name[:3] + name[4] + name[3] + name[5:]
        answer = twofold(*verb.split(), turned)
        if turned not in names and name[3] != name[4]:
            assert (answer.code, answer.err.splitlines()[0]) == (2, f"error: {turned}: no such option")
            assert answer.err.splitlines()[1] == f"  → did you mean `{name}`?"


def test_an_option_that_is_a_value_is_left_alone(twofold: Run) -> None:
    assert "no such option" not in twofold("sample", "m", "--prompt", "--temprature").err


def test_what_looks_like_a_setting_may_be_a_file(twofold: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limit=5").mkdir()
    answer = twofold("explain", "limit=5", "x.jsonl")
    assert "takes options" not in answer.err


def test_an_option_may_have_a_value_with_an_equals_sign(twofold: Run) -> None:
    answer = twofold("explain", "m", "x.jsonl", "--columns", "limit=question")
    assert "takes options" not in answer.err


def test_drafts_are_cut_by_either_spelling(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    for number, spelling in enumerate((["--max-new-tokens", 3], ["max_new_tokens=3"])):
        out = tmp_path / f"{number}.jsonl"
        assert twofold("sample", model_folder, "--prompt", "x", *spelling, "--out", out).code == 0
        assert json.loads(out.read_text(encoding="utf-8"))["tokens"] <= 3
    texts = [(tmp_path / f"{number}.jsonl").read_text(encoding="utf-8") for number in (0, 1)]
    assert texts[0] == texts[1]


def test_built_answers_are_cut_by_the_same_option(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"question": "1 + 1 =", "answer": "#### 2"}\n', encoding="utf-8")
    common = ("data", "build", problems, "--model", model_folder, "--out", tmp_path / "out.jsonl", "--as", "labels")
    refused = twofold(*common, "--max-new-tokens", 0)
    assert (refused.code, "max-new-tokens" in refused.err) == (2, True)
    assert twofold(*common, "--max-new-tokens", 2, "--keep-truncated", "--samples", 8).code == 0
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert {len(json.loads(line)["completion"]) for line in lines} <= {1, 2}
    assert lines
