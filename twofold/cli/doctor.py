"""`twofold doctor`: what this machine has, and which paths will be fast on it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from twofold.cli.terminal import results, table


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False) -> None:
    """Show what this machine has, and which paths will be fast on it."""
    from twofold.models.machine import inspect_machine

    found = inspect_machine()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    rows = table("what", "here")
    for name, value in found.items():
        for i, line in enumerate(_lines(value)):
            rows.add_row("" if i else name.replace("_", " "), line)
    results().print(rows)


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name.replace('_', ' ')}: {', '.join(_lines(inner))}" for name, inner in value.items()]
    if isinstance(value, list):
        return [line for inner in value for line in _lines(inner)] or ["none"]
    return [str(value)]
