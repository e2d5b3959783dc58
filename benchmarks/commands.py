"""What commands share: options, reference data, and the circumstances of a measurement."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import machine, print_facts, versions


def command_line(
    module: str, doc: str | None, out: Path | None = None, *, page: str = "", quick: str = ""
) -> argparse.ArgumentParser:
    """Options that commands share; those that have no default or help here are not offered."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    if out is not None:
        parser.add_argument("--out", type=Path, default=out, help="folder of what is done already")
    if page:
        parser.add_argument("--page", type=page_file, help=f"a page between whose marks to write, as {page}")
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def page_file(path: str) -> Path:
    """The argument of `--page`: a page that is there, or it would be missed only after hours."""
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{path} is not there: name a page that has the marks to write between")
    return Path(path)


def circumstances(module: str) -> dict[str, Any]:
    """Machine, versions, date and the command that repeats a page's figures; the first two are printed."""
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    for title, values in facts.items():
        print_facts(title, values)
    return {**facts, "date": datetime.date.today().isoformat(), "command": command(module, sys.argv[1:])}


def command(module: str, arguments: Sequence[str]) -> str:
    """Places outside the project go by the name of their last part."""
    shown = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    return " ".join(["python -m", module.removeprefix("python -m "), *shown])


def shared_data(name: str) -> Path:
    """A folder or file of the reference data: under TWOFOLD_SHARED, or in ../shared beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("TWOFOLD_SHARED") or beside) / "data" / name
