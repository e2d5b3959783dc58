"""A run's folder is its owner's, is written through no link, and is checked when it is taken up or read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.sum_pairs import ROWS, write
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import CheckpointError, DataError, RecipeError
from twofold.manifest import MANIFEST, faults
from twofold.reports.run import read_run
from twofold.runs.folder import add_rows, origin
from twofold.runs.train import RunOptions, train_recipe

TASKS = [{"prompt": f"{a}+9?", "answer": f"#### {a + 9}"} for a in range(1, 5)]


def recipe(tmp_path: Path, base: Path, **sections: Any) -> Recipe:
    pairs, tasks = write(tmp_path / "pairs.jsonl", ROWS), write(tmp_path / "tasks.jsonl", TASKS)
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(pairs), "heldout": {"count": 4}},
        "training": {"steps": 2, "batch_size": 4},
        "evaluation": {"tasks": {"file": str(tasks)}, "sampling": {"temperature": 0, "max_new_tokens": 3}},
        "run": str(tmp_path / "run"),
        **sections,
    }
    return validate(Recipe, Document("test", given, {}))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_of_a_run_is_for_its_owner_alone(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base))
    run = tmp_path / "run"
    rights = {str(p.relative_to(run)): p.stat().st_mode & 0o777 for p in (run, *run.rglob("*"))}
    assert {name for name, right in rights.items() if right & 0o077} == set()


def test_links_in_a_run_are_replaced_and_what_they_name_stays(tmp_path: Path, base: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("precious")
    (outside / "folder" / "file").write_text("precious")
    run.mkdir()
    folders = ("model", "reference-cache", "data-cache", "fit", "served", "tensorboard")
    files = ("recipe.yaml", "resolved.yaml", "environment.json", "metrics.jsonl", "timings.jsonl", "samples.jsonl",
             "warnings.jsonl", "results.json", "README.md", "report.html", MANIFEST)  # fmt: skip
    for name in folders:
        (run / name).symlink_to(outside / "folder")
    for name in files:
        (run / name).symlink_to(outside / "file")
    train_recipe(recipe(tmp_path, base))
    assert everything(outside) == {"file": b"precious", "folder/file": b"precious"}
    assert [p.name for p in run.iterdir() if p.is_symlink()] == []
    assert json.loads((run / "results.json").read_text())["step"] == 2
    assert faults(run) == {}


def test_a_link_to_nothing_where_the_model_goes_is_replaced(tmp_path: Path, base: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to("none")
    train_recipe(recipe(tmp_path, base))
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_what_may_be_somebody_s_is_refused_before_training(tmp_path: Path, base: Path) -> None:
    """A file where the model goes, and a link for checkpoints, which may name another disk on purpose."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").write_text("precious")
    with pytest.raises(RecipeError, match="run/model: is a file with the name of an output"):
        train_recipe(recipe(tmp_path, base))
    (tmp_path / "run" / "model").unlink()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(RecipeError, match="run/checkpoints: is a link with the name of an output"):
        train_recipe(recipe(tmp_path, base))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["metrics", "samples"])
def test_a_changed_log_is_not_gone_on_with(tmp_path: Path, base: Path, name: str) -> None:
    stops = iter([True])
    train_recipe(recipe(tmp_path, base), RunOptions(stop=lambda: next(stops, False)))
    log = tmp_path / "run" / f"{name}.jsonl"
    whole = log.read_bytes()
    for damaged in (whole.replace(b"0", b"1", 1), whole[:-1], b"", whole.replace(b"\n", b" ", 1)):
        log.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"{name}.jsonl: is damaged or was changed"):
            train_recipe(recipe(tmp_path, base))
    log.write_bytes(whole + b'{"half')
    resumed = train_recipe(recipe(tmp_path, base))
    assert resumed.outcome.step == 2
    assert log.read_bytes().startswith(whole)


def test_a_finished_run_tells_what_was_changed_and_takes_nothing_from_it(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base))
    run = tmp_path / "run"
    add_rows(run / "win_rates.json", [{"against": "base", "rate": 0.5}], "against")
    assert read_run(run).faults == ()
    for name in ("results.json", "metrics.jsonl", "samples.jsonl", "win_rates.json", "environment.json"):
        before = (run / name).read_text()
        (run / name).write_text(before.replace("0", "7", 1))
        told = f"{name} does not match its sha256 since the run wrote it, and was left out"
        assert read_run(run).faults == (told,)
        (run / name).write_text(before)
    (run / "win_rates.json").write_text("[]")
    with pytest.raises(DataError, match=r"win_rates\.json: has 2 bytes"):
        add_rows(run / "win_rates.json", [{"against": "base", "rate": 0.5}], "against")
    resolved = (run / "resolved.yaml").read_text()
    (run / "resolved.yaml").write_text(resolved.replace("beta: 0.1", "beta: 0.3"))
    for use in (load_recipe, lambda path: origin(str(path.parent))):
        with pytest.raises(RecipeError, match=r"resolved\.yaml: does not match its sha256"):
            use(run / "resolved.yaml")
    (run / "copy.yaml").write_text(resolved.replace("beta: 0.1", "beta: 0.3"))
    assert load_recipe(run / "copy.yaml").data["objective"]["beta"] == 0.3
    (run / "win_rates.json").unlink()
    train_recipe(recipe(tmp_path, base))
    assert faults(run) == {"win_rates.json": "is missing"}
    add_rows(run / "win_rates.json", [{"against": "base", "rate": 0.5}], "against")
