"""The folder that a run is written into: made at once, locked for as long as it is written, and looked at before."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from twofold import disk
from twofold.algorithms.gae import VALUE_MODEL
from twofold.errors import CheckpointError, RecipeError, TwofoldError
from twofold.locks import exclusive
from twofold.runs.folder import drop_links
from twofold.runs.reference_fit import FOLDER as FIT
from twofold.training.trainer import CHECKPOINTS
from twofold.world import world

LOCK = ".lock"
FOLDERS = ("model", VALUE_MODEL, CHECKPOINTS, FIT)
FILES = (
    "recipe.yaml", "resolved.yaml", "environment.json", "metrics.jsonl", "samples.jsonl", "warnings.jsonl",
    "timings.jsonl", "results.json", "README.md", "report.html",
)  # fmt: skip
LONG = 100
_VISIBLE, _GLANCE = 30.0, 0.2  # seconds
RUST = "(os error "
"""Of a disk's fault, where `tokenizers` writes: it raises plain exceptions."""
_TO_LEAVE = 60.0
"""Seconds that processes have whose launcher was killed: they still save."""
_OTHER = "wait until it ends or end it, or name another run folder"
_AGAIN = "free or mend the disk, then give the same command again: the run goes on from its last checkpoint"


@contextmanager
def open_run_folder(path: str) -> Generator[Path]:
    """The folder, made and locked. Raises RecipeError where it cannot be made or written to, and where something stands
    in the way of what the run will leave; BusyError where another process writes there. A folder that was made here is
    removed again where nothing came of it. Of the processes of a run the first one does so for all."""
    folder = Path(path)
    if not world().first:
        _refuse_unseen(folder)
        yield folder
        return
    with ExitStack() as stack:
        try:
            missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            disk.make_folder(folder)
            stack.callback(_remove_empty, missing)
            patience = _TO_LEAVE if world().size > 1 else 0.0
            stack.enter_context(
                exclusive(folder / LOCK, "another process is writing this run", _OTHER, patience=patience)
            )
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            where = f"run: {path if len(path) <= LONG else path[:LONG] + '…'}"
            remedy = "name a folder that can be made and written to"
            raise RecipeError(f"the run's folder cannot be written: {words}", where=where, remedy=remedy) from None
        drop_links(folder)
        _refuse_strangers(folder)
        _refuse_unseen(folder)
        yield folder


@contextmanager
def disk_errors(folder: Path) -> Generator[None]:
    """What a disk that is full or fails makes of the writing within, as CheckpointError."""
    try:
        yield
    except TwofoldError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | SafetensorError) and RUST not in str(error):
            raise
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = getattr(error, "filename", None) or folder
        raise CheckpointError(f"cannot be written: {words}", where=str(where), remedy=_AGAIN) from error


def _refuse_strangers(folder: Path) -> None:
    """Raise RecipeError before hours of work for what the run could not replace or should not."""
    for path in (folder / name for name in (*FOLDERS, *FILES)):
        link = path.is_symlink() and path.name == CHECKPOINTS  # other links are replaced, and none is followed
        file = path.name in FOLDERS and path.exists() and not path.is_dir()
        if link or file or (path.name in FILES and path.is_dir()):
            kind = "a link" if link else "a file" if file else "a folder"
            remedy = "move it away, or name another run folder"
            raise RecipeError(f"is {kind}, and stands where the run will write its own", where=str(path), remedy=remedy)


def _refuse_unseen(folder: Path) -> None:
    """Raise RecipeError, on every process, where one of them does not see the folder in which the first one writes."""
    here = world()
    if here.size == 1:
        return
    lock = folder / LOCK
    mark = here.gather(lock.read_text("utf-8") if here.first else "")[0]
    with here.agreed():
        if not _comes(lock, mark):
            what = f"process {here.rank}, on {socket.gethostname()}, does not see the folder in which process 0 writes"
            remedy = "name a folder that all hosts share: of a network file system, at the same path on each"
            raise RecipeError(what, where=f"run: {folder}", remedy=remedy)


def _comes(file: Path, text: str) -> bool:
    """Whether this is what the file says, or does within the time that a network file system takes."""
    until = time.monotonic() + _VISIBLE
    while True:
        with suppress(OSError):
            if file.read_text("utf-8") == text:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(_GLANCE)


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):  # not empty: that one and its parents stay
        for folder in folders:
            folder.rmdir()
