"""What sets runs apart: the settings in which they differ, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twofold.reports.run import RunData

OWN = ("run",)
"""What every run has of its own."""
ABSENT = "–"
MOST = 60


def settings_diff(runs: Sequence[RunData]) -> list[tuple[str, tuple[str, ...]]]:
    """(key, value in each run) of the settings that are not the same in all; a dash where a run has no such key."""
    flat = [dict(_flat(run.settings)) for run in runs]
    keys = dict.fromkeys(key for found in flat for key in found if key not in OWN)
    sections = {key[:at] for key in keys for at, letter in enumerate(key) if letter == "."}
    keys = [key for key in keys if key not in sections]  # an absent section, whose keys another run has
    rows = [(key, tuple(found.get(key, ABSENT) for found in flat)) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1][:MOST]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """`objective.beta` → `0.1`, and so on for every value; lists are one value."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif key:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
