"""Checkpoints that are complete or absent: tensors and state of one step, written aside and verified by hashes.

A checkpoint is a folder `step-N` with one safetensors file per set of tensors (of several processes: one of each, with
its parts), `state.json`, and `manifest.json`, which holds size and sha256 of the others. It is written in a sibling
folder, synced to disk and renamed into place.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from twofold import manifest
from twofold.disk import PRIVATE_FILE, make_folder, make_private, sync
from twofold.errors import CheckpointError
from twofold.training.tensor_files import SUFFIX, Like, Part, files_of, own_parts, read, write
from twofold.world import World

ALONE = World()

FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.json"
SLACK = 1 << 16  # bytes for the manifest and what a file system takes for itself
HEADER = 512  # bytes that safetensors takes to describe a tensor, at most

_STEP = re.compile(r"step-(\d+)(\.replaced)?")
_NAME = re.compile(r"\w[\w.-]*")
_ASIDE = ".unfinished-"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. `skipped` has the reason why each newer one was passed over: folder name → reason."""

    path: Path
    step: int
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def open(cls, path: Path | str, among: World = ALONE) -> Checkpoint:
        """The checkpoint in `path`, every file verified; raises CheckpointError where one is damaged or missing. Of the
        processes `among` which this is one, each looks at some of the files."""
        path = Path(path)
        if fault := next(filter(None, among.gather(_fault(path, share=among))), ""):
            raise CheckpointError(fault, where=str(path), remedy="resume from another checkpoint")
        return cls(path, _step(path))

    def tensors(self, name: str, like: Like = lambda _: None) -> dict[str, Tensor]:
        """The tensors saved under `name`, on the CPU; of one that is `like` what is in parts, this process's part."""
        files = files_of(self.path, name)
        if not files:
            known = ", ".join(sorted({f.name.split(".")[0] for f in self.path.glob(f"*{SUFFIX}")})) or "none"
            raise CheckpointError(f"no tensors called {name!r}", where=str(self.path), remedy=f"there are: {known}")
        try:
            return read(files, like)
        except (OSError, SafetensorError, ValueError) as error:
            remedy = "resume from another checkpoint"
            raise CheckpointError(f"cannot be read: {error}", where=str(files[0]), remedy=remedy) from error

    @property
    def state(self) -> dict[str, Any]:
        """What was saved as `state`, as JSON gives it back: tuples are lists, keys are strings."""
        return json.loads((self.path / STATE).read_text(encoding="utf-8"))


def save(
    folder: Path | str,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int | None,
    protect: Collection[int] = (),
) -> Path:
    """Write `step-<step>` into `folder`, then prune to the `keep` newest (None: all) and those that `protect` names.

    A checkpoint of the same step is replaced. Tensors of one set must not share memory. Raises CheckpointError where
    the disk is full or fails; earlier checkpoints are then unchanged.
    """
    if keep is not None and keep < 1:
        raise ValueError("keep must be ≥ 1, or None to keep all")
    if bad := [name for name in tensors if not _NAME.fullmatch(name)]:
        raise ValueError(f"not a file name: {bad[0]!r}")
    parts = {name: own_parts(some, ALONE) for name, some in tensors.items()}
    return write_parts(Path(folder), Saved(step, parts, state, keep, protect), ALONE)


@dataclass(frozen=True)
class Saved:
    """What one process writes to the checkpoint of `step`, by set and tensor. `state` is the same on all."""

    step: int
    parts: Mapping[str, Mapping[str, Part]]
    state: Mapping[str, Any]
    keep: int | None
    protect: Collection[int] = ()


def write_parts(folder: Path, saved: Saved, among: World) -> Path:
    """Like `save`, for the parts of each process `among` others. One message is raised if any of them fails."""
    text = json.dumps(saved.state, ensure_ascii=False, indent=1)
    path = folder / f"step-{saved.step}"
    needed = sum(among.gather(_bytes(saved.parts))) + len(text.encode()) + SLACK
    # A process that outlives the others of its run must not write into the folder of the next one.
    aside = _aside(path)
    if among.size > 1:
        aside = aside.with_name(f"{aside.name}.{among.gather(uuid.uuid4().hex[:8])[0]}")
    files: dict[str, Any] = {}
    try:
        with among.agreed(), _disk(folder, saved.step):
            if among.first:
                make_folder(folder)
                _tidy(folder)
                _refuse_full_disk(folder, needed)
                make_folder(aside)
        with among.agreed(), _disk(folder, saved.step):
            files = _write(aside, saved.parts, among)
        listed = {name: entry for each in among.gather(files) for name, entry in each.items()}
        with among.agreed(), _disk(folder, saved.step):
            if among.first:
                _complete(aside, saved.step, text, listed)
                _put(aside, path)
                _prune(folder, saved.step, saved.keep, saved.protect)
    except CheckpointError:
        if among.first:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return path


