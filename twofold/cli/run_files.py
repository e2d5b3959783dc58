"""What `twofold evaluate` leaves in run directories, for reports: lists that later evaluations add to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def is_run(model: str) -> bool:
    """Whether a model was named by its run directory."""
    return (Path(model) / "resolved.yaml").is_file()


def keep(path: Path, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    """Put `rows` into the list of a JSON file, in the place of what it held with the same values under `key`; a file
    that holds no list is replaced."""
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError:
        known = []
    mine = {row[key] for row in rows}
    listed: list[Any] = known if isinstance(known, list) else []
    others = [row for row in listed if isinstance(row, dict) and row.get(key) not in mine]
    path.write_text(json.dumps([*others, *rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def short(name: str) -> str:
    """A judge (`reward:FOLDER`), model or file, of an absolute path the last two parts."""
    from twofold.reports.provenance import short as last

    kind, colon, rest = name.partition(":")
    return name if "://" in name else f"{kind}:{last(rest)}" if colon else last(name)
