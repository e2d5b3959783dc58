"""The files of a folder as they were written: a signed list of their sizes and sha256, and what is no longer so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from twofold.disk import read_signed, sha256, write_signed

MANIFEST = "twofold-manifest.json"
DAMAGED = "is damaged"


def entry(path: Path) -> dict[str, Any]:
    """What a manifest holds of a file."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def fault(path: Path, expected: Mapping[str, Any]) -> str:
    """What sets the file at `path` apart from `expected`; nothing is an empty string."""
    if not path.is_file():
        return "is missing"
    found = path.stat()
    if found.st_size != expected["size"]:
        return f"has {found.st_size} bytes instead of {expected['size']}"
    if _sha256(path, found.st_ino, found.st_mtime_ns, found.st_ctime_ns) != expected["sha256"]:
        return "does not match its sha256"
    return ""


def write(folder: Path, names: Iterable[str] | None = None, of: Any = None) -> None:
    """List the files called `names` that are there, or all of `folder`; `of` says what they were made from."""
    listed = _names(folder) if names is None else [name for name in names if (folder / name).is_file()]
    _put(folder, {name: entry(folder / name) for name in listed}, of)


def record(folder: Path, *names: str) -> None:
    """Put what `names` are now into the manifest, or make one of them alone. A damaged one stays damaged."""
    known = _files(folder)
    if known is not None:
        _put(folder, {**known, **{name: entry(folder / name) for name in names}})


def forget(folder: Path, *names: str) -> None:
    """Take `names` out of the manifest, for they are about to be written anew; of a damaged one nothing is left."""
    known = _files(folder)
    if known is None:
        (folder / MANIFEST).unlink()
    elif known:
        _put(folder, {name: each for name, each in known.items() if name not in names})


def faults(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    """Name → fault of the `wanted` files that are not as they were written; none without a manifest."""
    known = _files(folder)
    if known is None:
        return {MANIFEST: DAMAGED}
    found = {name: fault(folder / name, known[name]) for name in known if wanted(name)}
    return {name: what for name, what in found.items() if what}


def made_of(folder: Path) -> Any:
    """What the whole files of `folder` were made from; None where one is missing or changed."""
    listed = read_signed(folder / MANIFEST)
    return None if listed is None or faults(folder) else listed.get("of")


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files if path.name != MANIFEST)


def _put(folder: Path, files: Mapping[str, Any], of: Any = None) -> None:
    write_signed(folder / MANIFEST, {"files": files} if of is None else {"files": files, "of": of})


def _files(folder: Path) -> dict[str, Any] | None:
    """What the manifest lists; None where it is damaged."""
    if not (folder / MANIFEST).exists():
        return {}
    files = (read_signed(folder / MANIFEST) or {}).get("files")
    return files if isinstance(files, dict) else None


@lru_cache(maxsize=4096)
def _sha256(path: Path, inode: int, changed: int, renamed: int) -> str:
    """Of a file that has not been touched since it is read once."""
    return sha256(path)
