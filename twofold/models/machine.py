"""The hardware and packages of this machine, and which code paths twofold uses on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from twofold.models.load import resolve_device
from twofold.models.planned import planned_memory
from twofold.models.precision import (
    FAST,
    NARROWEST,
    bfloat16_speedup,
    cpu_info,
    features,
    known_speedup,
    processor_name,
    resolve_precision,
)

PACKAGES = ("torch", "transformers", "peft", "datasets", "safetensors", "pydantic", "numpy")
GIB = 2**30


def inspect_machine() -> dict[str, Any]:
    """The machine as JSON: versions, processor, memory (GiB), disk (GiB), devices, speed of bfloat16, and advice."""
    device = resolve_device("auto")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {**{name: _version(name) for name in PACKAGES}, "torch": str(torch.__version__)},  # with its build
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
        "memory_gib": _memory(),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "gpu": [_gpu(i) for i in range(torch.cuda.device_count())],
        "device": device,
        "precision": resolve_precision("auto", device, NARROWEST),
        "bfloat16_speedup": known_speedup() if device == "cpu" else bfloat16_speedup(device),
    }
    return {**found, "paths": paths(found)}


def paths(found: dict[str, Any]) -> list[str]:
    """Which code paths twofold uses here, and what would make this machine faster."""
    lines = [
        "attention over packs: one variable-length call (bfloat16 on the GPU)"
        if found["device"] == "cuda"
        else "attention over packs: SDPA for each completion, the prompt shared",
        f"precision auto: {found['precision']}{_widths(found)}",
    ]
    speedup = found["bfloat16_speedup"]
    if speedup < 1:
        lines.append("bfloat16 is slower than float32 here: leave precision at auto")
    cores = found["processor"]["cores_usable"]
    if found["threads"] > cores:
        lines.append(f"{found['threads']} threads on {cores} usable cores: set OMP_NUM_THREADS={cores}")
    if found["omp_wait_policy"].upper() != "PASSIVE" and found["device"] == "cpu":
        lines.append("waiting threads spin: set OMP_WAIT_POLICY=PASSIVE where others share the processor")
    return lines


def _widths(found: dict[str, Any]) -> str:
    """For which models `auto` is bfloat16, and why."""
    speedup = f"it multiplies {found['bfloat16_speedup']}× as fast as float32"
    if found["device"] == "cuda" or found["precision"] == "float32":
        return f" (bfloat16: {speedup}; {FAST}× is where it pays)" if found["device"] == "cpu" else ""
    return f" for models of {NARROWEST} hidden units or more ({speedup}), float32 for smaller ones"


def memory_bytes(device: str) -> int | None:
    """The total memory of a device, or a container's limit if that is less; None if the system reports neither."""
    if device == "cuda":
        planned = planned_memory()
        return planned if planned is not None else torch.cuda.get_device_properties(0).total_memory
    found = _memory()
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text("ascii").strip() if limit.is_file() else ""
    known = [int(text)] if text.isdecimal() else []
    return min([*known, int(found["total"] * GIB)] if found else known, default=None)


def available_memory() -> int | None:
    """Bytes that new tensors on the CPU can take: what the system has left, or a container's limit if that is less;
    None if the system does not report it."""
    found, left = _memory(), _left_in_container()
    known = [] if left is None else [left]
    return min([*known, int(found["available"] * GIB)] if found else known, default=None)


def _left_in_container() -> int | None:
    """Bytes up to a container's limit; the cache of files does not count. None without a limit."""
    group = Path("/sys/fs/cgroup")
    limit, used, stat = (group / f"memory.{name}" for name in ("max", "current", "stat"))
    if not limit.is_file() or not used.is_file() or not (text := limit.read_text("ascii").strip()).isdecimal():
        return None
    cached = re.search(r"^inactive_file (\d+)$", stat.read_text("ascii"), re.MULTILINE) if stat.is_file() else None
    return int(text) - int(used.read_text("ascii")) + (int(cached[1]) if cached else 0)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "name": processor_name(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "features": features(cpu_info()),
    }


def _memory() -> dict[str, float] | None:
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    kib = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+):\s+(\d+) kB$", info.read_text("ascii"), re.MULTILINE)}
    return {name: round(kib[key] / 2**20, 1) for name, key in (("total", "MemTotal"), ("available", "MemAvailable"))}


def _gpu(index: int) -> dict[str, Any]:
    device = torch.cuda.get_device_properties(index)
    memory = round(device.total_memory / GIB, 1)
    return {"name": device.name, "memory_gib": memory, "capability": f"{device.major}.{device.minor}"}
