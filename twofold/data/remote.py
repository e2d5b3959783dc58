"""Files on web servers, and in object stores through fsspec: `https://`, `s3://`, `gs://`, `hf://datasets/…`.

A file is copied once into the cache folder of this machine. It is copied again if it has changed there, or if the copy
was damaged.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import urlopen
from uuid import uuid4

from twofold import disk
from twofold.errors import DataError, first_line

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PATIENCE = 60.0
"""Seconds without an answer of a web server."""
PACKAGES = {
    "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "http": "aiohttp", "https": "aiohttp",
}  # fmt: skip
"""fsspec's packages of object stores, and of patterns on web servers; `hf` needs none."""


def is_remote(source: str) -> bool:
    """Whether a source is an address, not a path."""
    return _ADDRESS.match(source) is not None


def located(source: str) -> Path:
    """The path of a source on this machine. Raises DataError for an address that cannot be read."""
    return _copied(source) if is_remote(source) else Path(source)


def matching(pattern: str) -> list[str]:
    """The addresses that match a pattern with `*`, in order. Raises DataError as `located` does."""
    with _plain_errors(pattern):
        system, path = _system(pattern)
        return sorted(system.unstrip_protocol(name) for name in system.glob(path))


@lru_cache(1024)  # a run reads one version of a file
def _copied(address: str) -> Path:
    with _plain_errors(address), _opened(address) as there:
        folder = disk.cache_folder() / "files" / hashlib.sha256(f"{address} {there.version}".encode()).hexdigest()[:32]
        copy, record = folder / (there.name or "file"), folder / "copied.json"
        known = disk.read_signed(record) or {}
        if not copy.is_file() or known.get("sha256") != disk.sha256(copy):
            disk.make_folder(folder)
            with disk.replacing(copy) as file:
                shutil.copyfileobj(there.bytes, file, 1 << 20)
            if there.size is not None and copy.stat().st_size != there.size:
                raise OSError(f"{copy.stat().st_size:,} of {there.size:,} bytes arrived")
            disk.write_signed(record, {"address": address, "sha256": disk.sha256(copy)})
        return copy


@dataclass(frozen=True)
class _There:
    """A file at its address: its name, its content, its size where that is known, and what changes with it."""

    name: str
    bytes: IO[bytes]
    size: int | None
    version: str


@contextmanager
def _opened(address: str) -> Iterator[_There]:
    if urlsplit(address).scheme in ("http", "https"):
        with urlopen(address, timeout=PATIENCE) as there:
            size, named = there.headers["Content-Length"], there.headers["ETag"] or there.headers["Last-Modified"]
            yield _There(Path(urlsplit(address).path).name, there, size and int(size), f"{named or uuid4()} {size}")
        return
    system, path = _system(address)
    with system.open(path, "rb") as there:
        yield _There(Path(path).name, there, system.info(path).get("size"), system.ukey(path))


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it."""
    import fsspec

    return fsspec.core.url_to_fs(address)


@contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", where=address, remedy="check the address") from None
    except ImportError as error:
        package = PACKAGES.get(address.partition(":")[0].lower())
        remedy = f"pip install {package}" if package else "install the package that it names"
        raise DataError(f"cannot be read: {first_line(error)}", where=address, remedy=remedy) from None
    except Exception as error:  # every store raises what it likes
        remedy = "check the address, your rights and the connection; or copy the file here"
        raise DataError(f"cannot be read: {first_line(error)}", where=address, remedy=remedy) from None
