"""The arena's page: tables and drawings between the marks of docs/arena.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from os.path import relpath
from pathlib import Path
from typing import Any

from experiments.arena.base import COMMAND
from experiments.arena.ledger import ledger_table
from experiments.arena.plots import draw
from experiments.arena.table import accuracy_table, best_of_table, cost_table, pass_table
from experiments.harness.pages import markdown, marks, put, rates_table

CAPTIONS: Mapping[str, str] = {
    "points": "Points to DPO",
    "tokens": "Solved along training, against tokens",
    "pass": "pass@k",
    "preferences": "Held-out preferences in order against problems solved",
    "frontier": "Solved against KL",
}


def write_arena(found: Mapping[str, Any], page: Path | None, plots: Path | None) -> None:
    """Draw into `plots` and put the tables between the marks of `page`, each where it is asked for."""
    drawn = draw(found, plots) if plots else []
    if page is None:
        return
    task = found["protocol"].ground.task
    images = {path.stem: relpath(path, page.parent) for path in drawn}
    put(page, marks(COMMAND, f" ({task})"), text(found, images))


def text(found: Mapping[str, Any], images: Mapping[str, str]) -> str:
    """What stands between the marks."""
    protocol, rows = found["protocol"], found["rows"]
    base = found["base"]["looks"][0]
    head = (
        f"`{found['command']}`, {found['date']}; {found['machine']['processor']}, torch {found['versions']['torch']}, "
        f"one thread a cell. Task {protocol.ground.task}: pairs from {protocol.ground.answered} problems, "
        f"{protocol.steps} steps of {protocol.batch_size}, {protocol.test} test problems, {found['seeds']} seeds; "
        f"pass@k and KL from {protocol.samples} and {protocol.kl_samples} answers to {protocol.sampled} of them. "
        f"The base works out {base['worked']:.0%} of its greedy answers."
    )
    parts = [head, markdown(accuracy_table(rows)), _image("points", images)]
    parts += ["**Tokens** (means over seeds, thousands):", markdown(cost_table(rows)), _image("tokens", images)]
    parts += ["**pass@k**, temperature 1, unbiased:", markdown(pass_table(rows)), _image("pass", images)]
    parts += ["**Best of N** of the base:", markdown(best_of_table(found["best_of"])), _image("frontier", images)]
    parts += [_image("preferences", images)]
    if found["ledger"]:
        parts += ["**What a step holds and computes** (source 004's order):", markdown(ledger_table(found["ledger"]))]
    tried = {name: {rate: f"{n:g}" for rate, n in each.items()} for name, each in found["tried"].items()}
    rates = {row.name: row.learning_rate for row in rows if row.learning_rate is not None}
    parts += [
        "**How the rate was chosen** (development problems solved, seed and problems of their own):",
        rates_table(f"solved of {protocol.development}", tried, rates),
    ]
    settings = {k: v for k, v in asdict(protocol).items() if k != "ground"}
    parts += [f"Protocol: `{settings}`, ground `{asdict(protocol.ground)}`."]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _image(name: str, images: Mapping[str, str]) -> str:
    return f"![{CAPTIONS[name]}]({images[name]})" if name in images else ""
