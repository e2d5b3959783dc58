"""`twofold board`: all runs below a folder on a live page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twofold.cli.terminal import errors, results, table
from twofold.errors import DataError, RecipeError

if TYPE_CHECKING:
    from twofold.reports.board import Board

LOOPBACK = "127.0.0.1"  # not from where it is served: http.server makes --help slow


def board(
    runs: Annotated[Path, typer.Argument(help="The folder whose runs are shown, at any depth.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    host: Annotated[
        str, typer.Option(help="The address to serve on. Others than this machine's need --remote.")
    ] = LOOPBACK,
    remote: Annotated[
        bool,
        typer.Option("--remote", help="Serve other machines: every reader of the address sees prompts and answers."),
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between looks.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="List the runs and leave; for scripts.")] = False,
) -> None:
    """Show all runs of a folder on a live page in the browser: curves, samples, comparisons. It only reads."""
    from twofold.reports.board import Board
    from twofold.reports.board_server import BoardServer
    from twofold.signals import Stop

    if not runs.is_dir():
        raise DataError("no such folder", where=str(runs), remedy="name the folder that holds runs")
    shown = Board(runs, every)
    if once:
        _list(shown)
        return
    if not (remote or _is_loopback(host)):
        remedy = f"use {LOOPBACK} and an SSH tunnel, or allow every reader with --remote"
        raise RecipeError("is not an address of this machine only", where=f"--host {host}", remedy=remedy)
    with BoardServer(shown, port, host, remote=remote) as server, Stop() as stop:
        errors().print(f"{len(shown.runs())} runs in {runs}; Ctrl-C ends", soft_wrap=True)
        errors().print(server.address, soft_wrap=True)
        server.run(stop)


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _list(shown: Board) -> None:
    grid = table("run", "state", "#step")
    for name, snapshot in shown.look():
        words = (snapshot.state, str(snapshot.step)) if snapshot else ("cannot be read", "–")
        grid.add_row(name, *words)
    results().print(grid)
