"""What every test relies on: one thread per process, no network, and the reference data beside the repository."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Read when the libraries load: spinning or many threads make small tensors slower, and the hub must stay out of it.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", MPLBACKEND="Agg")

import pytest
import torch

pytest.register_assert_rewrite("support")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What a test sets must not reach the next one: a forked child hangs in a pool of several threads."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data (GSM8K text and the golden vectors): TWOFOLD_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("TWOFOLD_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set TWOFOLD_SHARED to the folder that holds it")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What heavy.txt lists takes seconds and has siblings that are faster: `make slow` runs it."""
    heavy = {*(ROOT / "tests" / "heavy.txt").read_text(encoding="utf-8").splitlines()}
    for item in items:
        if item.nodeid in heavy:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Imported modules and collected tests stay: no collection of garbage need look at them again."""
    gc.collect()
    gc.freeze()
