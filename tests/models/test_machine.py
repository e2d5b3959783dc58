"""What is said of a machine: its figures as the system tells them, and advice only where it helps."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from twofold.models import machine, precision
from twofold.models.machine import inspect_machine, memory_bytes, paths


def found(**changes: Any) -> dict[str, Any]:
    cores = changes.pop("cores", 4)
    return {
        "device": "cpu", "precision": "float32", "bfloat16_speedup": 1.2, "threads": 4, "omp_wait_policy": "PASSIVE",
        "processor": {"cores_usable": cores}, **changes,
    }  # fmt: skip


PACKS = "attention over packs: SDPA for each completion, the prompt shared"
PLAIN = "precision auto: float32 (bfloat16: it multiplies {}× as fast as float32; 1.5× is where it pays)"
SLOW = "bfloat16 is slower than float32 here: leave precision at auto"
SPIN = "waiting threads spin: set OMP_WAIT_POLICY=PASSIVE where others share the processor"


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, []),
        ({"bfloat16_speedup": 1.49}, []),
        ({"bfloat16_speedup": 1.0}, []),
        ({"bfloat16_speedup": 0.99}, [SLOW]),
        ({"threads": 5}, ["5 threads on 4 usable cores: set OMP_NUM_THREADS=4"]),
        ({"threads": 1}, []),
        ({"omp_wait_policy": "passive"}, []),
        ({"omp_wait_policy": "unset"}, [SPIN]),
        (
            {"omp_wait_policy": "ACTIVE", "threads": 3, "cores": 2, "bfloat16_speedup": 0.5},
            [SLOW, "3 threads on 2 usable cores: set OMP_NUM_THREADS=2", SPIN],
        ),
    ],
)
def test_advice_is_given_where_it_helps(changes: dict[str, Any], advice: list[str]) -> None:
    told = found(**changes)
    assert paths(told) == [PACKS, PLAIN.format(told["bfloat16_speedup"]), *advice]


def test_a_processor_that_is_fast_at_bfloat16_takes_it_for_wide_models() -> None:
    told = paths(found(precision="bfloat16", bfloat16_speedup=2.5))
    assert told[1:] == [
        "precision auto: bfloat16 for models of 512 hidden units or more (it multiplies 2.5× as fast as float32), "
        "float32 for smaller ones"
    ]


def test_a_gpu_takes_its_own_path() -> None:
    told = paths(found(device="cuda", precision="float32", bfloat16_speedup=9.0, omp_wait_policy="unset"))
    assert told == [
        "attention over packs: one variable-length call (bfloat16 on the GPU)", "precision auto: float32",
    ]  # fmt: skip


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of another system, under which all absolute paths are looked up."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    for module in (machine, precision):
        monkeypatch.setattr(module, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    return tmp_path


MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1000000 kB\nMemAvailable:    9583985 kB\n"


@pytest.mark.parametrize(("limit", "gib"), [(None, 16), ("max\n", 16), (f"{4 * 2**30}\n", 4), (f"{40 * 2**30}", 16)])
def test_memory_is_no_more_than_a_container_may_take(system: Path, limit: str | None, gib: int) -> None:
    (system / "proc/meminfo").write_text(MEMINFO)
    if limit is not None:
        (system / "sys/fs/cgroup/memory.max").write_text(limit)
    assert memory_bytes("cpu") == gib * 2**30
    assert machine._memory() == {"total": 16.0, "available": 9.1}


def test_memory_that_the_system_does_not_tell(system: Path) -> None:
    assert memory_bytes("cpu") is None
    assert machine._memory() is None
    (system / "sys/fs/cgroup/memory.max").write_text("1024\n")
    assert memory_bytes("cpu") == 1024


def test_a_processor_is_known_by_its_name_and_the_features_that_matter(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3} if pid == 0 else set())
    (system / "proc/cpuinfo").write_text(
        "processor : 0\nmodel name\t: Chip 3000 @ 2 GHz\nflags\t\t: fpu amx_tile avx2 avx512fx\nmodel name : other\n"
    )
    assert machine._processor() == {
        "name": "Chip 3000 @ 2 GHz", "cores": 8, "cores_usable": 2, "features": ["avx2", "amx_tile"],
    }  # fmt: skip
    (system / "proc/cpuinfo").write_text("Features\t: fp asimd sve bf16\n")
    told = machine._processor()
    assert told["features"] == ["asimd", "bf16", "sve"]
    assert told["name"]
    (system / "proc/cpuinfo").unlink()
    assert machine._processor()["features"] == []


def test_the_best_of_five_runs_counts_and_the_first_is_for_warmth(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0, 30.0, 39.0, 40.0, 44.0])
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    assert precision._seconds(lambda: runs.append(1)) == 2.0
    assert len(runs) == 6


def test_the_speedup_is_of_float32_over_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, torch.dtype, str]] = []

    def product(size: int, dtype: torch.dtype, device: str) -> Any:
        sizes.append((size, dtype, device))
        return lambda: None

    seconds = iter([3.0, 0.9])
    monkeypatch.setattr(precision, "_product", product)
    monkeypatch.setattr(precision, "_seconds", lambda run: next(seconds))
    assert precision.bfloat16_speedup("cpu") == 3.33
    assert sizes == [(512, torch.float32, "cpu"), (512, torch.bfloat16, "cpu")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_timed_is_a_product_of_square_matrices(dtype: torch.dtype) -> None:
    """Of ones, so that every entry is the number of rows."""
    assert precision._product(7, dtype, "cpu")() == 7.0


def test_an_accelerator_as_torch_describes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {1: type("Properties", (), {"name": "H200", "total_memory": 139.84 * 2**30, "major": 9, "minor": 0})()}
    monkeypatch.setattr(torch.cuda, "get_device_properties", known.__getitem__)
    assert machine._gpu(1) == {"name": "H200", "memory_gib": 139.8, "capability": "9.0"}


def test_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "known_speedup", lambda: 1.25)
    monkeypatch.setattr(precision, "known_speedup", lambda: 1.25)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10.54 * 2**30})())
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    told = inspect_machine()
    assert told["packages"]["torch"] == torch.__version__
    assert told["packages"]["peft"] == version("peft")
    assert set(told["packages"]) == {
        "torch", "transformers", "peft", "datasets", "safetensors", "pydantic", "numpy",
    }  # fmt: skip
    assert (told["omp_wait_policy"], told["disk_free_gib"], told["bfloat16_speedup"]) == ("unset", 10.5, 1.25)
    assert told["threads"] == torch.get_num_threads() == 1
    assert told["paths"] == paths(told)
    assert machine._version("no-such-package-here") == "missing"
    if not torch.cuda.is_available():
        assert (told["gpu"], told["device"], told["precision"]) == ([], "cpu", "float32")
