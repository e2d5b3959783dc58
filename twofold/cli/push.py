"""`twofold push`: publish a model on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from twofold.cli.terminal import errors, results, table


def push(
    source: Annotated[Path, typer.Argument(help="A run directory, or a model folder.", show_default=False)],
    repository: Annotated[str, typer.Argument(help="Its name on the hub: OWNER/NAME.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    merged: Annotated[bool, typer.Option("--merged", help="Merge the adapter into its base model first.")] = False,
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Publish this data file as well, under data/.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and stop.")] = False,
) -> None:
    """Publish a model or an adapter with its card and results: one commit, no file with a secret."""
    from twofold.models.locate import model_folder
    from twofold.runs import publish

    publish.refuse_odd_name(repository)
    uploads = publish.plan(source, pairs or [])
    with TemporaryDirectory() as scratch:
        if merged and publish.kind(source) == "adapter":
            from twofold.models.export import export_model  # imports torch

            folder = Path(scratch) / "model"
            export_model(model_folder(source), folder)
            others = [upload for upload in uploads if upload.path.parent != model_folder(source)]
            uploads = publish.plan(folder) + others
        files = table("file", "#size")
        for upload in uploads:
            files.add_row(upload.name, f"{upload.size:,}")
        results().print(files)
        if dry_run:
            errors().print(f"dry run: {len(uploads)} files would go to {repository}")
            return
        results().print(publish.push(uploads, repository, private=private))
