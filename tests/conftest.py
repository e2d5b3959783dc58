"""What every test relies on: one thread per process, no network, and the reference data beside the repository."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read when the libraries load: spinning or many threads make small tensors slower, and the hub must stay out of it.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", MPLBACKEND="Agg")

import pytest
import torch
import torch.distributed as dist

pytest.register_assert_rewrite("support")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What a test sets must not reach the next one: a forked child hangs in a pool of several threads."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def group_of_one() -> Iterator[None]:
    """A process group of one."""
    store = dist.HashStore()  # type: ignore[attr-defined]  # public by torch's pages
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


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


def pytest_configure(config: pytest.Config) -> None:
    """Only tests that need a GPU see one: the figures of the others are those of a CPU in float32.

    Each worker begins to collect elsewhere: what one has compiled the others read, and none compiles all."""
    if not re.search(r"(?<!not )\bgpu\b", config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    folders = [Path(arg) for arg in config.args]
    if worker is None or len(folders) != 1 or not folders[0].is_dir():
        return
    parts = sorted(
        str(p) for p in folders[0].iterdir() if p.match("test_*.py") or (p.is_dir() and p.name[0] not in "._")
    )
    begin = int(worker["workerid"].removeprefix("gw")) * len(parts) // worker["workercount"]
    config.args[:] = parts[begin:] + parts[:begin]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One order wherever a worker began. What heavy.txt lists takes seconds and has siblings that are faster: `make
    slow` runs it."""
    items.sort(key=lambda item: str(item.path))
    heavy = {*(ROOT / "tests" / "heavy.txt").read_text(encoding="utf-8").splitlines()}
    for item in items:
        if item.nodeid in heavy:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Imported modules and collected tests stay: no collection of garbage need look at them again."""
    gc.collect()
    gc.freeze()
