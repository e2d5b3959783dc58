"""Checks of a verb before it imports torch, which takes seconds: unknown settings, missing files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from twofold import disk
from twofold.config.introspect import entries
from twofold.errors import DataError, ModelError, RecipeError

if TYPE_CHECKING:
    from twofold.config.load import Document

GLOB = frozenset("*?[")
PAGE = b"<!doctype html"
OTHER_ROWS = (".gz", ".zst", ".csv", ".parquet", ".arrow")
"""Names of files that are not read as JSON lines."""


def first_look(*, rows: Sequence[str | None] = (), models: Sequence[str | None] = (), servers: bool = False) -> None:
    """Raise TwofoldError for sources of rows and for models that do not exist here and cannot be hub names.

    Where `servers` may answer, the address of one is a model too.
    """
    from twofold.client.hub import refuse_unknown_model, stay_local_if_cut_off
    from twofold.data.readers import refuse_missing as refuse_missing_rows
    from twofold.models.locate import refuse_missing as refuse_missing_model

    for name in filter(None, rows):
        refuse_missing_rows(name)
        if not Path(name).exists():
            stay_local_if_cut_off()
    for name in filter(None, models):
        if not (servers and "://" in name):
            refuse_missing_model(name)
            if not Path(name).is_dir():
                refuse_unknown_model(name)


def refuse_unwritable(*files: Path | None, inputs: Sequence[str | Path | None] = ()) -> None:
    """Raise DataError or OSError for output files that cannot be written, that are one of `inputs`, or that are named
    twice. Creates their folders."""
    taken = {disk.real(Path(name)): "this command reads" for name in filter(None, inputs)}
    for path in filter(None, files):
        if (real := disk.real(path)) in taken and (path.is_file() or not path.exists()):
            raise DataError(f"would overwrite what {taken[real]}", where=str(path), remedy="name another file")
        taken[real] = "this command writes"
        if path.is_dir():
            raise DataError("is a folder", where=str(path), remedy="name a file")
        disk.make_folder(path.parent)
        with suppress(FileNotFoundError):
            path.lstat()  # a name may be too long
        if not path.exists() or path.is_file():
            TemporaryFile(dir=path.parent).close()


def refuse_pages(*files: Path | None, inputs: Sequence[str | Path | None] = ()) -> None:
    """As `refuse_unwritable`, for pages. A file that is none, such as other rows, is not replaced."""
    refuse_unwritable(*files, inputs=inputs)
    for path in filter(None, files):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if not file.read(len(PAGE)).lower() == PAGE:
                    raise DataError("exists and is no page", where=str(path), remedy="name another file for the page")


def refuse_rows(*files: Path | None, inputs: Sequence[str | Path | None] = ()) -> None:
    """As `refuse_unwritable`, for rows, which are written as JSON lines."""
    for path in filter(None, files):
        if path.name.lower().endswith(OTHER_ROWS):
            raise DataError("rows are written as JSON lines", where=str(path), remedy="end its name in .jsonl")
    refuse_unwritable(*files, inputs=inputs)


def look_at_recipe(document: Document) -> None:
    """Raise RecipeError for settings of a recipe that are not valid, and for files and folders that do not exist."""
    from twofold.config.outline import check

    check("Recipe", document)
    for key, value in leaves_of(document.data):
        is_model = key in (("model", "path"), ("model", "adapter"))
        is_rows = key[-1] == "file" or (key[:2] == ("data", "train") and isinstance((*key, 0)[2], int))
        if not isinstance(value, str) or not (is_model or is_rows) or GLOB & set(value):
            continue
        try:
            first_look(rows=[] if is_model else [value], models=[value] if is_model else [])
        except (DataError, ModelError) as error:
            name = f"{'.'.join(map(str, key))}={error.where}"
            raise RecipeError(f"{name}: {error.what}", where=document.place(key), remedy=error.remedy) from None


def leaves_of(data: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The values in nested mappings and lists, each after its key."""
    if isinstance(data, dict | list):
        for name, value in entries(data).items():
            yield from leaves_of(value, (*key, name))
    else:
        yield key, data
