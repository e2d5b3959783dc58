"""The folder of a run: created first, checked before the run, and locked while it is written."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError

from twofold import disk
from twofold.algorithms.gae import VALUE_MODEL
from twofold.config.first_look import leaves_of
from twofold.config.load import plain
from twofold.config.schema import Recipe
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
_INPUTS = frozenset({"path", "adapter", "file", "train", "prompts", "judge_pairs"})
"""Words in the names of settings that name what a run reads."""
_VISIBLE, _GLANCE = 30.0, 0.2  # seconds
RUST = "(os error "
"""Marks a disk error in `tokenizers`, which raises plain exceptions."""
_TO_LEAVE = 60.0
"""Seconds for processes whose launcher was killed to save and end."""
_OTHER = "wait until it ends or end it, or name another run folder"
_AGAIN = "free or repair the disk, then give the same command again: the run resumes from its last checkpoint"


@contextmanager
def open_run_folder(
    path: str, recipe_text: str | None = None, inputs: Mapping[str, str] = MappingProxyType({})
) -> Generator[Path]:
    """The folder, created and locked. Raises RecipeError where it cannot be created or written to, where it has
    something with the name of a file of the run that no run wrote, or where the run would replace one of its `inputs`
    (paths by setting). Raises BusyError where another process writes there. A folder that was created here and stays
    empty is removed. The first process of a run does all this for the others."""
    folder = Path(path)
    _refuse_own_outputs(folder, inputs)
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
        _refuse_strangers(folder, recipe_text)
        _refuse_unseen(folder)
        yield folder


@contextmanager
def disk_errors(folder: Path) -> Generator[None]:
    """Turn the errors of a full or failing disk into CheckpointError."""
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


def inputs_of(recipe: Recipe, *, model: bool = True) -> dict[str, str]:
    """The paths that a run reads, by setting; without those of a `model` that is in memory."""
    leaves = {".".join(map(str, key)): (key, value) for key, value in leaves_of(plain(recipe))}
    names = {name: str(value) for name, (key, value) in leaves.items() if value and _INPUTS.intersection(map(str, key))}
    return {name: value for name, value in names.items() if model or not name.startswith("model.")}


def _refuse_own_outputs(folder: Path, inputs: Mapping[str, str]) -> None:
    outputs = {disk.real(folder) / name for name in (*FOLDERS, *FILES)}  # links there are not followed
    for name, value in inputs.items():
        path = disk.real(Path(value))
        whole = path == disk.real(folder) and name.startswith("model.")  # a run's folder as a model is its `model`
        if whole or outputs.intersection((path, *path.parents)):
            what = f"{name}={value} is an output of this run, which would replace it"
            raise RecipeError(what, where=f"run: {folder}", remedy="name another run folder")


def _refuse_strangers(folder: Path, recipe_text: str | None) -> None:
    """Raise RecipeError, before the run starts, for files that it could not or should not replace."""
    for path in (folder / name for name in (*FOLDERS, *FILES)):
        link = path.is_symlink() and path.name == CHECKPOINTS  # other links are replaced; no link is followed
        file = path.name in FOLDERS and path.exists() and not path.is_dir()
        if link or file or (path.name in FILES and path.is_dir()):
            kind = "a link" if link else "a file" if file else "a folder"
            remedy = "move it away, or name another run folder"
            raise RecipeError(f"is {kind} with the name of an output of the run", where=str(path), remedy=remedy)
    if not any((folder / name).exists() for name in ("resolved.yaml", CHECKPOINTS, FIT)):  # what a run writes first
        _refuse_files_of_others(folder, recipe_text)


def _refuse_files_of_others(folder: Path, recipe_text: str | None) -> None:
    for path in (folder / name for name in (*FOLDERS, *FILES)):
        full = any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
        mine = path.name == "recipe.yaml" and full and path.read_bytes() == (recipe_text or "").encode()
        if path.is_symlink() or mine or not full:
            continue
        what = "has the name of an output of the run, but no run wrote it"
        raise RecipeError(what, where=str(path), remedy="name another run folder, or move it away")


def _refuse_unseen(folder: Path) -> None:
    """Raise RecipeError, on every process, if one of them does not see the folder that the first one writes to."""
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
    """Whether the file has this text now, or within the delay of a network file system."""
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
