"""The reproduction kit: its problems, commands and stages, and the whole of it on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.gsm8k.reproduction import RECIPE, Kit, Stage, main, perform
from experiments.harness.files import read_rows, write_rows
from support.word_chain import letter_chain
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of 40 training and 20 test problems in GSM8K's form."""
    for split, numbers in (("train", range(40)), ("test", range(40, 60))):
        rows = ({"question": f"{i} and {i}?", "answer": f"{i} + {i}\n#### {2 * i}"} for i in numbers)
        write_rows(tmp_path / "gsm8k" / f"{split}.jsonl", rows)
    return tmp_path / "gsm8k"


def test_scale_is_a_share_of_the_problems() -> None:
    counts = {scale: Kit(Path(), "m", scale=scale).count(7473) for scale in (1.0, 0.01, 1e-6)}
    assert counts == {1.0: 7473, 0.01: 75, 1e-6: 2}


def test_every_prompt_requests_the_form_of_the_answer(source: Path, tmp_path: Path) -> None:
    kit = Kit(tmp_path / "out", "m", scale=0.001)
    kit.write_problems(source)
    rows = read_rows(kit.path("problems"))
    assert [row["answer"].split()[-1] for row in rows] == [str(2 * i) for i in range(7)]
    assert rows[3]["prompt"].startswith("3 and 3?\n\n")
    assert "#### N" in rows[3]["prompt"]
    assert len(read_rows(kit.path("test"))) == 2  # at least two


@pytest.mark.parametrize(("teacher", "models"), [("data", ["m"]), ("http://h/v1#t", ["http://h/v1#t", "m"])])
def test_who_answers(teacher: str, models: list[str]) -> None:
    stages = [*Kit(Path("o"), "m", teacher, max_new_tokens=7).answers()]
    assert [stage.words[1] for stage in stages] == models
    assert all(stage.words[-1] == "max_new_tokens=7" for stage in stages)
    assert stages[-1].makes == Path("o/own.jsonl")


def test_both_methods_read_the_same_pairs_and_leave_the_generators_out(root: Path) -> None:
    kit = Kit(Path("o"), "m", seeds=(4, 5), settings=["optimizer.learning_rate=1e-4"], max_new_tokens=9)
    stages = [*kit.trainings(6000 + 1473)]
    recipes = [validate(Recipe, load_recipe(root / RECIPE, list(s.words[2:]))) for s in stages]
    assert [(r.algorithm.kind, r.seed, str(r.run)) for r in recipes] == [
        ("offline", 4, "o/dpo-4"), ("pdpo", 4, "o/pdpo-4"), ("offline", 5, "o/dpo-5"), ("pdpo", 5, "o/pdpo-5"),
    ]  # fmt: skip
    dpo, pdpo = recipes[:2]
    assert replace(dpo, algorithm=pdpo.algorithm, run=pdpo.run) == pdpo
    assert pdpo.data.generator is not None
    assert pdpo.data.generator.count == 1473
    assert pdpo.optimizer.learning_rate == 1e-4
    assert pdpo.sampling.max_new_tokens == pdpo.evaluation.sampling.max_new_tokens == 9


def test_a_finished_stage_is_not_repeated_and_a_failed_one_ends_all(tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.touch()
    with pytest.raises(SystemExit) as stopped:
        perform(iter([Stage(("not a verb",), done), Stage(("nor this one",), tmp_path / "missing")]))
    assert stopped.value.code == 2


def test_plan_prints_every_command_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--plan", "--out", str(tmp_path / "o"), "--model", "base", "--teacher", "http://h/v1#t", "--seed", "3"]
    main([*words, "training.batch_size=4"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("twofold")] == ["sample", "sample", "train", "train"]
    assert sum("training.batch_size=4" in line for line in lines) == 2
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_wrong_share_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--scale", share])
    assert stopped.value.code == 2
    assert f"{float(share):g}" in capsys.readouterr().err


def test_missing_data_costs_one_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such file"):
        main(["--data", str(tmp_path), "--out", str(tmp_path / "o")])


@pytest.mark.slow
def test_the_whole_kit_on_a_tiny_model(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.chdir(root)
    base, out = letter_chain(tmp_path / "base"), tmp_path / "out"
    words = ["--data", str(source), "--model", str(base), "--scale", "0.004", "--max-new-tokens", "8"]
    small = ["training.batch_size=8", "model.lora=null", "model.precision=float32"]
    main([*words, "--out", str(out), "--seed", "0", "--seed", "1", *small])
    shown = capsys.readouterr().out
    assert f"{len(read_rows(out / 'pairs.jsonl'))} pairs of 30 problems" in shown
    assert "PDPO − DPO over 2 seeds" in shown
    assert "DPO, run 2 / PDPO, run 2" in shown
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/results.json")}
    assert len(times) == 4
    main([*words, "--out", str(out), "--seed", "0", "--seed", "1", *small])
    assert times == {path: path.stat().st_mtime_ns for path in out.glob("*/results.json")}
    assert json.loads((out / "pdpo-0" / "results.json").read_text())["models"]
    assert "$ twofold" not in capsys.readouterr().out
