"""The demo on a real model, played on a tiny one that says four words at random."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.word_chain import word_chain
from twofold.config.load import load_recipe
from twofold.demo.play import DemoResult
from twofold.demo.real import RealSize, play_real
from twofold.demo.real_model import HUB_NAME, located
from twofold.demo.topics import INSTRUCTIONS, QUESTIONS, rows
from twofold.errors import ModelError
from twofold.progress import Silent
from twofold.rewards.instructions import judge, readable
from twofold.statistics import mcnemar
from twofold.stopping import Stopped, StopRequest

SMALL = RealSize(samples=3, prompts=18, overrides=("training.steps=2", "training.batch_size=4"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return word_chain(tmp_path_factory.mktemp("chain"))


def played(out: Path, base: Path, size: RealSize = SMALL) -> DemoResult:
    found = play_real(out, model=str(base), seeds=1, progress=Silent(), size=size)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def demo(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    out = tmp_path_factory.mktemp("demo")
    return out, played(out, base)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_chosen_answers_obey_and_rejected_ones_do_not(demo: tuple[Path, DemoResult]) -> None:
    pairs = lines(demo[0] / "data" / "pairs.jsonl")
    assert len({pair["prompt"] for pair in pairs}) > 4
    for pair in pairs:
        rule = next(rule for words, rule in INSTRUCTIONS if pair["prompt"].endswith(words))
        assert judge(pair["chosen"], rule).strict
        assert not judge(pair["rejected"], rule).strict


def test_the_table_counts_what_the_checker_says_of_unseen_topics(demo: tuple[Path, DemoResult]) -> None:
    out, table = demo
    assert table.columns[:5] == ("model", "n", "accuracy", "95% interval", "win rate over base")
    assert table.columns[5:] == ("p against base", "p against DPO+NLL")
    obeyed: dict[str, list[bool]] = {}
    for name in ("DPO+NLL", "PDPO"):
        samples = lines(out / name / "samples.jsonl")
        for label, step in (("base", 0), (name, 2)):
            at = [s for s in samples if s["step"] == step]
            assert {s["prompt"].split("?")[0] + "?" for s in at} <= set(QUESTIONS["test"])
            obeyed[label] = [judge(s["completion"], s["answer"]).strict for s in at]
    for row in table.rows:
        right = obeyed[row[0]]
        assert row[1:3] == ("18", f"{sum(right) / 18:.1%}")
    wins = [(1 + own - other) / 2 for own, other in zip(obeyed["PDPO"], obeyed["base"], strict=True)]
    assert table.rows[2][4].startswith(f"{sum(wins) / 18:.1%} [")
    assert table.rows[2][5].startswith(f"{mcnemar(obeyed['base'], obeyed['PDPO']).p_value:.2g} ")
    page = table.report.read_text(encoding="utf-8")
    assert "A pretrained chat model learns" in page
    assert "twofold demo --real" in page


def test_only_pdpo_drafts_for_itself(demo: tuple[Path, DemoResult]) -> None:
    dpo, pdpo = (lines(demo[0] / name / "metrics.jsonl") for name in ("DPO+NLL", "PDPO"))
    assert not any("drafts" in line for line in dpo)
    nll = [load_recipe(demo[0] / name / "resolved.yaml").data["objective"]["nll"] for name in ("DPO+NLL", "PDPO")]
    assert nll == [1.0, 0.0]
    assert any(line.get("drafts", 0) > 0 for line in pdpo)


def test_what_is_there_is_not_made_again_unless_asked_otherwise(demo: tuple[Path, DemoResult], base: Path) -> None:
    out, table = demo
    made = (out / "data" / "pairs.jsonl").stat().st_mtime_ns
    assert played(out, base).rows == table.rows
    assert (out / "data" / "pairs.jsonl").stat().st_mtime_ns == made
    fewer = played(out.with_name("fewer"), base, replace(SMALL, prompts=15))
    assert [row[1] for row in fewer.rows] == ["15", "15", "15"]


def test_no_topic_is_trained_and_examined_on() -> None:
    assert not set(QUESTIONS["train"]) & set(QUESTIONS["test"])
    for split in ("train", "test"):
        made = list(rows(split))
        assert len({row["prompt"] for row in made}) == len(made) == 3 * len(QUESTIONS[split])
        for row in made:
            readable(row["answer"], split)


def test_a_model_that_cannot_be_had_costs_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: Path
) -> None:
    monkeypatch.setenv("TWOFOLD_REAL_MODEL", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="not on this machine") as error:
        located()
    assert error.value.where == HUB_NAME
    assert "make real" in str(error.value)
    assert "--model FOLDER" in str(error.value)
    monkeypatch.setenv("TWOFOLD_REAL_MODEL", str(base))
    assert located() == str(base)
    assert located("another/name") == "another/name"


def test_a_stop_ends_the_making_of_pairs_at_once(tmp_path: Path, base: Path) -> None:
    stop = StopRequest()
    stop.request()
    with pytest.raises(Stopped):
        play_real(tmp_path, model=str(base), seeds=1, progress=Silent(), size=SMALL, stop=stop)
    assert not (tmp_path / "data" / "pairs.jsonl").exists()
