"""The command line: one action at a time, each of which goes on where it stopped."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.commands import command_line
from benchmarks.reporting import write_json
from experiments import pretrained
from experiments.harness.pages import markdown, percent
from experiments.pretrained import ledger
from experiments.pretrained.cells import Bench, Cell, players
from experiments.pretrained.gsm8k import ShortProblems
from experiments.pretrained.harmless import Harmless
from experiments.pretrained.instructions import Instructions
from experiments.pretrained.methods import ALL, INTERVENTIONS, METHODS
from experiments.pretrained.plan import plan_table
from experiments.pretrained.protocol import DEVELOPMENT_SEED, FINALIST_SEEDS, SCREENING_SEED, Protocol
from experiments.pretrained.sentiment import SentimentTask
from experiments.pretrained.table import (
    ORDERED,
    Cells,
    by_method,
    comparison_table,
    comparisons,
    cost_table,
    generator_table,
    mean,
    paired,
    parts_of,
    policy_table,
    values_table,
)
from experiments.pretrained.tasks import PAIRS, Task
from experiments.pretrained.tuning import point_of, write_tune
from twofold.cli.progress import RichProgress
from twofold.demo.real_model import located
from twofold.errors import DataError, TwofoldError

MODULE, OUT = "experiments.pretrained", Path("experiments/pretrained/recorded")
TASKS: Mapping[str, Task] = {task.name: task for task in (Instructions(), SentimentTask(), Harmless(), ShortProblems())}
ACTIONS = ("prepare", "room", "run", "tune", "table", "why", "plan", "figure", "frontier")
CHANGED = "PDPO"
"""The method that every intervention changes one part of."""


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and do one action."""
    parser = command_line(MODULE, pretrained.__doc__, OUT)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--task", choices=[*TASKS], default="instructions")
    parser.add_argument("--model", help="folder of the base; by default that of `make real`")
    which = f"by default all: {'; '.join(METHODS)}; interventions: {'; '.join(INTERVENTIONS)}"
    parser.add_argument("--method", action="append", default=[], help=which)
    parser.add_argument("--seed", type=int, action="append", default=[], help="by default that of the screening")
    parser.add_argument("--split", choices=["development", "test"], default="test", help="of `run` and `room`")
    which = "KEY=NUMBER; `run`, and tables for named methods: instead of the tuned point; `tune`: one more value to try"
    parser.add_argument("--point", type=_setting, action="append", default=[], help=which)
    options = parser.parse_args(words)
    names = options.method or [*METHODS]
    known = {*ALL, *players(Protocol())} if options.action == "run" else ALL
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such method: {', '.join(unknown)}; there are {'; '.join(ALL)}")
    torch.set_num_threads(1)
    try:
        with RichProgress() as progress:
            bench = Bench(options.out, TASKS[options.task], located(options.model), Protocol(), progress)
            text = _done(options.action, bench, names, options)
    except TwofoldError as error:
        raise SystemExit(str(error)) from None
    print(text)
    if options.json:
        found = shown(bench, options)
        write_json(options.json, {"protocol": bench.protocol.as_dict(), "task": options.task, "cells": found})


def _setting(text: str) -> tuple[str, float]:
    """A setting of a point."""
    key, _, value = text.partition("=")
    try:
        return key, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=NUMBER") from None


def _done(action: str, bench: Bench, names: Sequence[str], options: Any) -> str:
    """What the action has to show."""
    seeds, split = options.seed or [SCREENING_SEED], options.split
    facts, rows = bench.here / "facts.json", bench.here / PAIRS
    if action == "prepare":
        if not facts.is_file() or not rows.is_file():  # other rows would be another comparison
            bench.here.mkdir(parents=True, exist_ok=True)
            made = bench.task.prepare(bench.here, bench.base, bench.progress)
            facts.write_text(json.dumps(made) + "\n", encoding="utf-8")
        judge = getattr(bench.task, "reward_model", None)
        if judge is not None:  # which is not in the repository; one that is here stays
            judge.train(bench.here, bench.base, bench.progress)
        return f"{bench.here}: {facts.read_text(encoding='utf-8').strip()}"
    if not facts.is_file() or (action in ("run", "room", "tune") and not rows.is_file()):
        remedy = f"python -m {MODULE} prepare --task {bench.task.name}"
        raise DataError(f"no data of task {bench.task.name}", where=str(bench.out), remedy=remedy)
    if action == "tune":
        return f"twofold tune {write_tune(bench, names, dict(options.point))}"
    if action in ("run", "room"):
        every, point = names if action == "run" else players(bench.protocol), dict(options.point)
        cells = (Cell(name, point or point_of(bench, name), s, split) for name in every for s in seeds)
        return "\n".join(_played(bench, cell) for cell in cells)
    cells = shown(bench, options)
    if action == "plan":
        return markdown(plan_table(cells))
    if action in ("figure", "frontier"):
        from experiments.pretrained import figure  # imports matplotlib

        if action == "figure":
            drawn = figure.draw(cells, bench.here / f"{split}.svg")
            tables = [figure.looks_table(cells), figure.gains_table(cells)]
            return "\n".join([str(drawn), *(markdown(table) for table in tables if table)])
        path = bench.here / f"frontier-{split}.svg"
        found = ledger.finished(bench.ledger, bench.protocol)
        drawn = figure.draw_frontier(found, bench.task.name, split, path)
        dots = {part: figure.dots_of(found, bench.task.name, split, part) for part in parts_of(cells)}
        tables = [f"{part}\n{markdown(table)}" for part, some in dots.items() if (table := figure.distances(some))]
        return "\n".join([str(drawn), *tables])
    if action == "why":
        return _why(cells)
    tested = [comparisons(cells, part) for part in parts_of(cells)] + [comparisons(paired(cells), ORDERED)]
    tests = [comparison_table(each) for each in tested if each]
    return "\n".join(map(markdown, [values_table(cells), *tests, cost_table(cells)]))


def shown(bench: Bench, options: Any) -> Cells:
    """What has run, each method at its own point. One that is named replaces that of the methods that are named, or of
    all methods."""
    points = {name: dict(options.point) for name in options.method or ALL} if options.point else {}
    found = ledger.finished(bench.ledger, bench.protocol)
    own = {name: point_of(bench, name) for name in ALL}
    return by_method(found, bench.task.name, options.split, points, own)


def _why(cells: Cells) -> str:
    """PDPO's interventions and forms against PDPO. Of all runs what the generator did, and what the policy became."""
    forms = [name for name, method in METHODS.items() if method.reads == "rest"]
    changed = {name: runs for name, runs in cells.items() if name in (CHANGED, *INTERVENTIONS, *forms)}
    seeds = (SCREENING_SEED, *FINALIST_SEEDS, DEVELOPMENT_SEED)
    tests = [comparisons(changed, part, seeds, baselines=(CHANGED,)) for part in parts_of(changed)]
    tables = [
        values_table(changed),
        *(comparison_table(each) for each in tests if each),
        generator_table(cells),
        policy_table(cells),
    ]
    return "\n".join(map(markdown, tables))


def _played(bench: Bench, cell: Cell) -> str:
    """A line for a finished cell."""
    reply = bench.result(cell)
    figures = [f"{part} {percent(mean({cell.seed: reply}, part))}" for part in dict.fromkeys(reply["parts"])]
    cost = f"{reply.get('train_cpu', 0.0) + reply['measure_cpu']:.0f} CPU s, {fmean(reply['words']):.0f} words"
    return f"{cell.method}, seed {cell.seed}, {cell.split}: {'; '.join(figures)} ({cost})"


if __name__ == "__main__":
    main()
