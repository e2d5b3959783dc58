"""Samples of a model behind a server, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twofold.errors import ServerError
from twofold.judges.registry import ledger_path
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import Prompt, prompt_fields
from twofold.sampling.answers import Draw, open_answerer


def served_samples(
    server: str, prompts: Sequence[Prompt], draw: Draw, out: Path | None, progress: Progress
) -> list[dict[str, Any]]:
    """A row for each sample of `https://host/v1#name`. Tokens and log-probabilities are the server's own and left out.

    Requests and replies are recorded next to `out`, so that none is sent twice. Raises `ServerError` if an answer is
    missing.
    """
    with ExitStack() as resources:
        folder = Path(resources.enter_context(TemporaryDirectory()))
        ledger = resources.enter_context(Ledger(ledger_path(out or folder / "samples.jsonl")))
        answered = open_answerer(server, resources).answers(prompts, draw, ledger, progress)
    if missing := answered.count(None):
        what = f"{missing} of {len(prompts)} prompts have no answer"
        raise ServerError(what, where=server, remedy="check that the server runs and serves this name; then repeat")
    return [
        {**prompt_fields(prompt), "completion": one.text, "sample": index, "truncated": one.truncated}
        for prompt, several in zip(prompts, answered, strict=True)
        for index, one in enumerate(several or ())
    ]
