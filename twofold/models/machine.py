"""What this machine has, and which of our paths will be fast on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from twofold.models.load import resolve_device, resolve_precision

PACKAGES = ("torch", "transformers", "peft", "datasets", "safetensors", "pydantic", "numpy")
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "asimd", "bf16", "sve")
GIB = 2**30
FAST = 1.5


def inspect_machine() -> dict[str, Any]:
    """What there is, as JSON: versions, processor, memory (GiB), disk (GiB), devices, speed of bfloat16, and advice."""
    device = resolve_device("auto")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {**{name: _version(name) for name in PACKAGES}, "torch": str(torch.__version__)},  # with its build
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
        "memory_gib": _memory(),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "gpu": [_gpu(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
        "device": device,
        "precision": resolve_precision("auto", device),
        "bfloat16_speedup": bfloat16_speedup(device),
    }
    return {**found, "paths": paths(found)}


def paths(found: dict[str, Any]) -> list[str]:
    """Which of our paths will be taken here, and what would make this machine faster."""
    told = [
        "attention over packs: one variable-length call (bfloat16 on the GPU)"
        if found["device"] == "cuda"
        else "attention over packs: SDPA for each completion, the prompt shared",
        f"precision auto: {found['precision']}",
    ]
    speedup = found["bfloat16_speedup"]
    if speedup >= FAST and found["precision"] == "float32":
        told.append(f"bfloat16 multiplies {speedup}× as fast here: precision=bfloat16 pays for wide models")
    elif speedup < 1:
        told.append("bfloat16 is slower than float32 here: leave precision alone")
    cores = found["processor"]["cores_usable"]
    if found["threads"] > cores:
        told.append(f"{found['threads']} threads on {cores} usable cores: set OMP_NUM_THREADS={cores}")
    if found["omp_wait_policy"].upper() != "PASSIVE" and found["device"] == "cpu":
        told.append("waiting threads spin: set OMP_WAIT_POLICY=PASSIVE where others share the processor")
    return told


def memory_bytes(device: str) -> int | None:
    """All the memory of a device, in a container no more than it may take; None where the system does not say."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    found = _memory()
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text("ascii").strip() if limit.is_file() else ""
    known = [int(text)] if text.isdecimal() else []
    return min([*known, int(found["total"] * GIB)] if found else known, default=None)


def bfloat16_speedup(device: str, size: int = 512) -> float:
    """How many times faster than float32 a [size, size] product is in bfloat16: best of five each."""
    seconds = {dtype: _seconds(_product(size, dtype, device)) for dtype in (torch.float32, torch.bfloat16)}
    return round(seconds[torch.float32] / seconds[torch.bfloat16], 2)


def _product(size: int, dtype: torch.dtype, device: str) -> Callable[[], object]:
    matrix = torch.ones(size, size, dtype=dtype, device=device)

    def multiply() -> object:
        out = matrix @ matrix
        return out[0, 0].item()  # waits for the device

    return multiply


def _seconds(run: Callable[[], object], repeats: int = 5) -> float:
    run()
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    has = set(flags[1].split()) if flags else set[str]()
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "name": named[1] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "features": [f for f in FEATURES if f in has],
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