@contextmanager
def _disk(folder: Path, step: int) -> Iterator[None]:
    """Turn the errors of a full or failing disk into CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"step {step} cannot be saved: {error}",
            where=str(folder),
            remedy="earlier checkpoints are intact; free or repair the disk, then resume",
        ) from error


def newest(folder: Path | str, among: World = ALONE) -> Checkpoint | None:
    """The newest checkpoint in `folder` whose every file is as it was written; None where there is none at all. Of the
    processes `among` which this is one, all must ask.

    Raises CheckpointError where there are checkpoints and all are damaged, or `folder` is a link to them.
    """
    skipped: dict[str, str] = {}
    if Path(folder).is_symlink() and _candidates(Path(folder)):
        remedy = "move the folder that it points to here, or start over with --no-resume, which does not touch it"
        raise CheckpointError("is a link: twofold does not write through links", where=str(folder), remedy=remedy)
    for path in _candidates(Path(folder)):
        try:
            return replace(Checkpoint.open(path, among), skipped=skipped)
        except CheckpointError as error:
            skipped[path.name] = error.what
    if not skipped:
        return None
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    raise CheckpointError(
        f"no checkpoint is whole ({reasons})", where=str(folder), remedy="remove the folder to start again from step 0"
    )


def set_aside(folder: Path | str, step: int) -> None:
    """Rename the checkpoint of `step`, so that an earlier one is resumed."""
    path = Path(folder) / f"step-{step}"
    aside = path.with_name(f"{path.name}.set-aside")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def newest_state(folder: Path | str) -> tuple[Path, dict[str, Any]] | None:
    """The folder and the state of the newest checkpoint whose state is unchanged. Reads no tensors."""
    for path in _candidates(Path(folder)):
        if not _fault(path, only=STATE):
            return path, Checkpoint(path, _step(path)).state
    return None


def _candidates(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first; one that was being replaced comes after what replaced it."""
    paths = [p for p in folder.iterdir() if p.is_dir() and _STEP.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(paths, key=lambda p: (-_step(p), len(p.name)))


def _step(path: Path) -> int:
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else -1


def _fault(path: Path, only: str | None = None, share: World = ALONE) -> str:
    """What is wrong with the checkpoint in `path`, or with `only` one file of it, or with the `share` of files that
    this process checks. An empty string if nothing is."""
    try:
        text = (path / MANIFEST).read_bytes()
        listed = json.loads(text)
        if text != _encoded(listed):
            return f"{MANIFEST} is damaged"
        if listed["format"] != FORMAT:
            return f"format {listed['format']}; this version reads format {FORMAT}"
        if listed["step"] != _step(path):
            return f"{MANIFEST} belongs to step {listed['step']}"
        if STATE not in listed["files"]:
            return f"{MANIFEST} is damaged"
        for name, expected in [*listed["files"].items()][share.rank :: share.size]:
            if only in (None, name) and (fault := manifest.fault(path / name, expected)):
                return f"{name} {fault}"
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"cannot be read: {error}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    return ""


def _write(aside: Path, parts: Mapping[str, Mapping[str, Part]], among: World) -> dict[str, Any]:
    """Write this process's files and return their entries of the manifest."""
    files: dict[str, Any] = {}
    for name, some in parts.items():
        path = write(aside, name, some, among)
        path.chmod(PRIVATE_FILE)
        files[path.name] = manifest.entry(path)
        sync(path)
    return files


def _complete(aside: Path, step: int, state: str, files: Mapping[str, Any]) -> None:
    (aside / STATE).write_text(state, encoding="utf-8")
    listed = {**files, STATE: manifest.entry(aside / STATE)}
    ordered = {name: listed[name] for name in sorted(listed)}
    (aside / MANIFEST).write_bytes(_encoded({"format": FORMAT, "step": step, "files": ordered}))
    make_private(aside)
    for path in (aside / STATE, aside / MANIFEST, aside):
        sync(path)


def _encoded(listed: Any) -> bytes:
    return (json.dumps(listed, indent=1) + "\n").encode()


def _aside(path: Path) -> Path:
    return path.with_name(_ASIDE + path.name)


def _put(aside: Path, path: Path) -> None:
    """Rename `aside` to `path`. A folder cannot replace a nonempty one, so the old one is renamed first."""
    replaced = path.with_name(f"{path.name}.replaced")
    if path.exists():
        path.rename(replaced)
    aside.rename(path)
    sync(path.parent)
    _discard([replaced] if replaced.exists() else [])


def _prune(folder: Path, step: int, keep: int | None, protect: Collection[int]) -> None:
    """Discard all but the `keep` newest up to `step`. Later steps are from an abandoned run and are removed first."""
    if keep is None:
        return
    order = sorted(_candidates(folder), key=lambda p: (_step(p) > step, -_step(p)))
    _discard([p for p in order[keep:] if _step(p) not in protect])


def _tidy(folder: Path) -> None:
    """Finish what a killed save left: its own folder goes, a checkpoint that stepped back returns."""
    _discard([p for p in folder.iterdir() if p.name.startswith(_ASIDE)])
    for replaced in folder.glob("step-*.replaced"):
        path = replaced.with_name(replaced.name.removesuffix(".replaced"))
        if path.exists():
            _discard([replaced])
        else:
            replaced.rename(path)


def _discard(paths: Sequence[Path]) -> None:
    """Remove folders; they lose their names first, so that a half removed one is never taken for a checkpoint."""
    for path in paths:
        if not path.name.startswith(_ASIDE):
            path = path.rename(_aside(path))
        shutil.rmtree(path)


def _bytes(parts: Mapping[str, Mapping[str, Part]]) -> int:
    values = [part.value for some in parts.values() for part in some.values()]
    return sum(value.numel() * value.element_size() + HEADER for value in values)


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"a checkpoint needs {needed:,} bytes and {free:,} are free",
            where=str(folder),
            remedy="free disk space, keep fewer checkpoints, or choose another folder",
        )
