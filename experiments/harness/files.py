"""Files of rows, and results that are made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from twofold.errors import DataError


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    if not path.is_file():
        raise DataError("no such file", where=str(path), remedy="name a file of JSON lines")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON lines; how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def cached(path: Path, make: Callable[[], Any]) -> Any:
    """What stands in the JSON file `path`, made where it is missing; rows of JSON Lines where it is called so."""
    lines = path.suffix == ".jsonl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made, temporary = make(), path.with_name(f"{path.name}.tmp")
        if lines:
            write_rows(temporary, made)
        else:
            temporary.write_text(json.dumps(made) + "\n", encoding="utf-8")
        temporary.replace(path)
    return read_rows(path) if lines else read_json(path)
