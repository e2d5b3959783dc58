"""The command `twofold`: one file per verb. What is heavy is imported inside the verbs, so that `--help` is instant."""

from __future__ import annotations

import os

# Read once, when torch loads its OpenMP runtime: spinning threads cost a factor of 20 on shared processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The libraries' own bars and advice would stand between our lines.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from twofold.cli import data, demo, doctor, evaluate, explain, export, report, sample, score, train, watch
from twofold.cli.terminal import errors
from twofold.errors import TwofoldError

INTERRUPTED = 130
MOST_LINES = 10

app = typer.Typer(
    name="twofold",
    help="Align language models with preferences, and show honestly what they gained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(explain.explain)
app.command()(sample.sample)
app.command()(score.score)
app.add_typer(data.app, name="data")
app.command()(report.report)
app.command()(report.compare)
app.command()(watch.watch)
app.command()(export.export)
app.command()(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        import twofold

        typer.echo(f"twofold {twofold.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of every error (also after a verb).")
    ] = False,
) -> None:
    """Align language models with preferences, and show honestly what they gained."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    0 done, 2 a mistake of the user's, 3 non-finite numbers, 4 a server that does not answer, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if not debug:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|datasets)\b")
    try:
        app(args=[a for a in given if a != "--debug"], prog_name="twofold")
    except TwofoldError as error:
        if debug:
            raise
        _tell(error)
        raise SystemExit(error.exit_code) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            errors().print("interrupted")
        raise


def _tell(error: TwofoldError) -> None:
    lines = str(error).splitlines()
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"… {len(lines) - MOST_LINES + 1} more lines: --debug"]
    console = errors()
    console.print("error: ", style="bold red", end="")
    console.print("\n".join(lines), markup=False, soft_wrap=True)
