"""`twofold data label`: a page on this machine where a person chooses the better of two answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli.terminal import errors, results
from twofold.progress import counted


def label(
    file: Annotated[str, typer.Argument(help="Rows with two answers or more, in any shape.")],
    out: Annotated[Path, typer.Option(help="File for the pairs. The verdicts are stored next to it.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 uses a free port.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which answer is on the left.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    serve: Annotated[bool, typer.Option(help="Serve the page, or only write the pairs of the verdicts so far.")] = True,
) -> None:
    """Judge answers side by side with ← → t s u. Each verdict is on disk at once; the pairs are written at the end."""
    from twofold.config.first_look import refuse_rows
    from twofold.datagen.label import Labelling, LabelServer
    from twofold.judges.questions import read_questions
    from twofold.signals import Stop

    refuse_rows(out, inputs=[file])
    questions = read_questions(file, limit=limit).questions
    with Labelling.open(questions, out, seed=seed) as labelling:
        if serve:
            with LabelServer(labelling, port) as server, Stop() as stop:
                state = labelling.progress()
                errors().print(f"{state['done']} of {counted(state['total'], 'comparison')} judged; Ctrl-C ends")
                errors().print(server.address, soft_wrap=True)
                server.run(stop)
        written = labelling.write()
        state = labelling.progress()
    told = f"{out}: {counted(written, 'pair')}; {state['done']} of {state['total']} judged"
    results().print(told, soft_wrap=True)
