"""Files on disk: written completely or not at all, only for their owner, never through a link, and verified when read.

A JSON object that is `signed` ends in a `check` of its own bytes and of its subject (its name, a key). So a damaged or
exchanged file is detected when it is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from twofold.errors import RecipeError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
MOST_TEXT = 10_000_000

_CHECKED = re.compile(rb', "check": "([0-9a-f]{16})"\}\Z')


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that replaces `path` once it is complete and on the disk. A link there is replaced, not followed.

    A device or a pipe is written to directly.
    """
    if _is_stream(path):
        with _named(path), path.open("wb") as file:
            yield file
        return
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        with (
            _named(path),
            open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, PRIVATE_FILE), "wb") as file,
        ):
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an error of the system that names no file, such as that of a full disk, the name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def cache_folder() -> Path:
    """The folder of this user for what twofold measures and copies once on a machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twofold"


def real(path: Path) -> Path:
    """The path without links. `Path.resolve` raises RuntimeError for links in a circle; this function does not."""
    return Path(os.path.realpath(path))


def write(path: Path, data: str | bytes) -> None:
    """Replace `path` with `data`. At any moment there is either the old file or the new one."""
    with replacing(path) as file:
        file.write(data.encode("utf-8", "replace") if isinstance(data, str) else data)


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """A text that a person has written. Raises OSError for more than `most` bytes, for example of an endless device."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data.decode("utf-8")


def refuse_home(path: Path) -> None:
    """Raise RecipeError for `~/…`, which only a shell expands: it would be a folder with the name `~`."""
    expanded = os.path.expanduser(path)
    if expanded != str(path) and not Path(path.parts[0]).exists():
        raise RecipeError("`~` is not expanded here", where=str(path), remedy=f"write {expanded}")


def make_folder(path: Path) -> None:
    """Create the folder `path`, only for its owner, if it does not exist. Raises RecipeError for `~/…`."""
    refuse_home(path)
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def own(path: Path) -> None:
    """Make `path` a file to append to that has no other name. A link becomes a copy of its target."""
    if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
        write_copy(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE))


def write_copy(path: Path) -> None:
    """Replace the link `path` with a copy of its target, or with an empty file if the target is not a file."""
    with replacing(path) as file:
        if path.is_file():
            with path.open("rb") as source:
                shutil.copyfileobj(source, file)


def remove(path: Path) -> None:
    """Remove `path`, whatever it is. Of a link, only the link is removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_folder(made: Path, path: Path) -> None:
    """Replace `path`, whatever it is, with the folder `made`, after all of its files are on the disk."""
    for each in (*made.rglob("*"), made):
        sync(each)
    remove(path)
    made.rename(path)
    sync(path.parent)


def make_private(folder: Path) -> None:
    """Allow only the owner to read `folder` and its contents."""
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
    """Whether `data` ends like a signed object."""
    return _CHECKED.search(data) is not None


def verified(data: bytes, about: str = "") -> dict[str, Any] | None:
    """The object that was signed; None if a byte of it has changed, or if it has another subject."""
    match = _CHECKED.search(data)
    if match is None or match[1] != _check(data[: match.start()], about):
        return None
    return json_object(data[: match.start()] + b"}")


def read_signed(path: Path, about: str = "") -> dict[str, Any] | None:
    """The object of a signed file; None if the file is missing or damaged."""
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


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON with a line end. A number that is not finite becomes null: JSON has no word for it."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(value), indent=indent, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`; None for anything else."""
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
