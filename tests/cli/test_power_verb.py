"""`twofold power`: its table, its sentence, what it reads from earlier evaluations, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.cli.main import main
from twofold.statistics.power import Means, PairedShares, UnpairedShares, difference_of, prompts_for


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["power", *words])
    told = capsys.readouterr()
    assert (ended.value.code or 0) == code, told.err
    return told.err if code else told.out


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    return json.loads(run(capsys, *words, "--json"))["rows"]


def test_it_answers_in_a_table_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "--difference", "2", "--discordance", "0.15")
    n = prompts_for(PairedShares(0.15), 0.02)
    assert f"To show a difference of 2 points with a chance of 80%, measure {n:,} prompts." in told
    assert "Assumed: discordance 0.15; McNemar's exact test." in told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--difference", "5"], prompts_for(PairedShares.of_correlation(0.5, 0.05, 0.5), 0.05)),
        (["--difference", "5", "--base", "0.8"], prompts_for(PairedShares.of_correlation(0.8, 0.05, 0.5), 0.05)),
        (["--difference", "5", "--correlation", "0"], prompts_for(PairedShares.of_correlation(0.5, 0.05, 0), 0.05)),
        (["--difference", "5", "--unpaired"], prompts_for(UnpairedShares(0.5), 0.05)),
        (["--difference", "5", "--figure", "win-rate"], prompts_for(PairedShares(1), 0.1)),
        (["--difference", "5", "--figure", "win-rate", "--ties", "0.3"], prompts_for(PairedShares(0.7), 0.1)),
        (["--difference", "0.5", "--figure", "mean"], prompts_for(Means(1.0), 0.5)),
        (["--difference", "0.5", "--figure", "mean", "--deviation", "2"], prompts_for(Means(2.0), 0.5)),
        (["--difference", "0.5", "--figure", "mean", "--unpaired"], prompts_for(Means(1.0, True), 0.5)),
        (["--difference", "9", "--power", "0.9", "--unpaired"], prompts_for(UnpairedShares(0.5), 0.09, power=0.9)),
        (["--difference", "9", "--level", "0.01", "--unpaired"], prompts_for(UnpairedShares(0.5), 0.09, level=0.01)),
        (["--difference", "9", "--comparisons", "5", "--unpaired"], prompts_for(UnpairedShares(0.5), 0.09, level=0.01)),
    ],
)  # fmt: skip
def test_every_option_counts(capsys: pytest.CaptureFixture[str], words: list[str], expected: int) -> None:
    assert [row["prompts"] for row in rows(capsys, *words)] == [expected]


def test_a_number_of_prompts_is_read_the_other_way(capsys: pytest.CaptureFixture[str]) -> None:
    found = difference_of(PairedShares(0.15), 1319)
    assert found is not None
    assert rows(capsys, "--prompts", "1319", "--discordance", "0.15")[0]["difference"] == pytest.approx(100 * found)
    assert "smaller ones are often missed" in run(capsys, "--prompts", "1319")
    both = rows(capsys, "--prompts", "500", "--difference", "3", "--discordance", "0.2")[0]
    assert both["power"] == PairedShares(0.2).power(500, 0.03, 0.05)
    assert "no difference at all" in run(capsys, "--prompts", "5", "--discordance", "0.2")


def test_without_a_difference_there_is_one_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["difference"] for row in rows(capsys)] == [1.0, 2.0, 3.0, 5.0, 10.0]
    assert [row["difference"] for row in rows(capsys, "--base", "0.97")] == [1.0, 2.0, 3.0]


def write(path: Path, model: str, right: list[Any], metric: str = "strict") -> Path:
    lines = [{"model": model, "name": f"q:{i}", "completion": "x", metric: r} for i, r in enumerate(right)]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def test_an_earlier_evaluation_gives_the_discordance(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """20 items, on 5 of which only one model is right."""
    a, b = [True] * 12 + [False] * 8, [True] * 9 + [False] * 9 + [True] * 2
    one = write(write(tmp_path / "rows.jsonl", "base", a), "policy", b)
    expected = prompts_for(PairedShares(0.25), 0.05)
    assert [r["prompts"] for r in rows(capsys, "--difference", "5", "--from", str(one))] == [expected]
    two = [str(write(tmp_path / f"{name}.jsonl", name, right)) for name, right in (("base", a), ("policy", b))]
    told = run(capsys, "--difference", "5", "--from", two[0], "--from", two[1])
    assert f"measure {expected:,} prompts" in told
    assert "Assumed: discordance 0.25, as base and policy on 20 items by strict" in told


def test_earlier_scores_give_the_deviation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = [0.0] * 20, [1.0, 2.0] * 10
    file = write(write(tmp_path / "rows.jsonl", "base", a, "reward"), "policy", b, "reward")
    found = rows(capsys, "--figure", "mean", "--difference", "0.2", "--from", str(file), "--metric", "reward")
    deviation = (20 / 19 * 0.25) ** 0.5
    assert found[0]["prompts"] == prompts_for(Means(deviation), 0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--difference", "60"], "--difference: a difference of 60 points is impossible: it is at most 50"),
        (["--difference", "20", "--discordance", "0.1"], "it is at most 10"),
        (["--difference", "0"], "--difference: 0 is no difference"),
        (["--difference", "nan"], "--difference: nan is no difference"),
        (["--discordance", "1.5"], "--discordance: 1.5 is not between 0 and 1"),
        (["--level", "0"], "--level: 0 is not between 1e-06 and 1"),
        (["--power", "0.01"], "--power: must be above --level"),
        (["--correlation", "1"], "--correlation: 1 is no correlation"),
        (["--prompts", "1"], "--prompts: must be 2"),
        (["--comparisons", "0"], "--comparisons: must be 1"),
        (["--figure", "win-rate", "--unpaired"], "--figure win-rate: has no use for these options"),
        (["--from", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert message in run(capsys, *words, code=2)


def test_files_that_are_no_evaluation_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"a": 1}\n', encoding="utf-8")
    assert f"{odd}:1: is no row of an evaluation" in run(capsys, "--from", str(odd), code=2)
    one = write(tmp_path / "one.jsonl", "base", [True] * 20)
    assert "has 1 models, not two" in run(capsys, "--from", str(one), code=2)
    few = write(write(tmp_path / "few.jsonl", "base", [True] * 3), "policy", [False] * 3)
    assert "3 common items" in run(capsys, "--from", str(few), code=2)
