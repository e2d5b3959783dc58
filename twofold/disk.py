"""What is written to disk: whole or not at all, for its owner alone, never through a link; and how it is known again.

A JSON object that is `signed` ends in a `check` of its own bytes and of what it is about (its name, a key), so that
damage, or another file in its place, is noticed when it is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
MOST_TEXT = 10_000_000

_CHECKED = re.compile(rb', "check": "([0-9a-f]{16})"\}\Z')


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` once it is whole and on the disk; a link there is replaced, not followed.

    A device or a pipe is written to as it is.
    """
    if _is_stream(path):
        with path.open("wb") as file:
            yield file
        return
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, PRIVATE_FILE), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def real(path: Path) -> Path:
    """The path without links. `Path.resolve` raises RuntimeError for links in a circle; opening such a path says it."""
    return Path(os.path.realpath(path))


def write(path: Path, data: str | bytes) -> None:
    """Put `data` in the place of `path`: at any moment there is the old file or the new one."""
    with replacing(path) as file:
        file.write(data.encode("utf-8", "replace") if isinstance(data, str) else data)


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """A text that a person has written. Raises OSError for more than `most` bytes, as an endless device has."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data.decode("utf-8")


def make_folder(path: Path) -> None:
    """Make `path` a folder for its owner alone, if it is none yet."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def own(path: Path) -> None:
    """Make `path` a file to append to that has no other name: a link becomes a copy of what it names."""
    if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
        write_copy(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE))


def write_copy(path: Path) -> None:
    """Put a copy of what the link `path` names in its place; an empty file where that is no file."""
    with replacing(path) as file:
        if path.is_file():
            with path.open("rb") as source:
                shutil.copyfileobj(source, file)


def remove(path: Path) -> None:
    """Take `path` away, whatever it is; of a link, the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_folder(made: Path, path: Path) -> None:
    """Put the folder `made`, on the disk to its last file, in the place of `path`, whatever stands there."""
    for each in (*made.rglob("*"), made):
        sync(each)
    remove(path)
    made.rename(path)
    sync(path.parent)


def make_private(folder: Path) -> None:
    """Let nobody but the owner read `folder` and what is in it."""
    for each in (folder, *folder.rglob("*")):
        each.chmod(PRIVATE_FOLDER if each.is_dir() else PRIVATE_FILE)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signed(row: Mapping[str, Any], about: str = "") -> bytes:
    """`row` as JSON on one line, without its end, with a last member `check`."""
    text = encoded(row)[:-1]
    return text + b', "check": "' + _check(text, about) + b'"}'


def is_signed(data: bytes) -> bool:
    """Whether `data` ends as what is signed does."""
    return _CHECKED.search(data) is not None


def verified(data: bytes, about: str = "") -> dict[str, Any] | None:
    """The object that was signed; None where a byte of it is another, or it is about something else."""
    match = _CHECKED.search(data)
    if match is None or match[1] != _check(data[: match.start()], about):
        return None
    return json_object(data[: match.start()] + b"}")


def read_signed(path: Path, about: str = "") -> dict[str, Any] | None:
    """The object of a signed file; None where there is none, or it is damaged."""
    try:
        return verified(path.read_bytes().removesuffix(b"\n"), about) if path.is_file() else None
    except OSError:
        return None


def write_signed(path: Path, row: Mapping[str, Any], about: str = "") -> None:
    """Write `row` as a signed file."""
    write(path, signed(row, about) + b"\n")


def encoded(row: Mapping[str, Any]) -> bytes:
    """`row` as JSON on one line, without its end."""
    return json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that `data` is; None for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check(text: bytes, about: str) -> bytes:
    return hashlib.sha256(about.encode() + b"\0" + text).hexdigest()[:16].encode()


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
