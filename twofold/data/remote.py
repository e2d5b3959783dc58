"""Files in object stores and on web servers, through fsspec: `s3://`, `gs://`, `https://`, `hf://datasets/…`.

A file is copied once into the cache folder of this machine. It is copied again if it has changed there, or if the copy
was damaged.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from twofold import disk
from twofold.data.arrow_rows import first_line
from twofold.errors import DataError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""fsspec's packages of object stores; https and hf come with `datasets`."""


def is_remote(source: str) -> bool:
    """Whether a source is an address, not a path."""
    return _ADDRESS.match(source) is not None


def located(source: str) -> Path:
    """The path of a source on this machine. Raises DataError for an address that cannot be read."""
    return _copied(source) if is_remote(source) else Path(source)


def matching(pattern: str) -> list[str]:
    """The addresses that match a pattern with `*`, in order. Raises DataError as `located` does."""
    with _plain_errors(pattern):
        system, path = _opened(pattern)
        return sorted(system.unstrip_protocol(name) for name in system.glob(path))


@lru_cache(1024)  # a run reads one version of a file
def _copied(address: str) -> Path:
    with _plain_errors(address):
        system, path = _opened(address)
        size, version = system.info(path).get("size"), f"{address} {system.ukey(path)}"
        folder = disk.cache_folder() / "files" / hashlib.sha256(version.encode()).hexdigest()[:32]
        copy, record = folder / Path(path).name, folder / "copied.json"
        known = disk.read_signed(record) or {}
        if not copy.is_file() or known.get("sha256") != disk.sha256(copy):
            disk.make_folder(folder)
            with disk.replacing(copy) as file, system.open(path, "rb") as there:
                shutil.copyfileobj(there, file, 1 << 20)
            if size is not None and copy.stat().st_size != size:
                raise OSError(f"{copy.stat().st_size:,} of {size:,} bytes arrived")
            disk.write_signed(record, {"address": address, "sha256": disk.sha256(copy)})
        return copy


def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it."""
    import fsspec

    return fsspec.core.url_to_fs(address)


@contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:  # of a web server that cannot be reached, too
        raise DataError("no such file", where=address, remedy="check the address and the connection") from None
    except ImportError as error:
        package = PACKAGES.get(address.partition(":")[0].lower())
        remedy = f"pip install {package}" if package else "install the package that it names"
        raise DataError(f"cannot be read: {first_line(error)}", where=address, remedy=remedy) from None
    except Exception as error:  # every store raises what it likes
        remedy = "check the address, your rights and the connection; or copy the file here"
        raise DataError(f"cannot be read: {first_line(error)}", where=address, remedy=remedy) from None
