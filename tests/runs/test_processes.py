"""Several processes compute what one does: every kind of run, however they share the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from support.processes import distance, finish, lines, play, start
from support.resumable_runs import KINDS, OTHERS

SAMPLE = ("shard:offline", "shard:pdpo-lora", "replicate:experts")
STOPPED = ("shard:bco",)
CHECKS = (
    "check_captured", "check_gathered", "check_stop", "check_non_finite", "check_differences", "check_rounding",
    "check_parts", "check_copies", "check_none", "check_unread", "check_collectives", "check_settings",
)  # fmt: skip
RESUMED = "shard:rloo-adaptive-lora"
NARROW = ("bfloat16", "bfloat16-lora", "stream", "stream-lora", "stream-reward")
"""Kinds in bfloat16: one process and two round other sums, and the first steps of AdamW are as large for each sum."""
BITS = tuple(kind for kind, spec in KINDS.items() if "quantize" in spec)
"""Kinds that have no float64."""
WHOLE = tuple(kind for kind in {**KINDS, **OTHERS} if kind not in (*NARROW, *BITS))
OF_SHARDS = tuple(f"replicate:{k}" for k, spec in {**KINDS, **OTHERS}.items() if spec.get("world", {}).get("offload"))
"""Cases whose settings are of shards, and refused of copies."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have computed, all at one start."""
    folder = tmp_path_factory.mktemp("processes")
    play(folder / RESUMED.replace(":", "-"), RESUMED.partition(":")[2], steps=3)
    finish(start(2, str(folder), "float64", *SAMPLE, *(f"{case}:3" for case in STOPPED), RESUMED, *CHECKS))
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


@pytest.mark.parametrize("case", STOPPED)
def test_what_two_processes_began_one_ends(folder: Path, tmp_path: Path, case: str) -> None:
    """The second optimizer's moments are rows and columns of whole matrices."""
    kind = case.partition(":")[2]
    play(tmp_path / kind, kind)
    play(folder / case.replace(":", "-"), kind)
    assert max(distance(folder / case.replace(":", "-"), tmp_path / kind)) <= 1e-10


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


def compared(
    folder: Path, processes: int, precision: str, kinds: Sequence[str], *, without: Sequence[str] = ()
) -> dict[str, tuple[float, float]]:
    """By case how far its figures (but for those `without`) and its weights are from those of one process."""
    cases = [f"{sharing}:{kind}" for kind in kinds for sharing in ("replicate", "shard")]
    cases = [case for case in cases if case not in OF_SHARDS]
    finish(start(processes, str(folder), precision, *cases), seconds=3600)
    for kind in kinds:
        play(folder / kind, kind, precision=precision)
    found = {
        case: distance(folder / case.replace(":", "-"), folder / case.split(":")[1], without=without) for case in cases
    }
    print(f"{processes} processes, {precision}:", *(f"{c} {f:.1e} {w:.1e}" for c, (f, w) in found.items()), sep="\n")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "figure", "weight"), [("float64", 1e-10, 1e-10), ("float32", 5e-6, 2e-6)])
@pytest.mark.parametrize("processes", [2, 3])
def test_every_kind(tmp_path: Path, processes: int, precision: str, figure: float, weight: float) -> None:
    """In float32 AdamW's first steps divide a small gradient by itself, rounding and all: of an adapter 1.2e-6. In
    eight bits a value lies so near the bound that `value_clipped` counts it or does not: one token of 72. A standard
    deviation of weights that are nearly equal is the root of a rounding: 2.7e-5."""
    found = compared(tmp_path, processes, precision, [*WHOLE, *(BITS if precision == "float32" else ())])
    loose = {"ppo-value-int8": 1.4e-2, "weighted-kto": 5e-5} if precision == "float32" else {}
    bounds = {case: loose.get(case.partition(":")[2], figure) for case in found}
    assert {case: far for case, far in found.items() if far[0] > bounds[case] or far[1] > weight} == {}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_bfloat16(tmp_path: Path, processes: int) -> None:
    """Weights move by 6e-3 at most. Of two processes, shards compute what copies do, but for the rounding of the
    gradient's norm, whose squares are added in another order. With AMX all weights are equal to the bit, without it to
    3.7e-9. The order of two scores that are nearly equal is a matter of rounding."""
    found = compared(tmp_path, processes, "float32", NARROW, without=("accuracy", "kendall_tau"))
    assert {case: far for case, far in found.items() if far[0] > 2e-2 or far[1] > 2e-3} == {}
    for kind in NARROW if processes == 2 else ():
        figures, weights = distance(tmp_path / f"shard-{kind}", tmp_path / f"replicate-{kind}")
        assert weights <= 1e-8, kind
        assert figures <= 2.4e-7, kind  # two roundings of float32
