"""A signed list of the files of a folder with their sizes and sha256, and the check for files that have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from twofold.disk import read_signed, sha256, write_signed

MANIFEST = "twofold-manifest.json"
DAMAGED = "is damaged"


def entry(path: Path) -> dict[str, Any]:
    """The entry of a file in a manifest."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def fault(path: Path, expected: Mapping[str, Any]) -> str:
    """How the file at `path` differs from `expected`; an empty string if it does not."""
    if not path.is_file():
        return "is missing"
    found = path.stat()
    if found.st_size != expected["size"]:
        return f"has {found.st_size} bytes instead of {expected['size']}"
    if _sha256(path, found.st_ino, found.st_mtime_ns, found.st_ctime_ns) != expected["sha256"]:
        return "does not match its sha256"
    return ""


def write(folder: Path, names: Iterable[str] | None = None, of: Any = None) -> None:
    """List the existing files of `names`, or all of `folder`. `of` names what they were made from."""
    listed = _names(folder) if names is None else [name for name in names if (folder / name).is_file()]
    _put(folder, {name: entry(folder / name) for name in listed}, of)


def record(folder: Path, *names: str) -> None:
    """Put the current state of `names` into the manifest, or create one with only them. A damaged one stays damaged."""
    known = _files(folder)
    if known is not None:
        _put(folder, {**known, **{name: entry(folder / name) for name in names}})


def forget(folder: Path, *names: str) -> None:
    """Remove `names` from the manifest, because they are about to be written again. A damaged one is emptied."""
    known = _files(folder)
    if known is None:
        (folder / MANIFEST).unlink()
    elif known:
        _put(folder, {name: each for name, each in known.items() if name not in names})


def faults(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    """Name → fault of the `wanted` files that have changed since they were written; empty without a manifest."""
    known = _files(folder)
    if known is None:
        return {MANIFEST: DAMAGED}
    found = {name: fault(folder / name, known[name]) for name in known if wanted(name)}
    return {name: what for name, what in found.items() if what}


def made_of(folder: Path) -> Any:
    """What the files of `folder` were made from; None if one is missing or has changed."""
    listed = read_signed(folder / MANIFEST)
    return None if listed is None or faults(folder) else listed.get("of")


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files if path.name != MANIFEST)


def _put(folder: Path, files: Mapping[str, Any], of: Any = None) -> None:
    write_signed(folder / MANIFEST, {"files": files} if of is None else {"files": files, "of": of})


def _files(folder: Path) -> dict[str, Any] | None:
    """The entries of the manifest; None if it is damaged."""
    if not (folder / MANIFEST).exists():
        return {}
    files = (read_signed(folder / MANIFEST) or {}).get("files")
    return files if isinstance(files, dict) else None


@lru_cache(maxsize=4096)
def _sha256(path: Path, inode: int, changed: int, renamed: int) -> str:
    """The sha256 of a file. A file that has not changed since the last call is not read again."""
    return sha256(path)
