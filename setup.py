"""The sdist as an archive that can be built again: one time for all files, no owner. setuptools does the rest."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.sdist import sdist


class ReproducibleSdist(sdist):
    """setuptools' sdist, written again with the time in SOURCE_DATE_EPOCH, which wheels take as well."""

    def make_archive(self, *args: Any, **kwargs: Any) -> str:
        archive = Path(super().make_archive(*args, **kwargs))
        moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
        with tarfile.open(archive) as made:
            files = [(member, made.extractfile(member)) for member in made if member.isfile()]
            contents = {m.name: (m.mode & 0o100, content.read()) for m, content in files if content}
        with (
            archive.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=moment) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as written,
        ):
            for name, (runs, content) in sorted(contents.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mtime, member.mode = len(content), moment, 0o755 if runs else 0o644
                written.addfile(member, io.BytesIO(content))
        return str(archive)


setup(cmdclass={"sdist": ReproducibleSdist})
