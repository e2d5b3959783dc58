"""The command `twofold`: one file per verb. The verbs import large packages when they run, so `--help` is fast."""

from __future__ import annotations

import logging
import os

# Read once, when torch loads its OpenMP runtime: spinning threads cost a factor of 20 on shared processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # no progress bars and advice between results
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of hosts without a name

import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from typing import Annotated, Any

import typer

from twofold.cli.launch import launched_already, leave_word
from twofold.cli.terminal import errors
from twofold.cli.verb_command import VerbCommand
from twofold.cli.verbs import panel_of
from twofold.errors import LostProcessError, RecipeError, TwofoldError
from twofold.hosts import LAUNCHER

INTERRUPTED = 130
MOST_LINES, MOST_CHARACTERS = 10, 1000

VERBS = {
    "demo": "demo:demo",
    "train": "train:train",
    "tune": "tune:tune",
    "evaluate": "evaluate:evaluate",
    "explain": "explain:explain",
    "sample": "sample:sample",
    "score": "score:score",
    "power": "power:power",
    "data check": "data:check",
    "data show": "data_show:show",
    "data report": "data_report:report",
    "data build": "build:build",
    "data label": "label:label",
    "data merge": "merge:merge",
    "report": "report:report",
    "compare": "report:compare",
    "watch": "watch:watch",
    "board": "board:board",
    "export": "export:export",
    "import": "import_config:import_config",
    "push": "push:push",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}
"""Every verb and its function: a module of this package, and a name in it."""

GROUPS = {"data": "Make data, and look at it before it is trained on."}
"""Groups of verbs, by their first word."""


def _app(verbs: Mapping[str, str]) -> typer.Typer:
    """The command with its verbs, in their order."""
    app = typer.Typer(
        name="twofold",
        help="Align language models with preferences, and show honestly what they gained.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in GROUPS.items()}
    for name, group in groups.items():
        panel, line = panel_of(name)
        app.add_typer(group, name=name, rich_help_panel=panel, short_help=line)
    for name, home in verbs.items():
        group, _, word = name.rpartition(" ")
        module, _, function = home.partition(":")
        verb = getattr(import_module(f"twofold.cli.{module}"), function)
        if not verb.__doc__:
            raise ValueError(f"{name} has no docstring, which is its help")
        panel, line = panel_of(name, verb.__doc__)
        own: dict[str, Any] = {"short_help": line} if group else {"short_help": line, "rich_help_panel": panel}
        (groups[group] if group else app).command(word, cls=VerbCommand, **own)(verb)
    return app


app = _app(VERBS)


def _version(wanted: bool) -> None:
    if wanted:
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

    Exit codes: 0 success, 1 a fault of twofold, 2 a mistake of the user or a fault of the machine, 3 numbers that are
    not finite, 4 a server does not answer, 5 another process or host was lost, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if not debug:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|datasets)\b")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of optional kernels
    try:
        _run([a for a in given if a != "--debug"])
    except Exception as error:
        if debug:
            raise
        raise SystemExit(_end(error)) from None
    except SystemExit as end:
        if end.code == INTERRUPTED and not launched_already(os.environ):  # otherwise the launcher prints it once
            errors().print("interrupted")
        raise


def _run(arguments: Sequence[str]) -> None:
    if wrong := next((a for a in arguments if a != a.encode("utf-8", "ignore").decode("utf-8")), None):
        raise RecipeError("is not UTF-8", where=ascii(wrong), remedy="write prompts and names of files in UTF-8")
    try:
        app(args=arguments, prog_name="twofold")
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            sys.stdout = None  # otherwise Python would flush it again at the end, and fail
            raise


def _end(error: Exception) -> int:
    """Print the error of a verb and return the exit code."""
    if isinstance(error, TwofoldError):
        told, code = error, error.exit_code
    else:
        from twofold.border import outcome

        told, code = outcome(error)
    if isinstance(told, LostProcessError) and LAUNCHER in os.environ and launched_already(os.environ):
        leave_word(told)
        return code
    with suppress(OSError), _one_of_all() as mine:  # OSError: where standard error is full, too
        if mine:
            _tell(told)
    return code


def _one_of_all() -> AbstractContextManager[bool]:
    """Whether this process reports the error. Of several that torchrun started, it is the first to fail."""
    if not launched_already(os.environ):
        return nullcontext(True)
    from twofold.hosts import one_speaks  # imports torch

    return one_speaks()


def _tell(error: TwofoldError) -> None:
    lines = [line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}…" for line in str(error).splitlines()]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"… {len(lines) - MOST_LINES + 1} more lines: --debug"]
    console = errors()
    console.print("error: ", style="bold red", end="")
    console.print("\n".join(lines), soft_wrap=True)
