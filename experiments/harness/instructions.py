"""What experiments on the recorded rows of task `instructions` share: their options, and the base model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from benchmarks.commands import command_line
from twofold.demo.real_model import located
from twofold.errors import TwofoldError
from twofold.models.locate import refuse_missing

DATA = Path("experiments/pretrained/recorded/instructions")


def options_of(module: str, about: str | None, runs: Path) -> ArgumentParser:
    """A command line with a folder for runs, the rows, and the base model."""
    parser = command_line(module, about)
    parser.add_argument("--runs", type=Path, default=runs)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the task's rows")
    parser.add_argument("--model", help="folder of the base; by default that of `make real`")
    return parser


def base_of(parser: ArgumentParser, options: Namespace) -> str:
    """The base model's folder. Ends with exit status 2 if there is none, or no rows."""
    if not (options.data / "pairs.jsonl").is_file():
        parser.error(f"{options.data}: no pairs.jsonl; --data names the folder of the task's rows")
    try:
        base = located(options.model)
        refuse_missing(base)
    except TwofoldError as error:
        parser.error(str(error))
    return base
