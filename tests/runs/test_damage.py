"""Whatever twofold wrote is checked before it is used: no byte of it changes a result without a word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.damage import Kind, tries
from support.sum_pairs import ROWS, write
from twofold import manifest
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data import load
from twofold.judges.people import HumanVerdicts
from twofold.ledger import Ledger
from twofold.models.export import export_model
from twofold.models.load import ModelSettings, load_model, load_policy, weights_digest
from twofold.models.packing import bins
from twofold.models.reference import COLUMN, cached_reference
from twofold.progress import Silent
from twofold.reports.columns import Columns
from twofold.reports.run import read_run
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset
from twofold.runs.folder import FILES, LOGS, add_rows
from twofold.runs.train import train_recipe
from twofold.training import checkpoint
from twofold.training.first_packs import first_packs
from twofold.training.metrics import Log
from twofold.training.track import FILE as TRACKER
from twofold.training.track import Tracker

TASKS = [{"prompt": f"{a}+9?", "answer": f"#### {a + 9}"} for a in range(1, 5)]
TRIES = 36
REQUESTS = [({"question": n}, {"text": f"answer {n}", "score": n / 7}) for n in range(12)]


@dataclass(frozen=True)
class Made:
    """A finished run whose rows did not fit into memory, and what else twofold leaves on disk."""

    recipe: Recipe
    run: Path
    beside: Path


def recipe_of(folder: Path, base: Path, **sections: Any) -> Recipe:
    pairs, tasks = write(folder / "pairs.jsonl", ROWS), write(folder / "tasks.jsonl", TASKS)
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(pairs), "heldout": {"count": 4}},
        "training": {"steps": 3, "batch_size": 4, "checkpoint_every": 1, "packing": {"groups": 2}},
        "evaluation": {"tasks": {"file": str(tasks)}, "sampling": {"temperature": 0, "max_new_tokens": 5}},
        "run": str(folder / "run"),
        **sections,
    }
    return validate(Recipe, Document("test", given, {}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    from runs.conftest import make_base

    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "IN_MEMORY", 1)
        recipe = recipe_of(folder, make_base(folder / "base"))
        train_recipe(recipe)
        run = folder / "run"
        add_rows(run / "win_rates.json", [{"against": "base", "rate": 0.5}], "against")
        Tracker("wandb", run, {}, Silent())._identity(False)
        with Ledger(folder / "out.ledger.jsonl") as ledger:
            ledger.add(REQUESTS)
        with HumanVerdicts(folder / "out.verdicts.jsonl") as verdicts:
            for n in range(8):
                verdicts.give(f"row {n}", ("first", "second", "tie")[n % 3], seconds=n / 3)
        export_model(run / "model", folder / "exported")
        adapted = recipe_of(folder, folder / "base", run=str(folder / "adapted"), model={
            "path": str(folder / "base"), "precision": "float32", "lora": {"rank": 2}})  # fmt: skip
        train_recipe(adapted)
        yield Made(recipe, run, folder)


def kinds(made: Made) -> Iterator[Kind]:
    yield from _of_training(made)
    yield from _of_lines(made)
    yield from _of_models(made)
    yield from _of_runs(made)


def _of_training(made: Made) -> Iterator[Kind]:
    run, recipe = made.run, made.recipe
    checkpoints = run / "checkpoints"

    def resumed() -> tuple[Any, list[str]]:
        found = checkpoint.newest(checkpoints)
        assert found is not None
        told = [f"{name}: {fault}" for name, fault in found.skipped.items()]
        return (None if told else found.step), told

    yield Kind("checkpoint", sorted((checkpoints / "step-3").iterdir()), resumed, lambda found, whole: found is None)
    dataset = read_dataset(recipe, recipe.objective)
    plain = RunContext(recipe, recipe.objective, *load_policy(recipe.model), dataset, Silent())

    def referenced() -> tuple[Any, list[str]]:
        progress, found = Silent(), list[Any]()
        training, heldout = recipe.training, plain.groups["heldout"]
        met = first_packs(plain.groups["train"], plain.order, training.batch_size, plain.steps, training.packing)
        for name, packs in (("train", met), ("heldout", bins(heldout, training.packing))):
            rows = plain.groups[name]
            groups = cached_reference(plain.language_model, rows, packs, run / "reference-cache", progress)
            found += [b.token_columns[COLUMN].tolist() for g in groups for b in g.branches]
        return found, progress.warnings

    yield Kind("reference cache", sorted((run / "reference-cache").iterdir()), referenced)

    def stored() -> tuple[Any, list[str]]:
        progress = Silent()
        dataset = read_dataset(recipe, recipe.objective, progress=progress)
        encoded = RunContext(recipe, recipe.objective, plain.policy, plain.loaded, dataset, progress)
        tokens = [[b.tokens.tolist() for b in g.branches] for g in encoded.groups["train"]]
        told = [text for text in progress.warnings if "damaged" in text]  # by the sheet, one of the store's two files
        return (list(map(repr, dataset.train)), tokens), [*told, *(t.replace(".json", ".arrow") for t in told)]

    yield Kind("row and token stores", sorted((run / "data-cache").iterdir()), stored)


def _of_lines(made: Made) -> Iterator[Kind]:
    ledger, verdicts = made.beside / "out.ledger.jsonl", made.beside / "out.verdicts.jsonl"

    def replies() -> tuple[Any, list[str]]:
        with Ledger(ledger) as known:
            return [known.get(request) for request, _ in REQUESTS], []

    def choices() -> tuple[Any, list[str]]:
        with HumanVerdicts(verdicts) as known:
            return [known.get(f"row {n}") for n in range(8)], []

    yield Kind("ledger", [ledger], replies, _fewer)
    yield Kind("verdicts of people", [verdicts], choices, _fewer)


def _of_models(made: Made) -> Iterator[Kind]:
    folders = {"model": made.run / "model", "exported model": made.beside / "exported",
               "adapter": made.beside / "adapted" / "model"}  # fmt: skip
    for name, folder in folders.items():
        yield Kind(name, sorted(p for p in folder.iterdir() if p.is_file()), partial(_opened, folder))


def _of_runs(made: Made) -> Iterator[Kind]:
    run, resolved = made.run, made.run / "resolved.yaml"
    state = checkpoint.Checkpoint.open(run / "checkpoints" / "step-3").state["trainer"]

    def logs() -> tuple[Any, list[str]]:
        for name in ("metrics", "samples", "warnings"):
            Log(run / f"{name}.jsonl").cut(state["logs"][name])
        return [(run / name).read_bytes() for name in LOGS], []

    def reported() -> tuple[Any, list[str]]:
        data = asdict(read_run(run))
        told = data.pop("faults")
        return (None if told else json.dumps(data, default=_plain)), told

    def identified() -> tuple[Any, list[str]]:
        progress = Silent()
        found = Tracker("wandb", run, {}, progress)._identity(True)
        return (None if progress.warnings else found), progress.warnings

    yield Kind("logs, on resume", [run / "metrics.jsonl", run / "samples.jsonl"], logs)
    files = [run / name for name in (*FILES, "win_rates.json", manifest.MANIFEST)]
    yield Kind("a run's files, in reports", files, reported, lambda found, whole: found is None)
    yield Kind("resolved.yaml, as a recipe", [resolved], lambda: (load_recipe(resolved).data, []))
    yield Kind("tracker", [run / TRACKER], identified, lambda found, whole: found is None)


def _plain(value: Any) -> Any:
    """What JSON has no word for, in a run's data: paths, and the columns of a log."""
    return [value.series(key) for key in ("loss", "margin", "seconds")] if isinstance(value, Columns) else str(value)


def _fewer(found: list[Any], whole: list[Any]) -> bool:
    return all(one is None or one == other for one, other in zip(found, whole, strict=True))


def _opened(folder: Path) -> tuple[Any, list[str]]:
    loaded = load_model(ModelSettings(path=str(folder), precision="float32"))
    facts = sorted(loaded.stop_tokens), loaded.tokenizer.get_vocab(), loaded.tokenizer.chat_template
    return (weights_digest(loaded.model), facts), []


def _table(made: Made, number: int) -> list[tuple[str, dict[str, int]]]:
    return [(kind.name, dict(tries(kind, number))) for kind in kinds(made)]


def test_damage_to_any_file_is_named_or_mended_and_never_used(made: Made) -> None:
    table = _table(made, TRIES)
    for name, counts in table:
        print(f"{name:28} {sum(counts.values()):4}", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    assert sum(sum(counts.values()) for _, counts in table) >= 400


@pytest.mark.slow
def test_much_damage(made: Made) -> None:
    assert sum(sum(counts.values()) for _, counts in _table(made, 600)) > 5000
