"""What verbs write as JSON is JSON: figures that are not defined are null, and are read back as what they were."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold import disk
from twofold.statistics import Estimate
from twofold.statistics.intervals import mean_interval

Run = Callable[..., Any]


def strict(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {path.name}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pairs = [
        {"prompt": f"{n} + 1 = ", "chosen": f"#### {n}", "rejected": "#### 999", "answer": f"#### {n}"}
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    return tmp_path / "rows.jsonl"


def test_judges_that_never_disagree_have_no_kappa(twofold: Run, rows: Path, tmp_path: Path) -> None:
    command = (
        "evaluate",
        "verifier",
        "verifier:flexible",
        "--task",
        "judge",
        "--tasks",
        rows,
        "--out",
        tmp_path / "out",
    )
    answer = twofold(*command, "--json", tmp_path / "figures.json")
    assert (answer.code, "nan" in answer.out) == (0, False)
    assert "Fleiss' κ – [-1.00, 1.00], Krippendorff's α – [-1.00, 1.00]" in " ".join(answer.out.split())
    figures = strict(tmp_path / "figures.json")
    assert strict(tmp_path / "out" / "results.json") == figures
    assert figures["panel"]["fleiss_kappa"]["value"] is None


def test_the_interval_of_one_pair_has_no_ends(twofold: Run, model_folder: Path, rows: Path, tmp_path: Path) -> None:
    command = ("explain", model_folder, rows, "--reference", model_folder, "--limit", 1, "--json", tmp_path / "x.json")
    assert twofold(*command).code == 0
    strict(tmp_path / "x.json")


def test_numbers_that_are_not_finite_come_back() -> None:
    one = mean_interval([3.0])
    assert (one.value, one.low, one.high) == (3.0, -math.inf, math.inf)
    written = json.loads(disk.json_text(one.as_dict()))
    assert (written["low"], written["high"]) == (None, None)
    assert Estimate.from_dict(written) == one
    assert math.isnan(Estimate.from_dict({"value": None, "low": -1, "high": 1, "n": 2}).value)
    assert disk.json_text({"a": [1.5, (math.nan, "é")]}) == '{"a": [1.5, [null, "é"]]}\n'
    with pytest.raises(KeyError):
        Estimate.from_dict({"value": 1.0, "low": 0.0, "n": 2})


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        (("--figure", "mean", "--discordance", 0.2, "--ties", 0.1), "--discordance, --ties"),
        (("--unpaired", "--correlation", 0.3), "--correlation"),
        (("--discordance", 0.2, "--base", 0.9), "--base"),
        (("--figure", "win-rate", "--deviation", 2), "--deviation"),
        (("--metric", "strict"), "--metric"),
    ],
)
def test_power_refuses_what_it_would_not_read(twofold: Run, options: tuple[object, ...], idle: str) -> None:
    answer = twofold("power", "--difference", 1, *options)
    assert (answer.code, f"makes no use of {idle} here" in " ".join(answer.err.split())) == (2, True)
