"""Several processes compute what one does: every kind of run, however they share the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.processes import distance, finish, lines, play, start
from support.resumable_runs import KINDS, OTHERS

SAMPLE = ("shard:offline", "shard:moving", "shard:pdpo-lora", "shard:ppo-value", "replicate:experts", "shard:kto")
STOPPED = "shard:bco"
CHECKS = (
    "check_captured",
    "check_gathered",
    "check_stop",
    "check_non_finite",
    "check_differences",
    "check_parts",
    "check_unread",
)
RESUMED = "shard:rloo-adaptive-lora"
WHOLE = [kind for kind, spec in {**KINDS, **OTHERS}.items() if "quantize" not in spec]
EVERY = [f"{sharing}:{kind}" for kind in WHOLE for sharing in ("replicate", "shard")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have computed, all at one start."""
    folder = tmp_path_factory.mktemp("processes")
    play(folder / RESUMED.replace(":", "-"), RESUMED.partition(":")[2], steps=3)
    finish(start(2, str(folder), "float64", *SAMPLE, f"{STOPPED}:3", RESUMED, *CHECKS))
    return folder


@pytest.mark.parametrize("case", SAMPLE)
def test_two_processes_equal_one(folder: Path, tmp_path: Path, case: str) -> None:
    sharing, kind = case.split(":")
    play(tmp_path / kind, kind)
    figures, weights = distance(folder / f"{sharing}-{kind}", tmp_path / kind)
    assert figures <= 1e-10
    assert weights <= 1e-10


def test_processes_agree(folder: Path) -> None:
    """What `support.processes` asserts in each of them; that it was done shows in what the runs left."""
    assert len(lines(folder / "check_stop")) == 4
    assert not (folder / "check_non_finite" / "checkpoints" / "step-6").exists()


def test_what_two_processes_began_one_ends(folder: Path, tmp_path: Path) -> None:
    play(tmp_path / "bco", "bco")
    play(folder / "shard-bco", "bco")
    assert max(distance(folder / "shard-bco", tmp_path / "bco")) <= 1e-10


def test_what_one_process_began_two_end(folder: Path, tmp_path: Path) -> None:
    kind = RESUMED.partition(":")[2]
    play(tmp_path / kind, kind)
    assert max(distance(folder / RESUMED.replace(":", "-"), tmp_path / kind)) <= 1e-10


@pytest.mark.slow
def test_copies_of_shards(tmp_path: Path) -> None:
    """Two hosts of two processes each, as far as the mesh knows."""
    finish(start(4, str(tmp_path), "float64", "hybrid:offline-lora", "hybrid:moving", LOCAL_WORLD_SIZE="2"))
    for kind in ("offline-lora", "moving"):
        play(tmp_path / kind, kind)
        assert max(distance(tmp_path / f"hybrid-{kind}", tmp_path / kind)) <= 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "figure", "weight"), [("float64", 1e-10, 1e-10), ("float32", 2e-6, 2e-6)])
@pytest.mark.parametrize("processes", [2, 3])
def test_every_kind(tmp_path: Path, processes: int, precision: str, figure: float, weight: float) -> None:
    """In float32 AdamW's first steps divide a small gradient by itself, rounding and all: of an adapter 1.2e-6."""
    finish(start(processes, str(tmp_path), precision, *EVERY), seconds=3600)
    for kind in WHOLE:
        play(tmp_path / kind, kind, precision=precision)
    found = {case: distance(tmp_path / case.replace(":", "-"), tmp_path / case.split(":")[1]) for case in EVERY}
    assert {case: far for case, far in found.items() if far[0] > figure or far[1] > weight} == {}
