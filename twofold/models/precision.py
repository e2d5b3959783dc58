"""The precision that `auto` selects: bfloat16 if the hardware is fast at it and the model is wide enough to benefit.

The speed of bfloat16 on a CPU is measured once and stored in the user's cache folder.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from twofold.disk import cache_folder, make_folder, write
from twofold.models.planned import planned_memory

NARROWEST = 512
"""The least hidden units at which a CPU uses bfloat16; in smaller models, products are not the largest cost."""
FAST = 1.5
"""The least speedup of bfloat16 products over float32 at which a CPU uses bfloat16."""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "asimd", "bf16", "sve")
_FILE = "bfloat16.json"


def resolve_precision(precision: str, device: str, hidden: int = 0) -> str:
    """`auto` becomes bfloat16 on GPUs that compute in it, and on processors that are fast at it for models of
    NARROWEST `hidden` units or more; float32 elsewhere."""
    if precision != "auto":
        return precision
    if device == "cuda":
        is_new = planned_memory() is not None or torch.cuda.get_device_capability()[0] >= 8
        return "bfloat16" if is_new else "float32"
    return "bfloat16" if hidden >= NARROWEST and known_speedup() >= FAST else "float32"


def hidden_units(config: PreTrainedConfig) -> int:
    """The width of a model; 0 if its config does not contain it."""
    width = getattr(config.get_text_config(), "hidden_size", None)
    return width if isinstance(width, int) else 0


def known_speedup() -> float:
    """`bfloat16_speedup` of this CPU, measured by the first process that needs it and then read from the cache folder.
    A measurement of another CPU or another torch is not used, nor is a damaged file."""
    path = cache_folder() / _FILE
    key = {"processor": " ".join([processor_name(), *features(cpu_info())]), "torch": str(torch.__version__)}
    try:
        known = json.loads(path.read_bytes()[:10_000])
        speedup: Any = known.pop("speedup")
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        known, speedup = None, None
    if known == key and isinstance(speedup, float) and isfinite(speedup) and speedup > 0:
        return speedup
    speedup = bfloat16_speedup("cpu")
    try:
        make_folder(path.parent)
        write(path, json.dumps({**key, "speedup": speedup}))
    except OSError:
        pass  # measured again next time
    return speedup


def bfloat16_speedup(device: str, size: int = 512) -> float:
    """The speedup of a [size, size] product in bfloat16 over float32: best of five each."""
    seconds = {dtype: _seconds(_product(size, dtype, device)) for dtype in (torch.float32, torch.bfloat16)}
    return round(seconds[torch.float32] / seconds[torch.bfloat16], 2)


def processor_name() -> str:
    """The processor's model."""
    named = re.search(r"^model name\s*:\s*(.+)$", cpu_info(), re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def features(text: str) -> list[str]:
    """Those of FEATURES that are listed in the kernel's description of a processor."""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    has = set(flags[1].split()) if flags else set[str]()
    return [feature for feature in FEATURES if feature in has]


def cpu_info() -> str:
    """The kernel's description of the processors; empty where there is none."""
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""


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
