"""What every benchmark says beside its figures: a table, the machine, the versions, and all of it as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "trl", "twofold")
_ASK_VERSIONS = """
import importlib.metadata as m, json, platform, sys
have = {d.metadata["Name"]: d.version for d in m.distributions()}
print(json.dumps({"python": platform.python_version()} | {k: have[k] for k in sys.argv[1:] if k in have}))
"""


@dataclass(frozen=True)
class Median:
    """A median, the interval [low, high] that holds the true one with probability `level`, and its runs."""

    value: float
    low: float
    high: float
    level: float
    runs: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def median_interval(runs: Sequence[float], level: float = 0.95) -> Median:
    """Median of `runs` with its order-statistic interval: the narrowest symmetric one that reaches `level`.

    It assumes independence only. Below 6 runs the whole range falls short of 95%; its `level` says by how much.
    """
    ordered, n = sorted(runs), len(runs)
    for cut in range((n - 1) // 2, -1, -1):
        reached = 1 - 2 * sum(comb(n, i) for i in range(cut + 1)) / 2**n
        if reached >= level or cut == 0:
            return Median(median(ordered), ordered[cut], ordered[n - 1 - cut], reached, tuple(runs))
    raise ValueError("a median needs at least one run")


def machine() -> dict[str, Any]:
    """The processor, its number, the memory and how busy others kept it when the benchmark began."""
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions(python: str | Path) -> dict[str, str]:
    """Versions of what matters, as the interpreter `python` has them installed."""
    asked = subprocess.run([str(python), "-c", _ASK_VERSIONS, *_PACKAGES], check=True, capture_output=True, text=True)
    return json.loads(asked.stdout)


def print_table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """The rows under their keys, first column to the left, the others to the right."""
    columns = list(rows[0])
    cells = [columns, *([_cell(row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(f"\n{title}")
    for line in cells:
        first, *others = (
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]))


def print_facts(title: str, facts: Mapping[str, object]) -> None:
    """One line of named facts."""
    print(f"{title}: " + ", ".join(f"{name} {_cell(value)}" for name, value in facts.items()), flush=True)


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """`result` with every dataclass as an object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, default=asdict, ensure_ascii=False) + "\n", encoding="utf-8")


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
