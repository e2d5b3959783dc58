"""A real pretrained model, once per session, and two runs that further tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.real_model import Independent, chat_rows, verb, write_lines
from twofold.demo.real_model import folder


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder that `make real` makes."""
    path = folder()
    if not (path / "config.json").is_file():
        pytest.skip(f"no real model at {path}: `make real` makes it, TWOFOLD_REAL_MODEL names another folder")
    return path


@pytest.fixture(scope="session")
def base(real_model: Path) -> Independent:
    return Independent.of(real_model)


@pytest.fixture(scope="session")
def pairs(real_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "pairs.jsonl", chat_rows())


@pytest.fixture(scope="session")
def recipe(real_model: Path, pairs: Path) -> Path:
    """Two steps of DPO under LoRA, each on all rows."""
    path = pairs.with_name("recipe.yaml")
    path.write_text(
        f"model: {{path: '{real_model}', precision: float32, lora: {{rank: 4}}}}\n"
        f"data: {{train: '{pairs}'}}\n"
        "optimizer: {learning_rate: 1.0e-3, schedule: constant, warmup: 0}\n"
        "training: {steps: 2, batch_size: 4}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learnt the pairs."""
    folder = tmp_path_factory.mktemp("runs") / "dpo"
    verb("train", recipe, f"run={folder}")
    return folder


@pytest.fixture(scope="session")
def merged(run: Path) -> Independent:
    """That policy as transformers alone reads it."""
    verb("export", run, run / "merged", "--dtype", "float32")
    return Independent.of(run / "merged")


@pytest.fixture(scope="session")
def reward(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of the same pairs."""
    folder = tmp_path_factory.mktemp("runs") / "reward"
    verb("train", recipe, f"run={folder}", "objective.kind=bradley_terry")
    return folder
