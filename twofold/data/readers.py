"""Rows of a source as they are, numbered, before anything is made of them: JSON lines, CSV, parquet, `datasets`."""

from __future__ import annotations

import codecs
import errno
import glob
import gzip
import hashlib
import re
import stat
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, cast

from twofold.client.hub import stay_local_if_cut_off
from twofold.data import csv, json_rows
from twofold.data.arrow_rows import arrow, damaged, parquet, tables
from twofold.data.issues import Issue, quoted, shortened
from twofold.data.json_rows import Numbered, Row
from twofold.data.keys import without
from twofold.data.reading import BOUNDS, RowBounds
from twofold.data.remote import is_remote, located, matching
from twofold.data.unpacking import Allowance, UnpackedError, bounded
from twofold.errors import DataError, first_line

PACKED = (".gz", ".zst")
_JSON = (".jsonl", ".json", ".ndjson")
_KNOWN = (*_JSON, *(f"{s}{packed}" for s in _JSON for packed in PACKED), *csv.ENDINGS, ".parquet", ".arrow")
_MARKS = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PAR1\x15": ".parquet", b"ARROW1\0\0": ".arrow"}
"""How files begin that are no text."""
KNOWN_KINDS = "provide `.jsonl`, `.json`, `.ndjson` or `.csv`, each also with `.gz` or `.zst`, or `.parquet`, `.arrow`"
READ_ERRORS = (OSError, EOFError, zlib.error)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def rows(
    source: str,
    split: str = "train",
    stream: bool = False,
    ignore: Collection[str] = (),
    bounds: RowBounds = BOUNDS,
) -> Iterator[Numbered]:
    """Each row with its number from 1, or its error instead. Raises DataError for an error of the source itself.

    A warning about a row is yielded before the row. A line of JSON has its line number in an editor, blank lines
    included; any other row has its index. Fields of a row's objects that are null are not there, since Arrow fills them
    so, nor are keys to `ignore`. A Hub name may include a configuration, `openai/gsm8k:main`. `stream` reads it row by
    row over the network, without a local copy.
    """
    numbered = _opened_source(source, split, stream, ignore, bounds)
    return ((number, row if isinstance(row, Issue) else _cleaned(row, ignore)) for number, row in numbered)


def _opened_source(
    source: str, split: str, stream: bool, ignore: Collection[str], bounds: RowBounds
) -> Iterator[Numbered]:
    refuse_missing(source)
    path, kind = located(source), _kind(source)
    if kind == "folder":
        return _saved(path, split, bounds.growth) if _is_saved(path) else _hub(source, split, stream, bounds.growth)
    return _file(path, source, ignore, bounds) if kind == "file" else _hub(source, split, stream, bounds.growth)


def refuse_missing(source: str) -> None:
    """Raise DataError for what is not there and cannot be a hub name."""
    if not source.strip():
        raise DataError("an empty name is no file", where=repr(source), remedy="name a file, a folder or a data set")
    path = located(source)
    if not _kind(source) and _exists(path):
        what, remedy = "is no file and no folder, but a device, a pipe or a socket", "write the rows to a file first"
        raise DataError(what, where=source, remedy=remedy)
    if not _kind(source) and (source.endswith(_KNOWN) or not _HUB_NAME.fullmatch(source)):
        near = _similar(path)
        remedy = f"did you mean `{near}`?" if near else "check the path"
        raise DataError("no such file", where=source, remedy=remedy)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except ValueError:  # a zero byte
        return False


def _cleaned(row: Row, ignore: Collection[str]) -> Row:
    if not ignore and all(type(value) is str for value in row.values()):
        return row
    return {
        key: value if isinstance(value, str) else without(value, () if key == "tools" else ignore)
        for key, value in row.items()
        if key not in ignore
    }


def is_file(source: str) -> bool:
    """Whether a source is one file."""
    return _kind(source) == "file"


def is_pattern(source: str) -> bool:
    """Whether a source is a pattern of names of files, as `data/*.jsonl`, and no file is called so."""
    if is_remote(source):  # in an address ? begins a query
        return "*" in source
    return any(c in source for c in "*?[") and not _kind(source)


def files(source: str) -> list[str]:
    """What a source names: of a pattern the files that match it, in order; of anything else itself."""
    if not is_pattern(source):
        return [source]
    remote = is_remote(source)
    found = matching(source) if remote else sorted(n for n in glob.glob(source, recursive=True) if is_file(n))
    if found:
        return found
    folder = Path(source).parent
    near = sorted(p.name for p in folder.iterdir()) if not remote and _kind(str(folder)) == "folder" else []
    remedy = f"`{folder}` holds {quoted(near, 5)}" if near else "check the path"
    raise DataError("no file matches this pattern", where=source, remedy=remedy)


def _kind(source: str) -> str:
    """`file`, `folder`, or nothing where there is neither; raises DataError for what cannot be looked at."""
    try:
        mode = located(source).stat().st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return ""
        what = f"cannot be looked at: {error.strerror}"
        raise DataError(what, where=shortened(source), remedy="check the path and its rights") from None
    except ValueError:  # a zero byte
        return ""
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else ""


def digest(source: str) -> str | None:
    """sha256 of a file's bytes; None where the source is not one file."""
    if not is_file(source):
        return None
    try:
        with located(source).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=source, remedy="check the rights") from None


def count(source: str) -> int | None:
    """How many rows a file of JSON lines or parquet has, at most, for those who wait; None where that takes reading."""
    path = located(source)
    name = path.name.lower()
    if not name.endswith((".jsonl", ".ndjson", ".parquet")) or not is_file(source):
        return None
    try:
        if name.endswith(".parquet"):
            import pyarrow.parquet as pq

            return pq.read_metadata(path).num_rows
        with path.open("rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    except Exception:  # a damaged file is an error of the reader; here the size is unknown
        return None


def _similar(path: Path) -> Path | None:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings)
    return path.with_name(near[0]) if near else None


def _file(path: Path, source: str, ignore: Collection[str], bounds: RowBounds) -> Iterator[Numbered]:
    name = path.name.lower()
    if name.endswith((".parquet", ".arrow")):
        return tables(parquet if name.endswith(".parquet") else arrow, path, source, ignore, bounds)
    if name.endswith(_KNOWN) and (disguised := _packed(path, source)):
        return iter([(0, disguised)])
    if name.endswith(csv.ENDINGS):
        return _read(csv.rows, path, source, bounds)
    if name.endswith(_KNOWN):
        return _read(json_rows.array if _starts_array(path) else json_rows.lines, path, source, bounds)
    raise DataError(f"unknown kind of file `{path.suffix or path.name}`", where=source, remedy=KNOWN_KINDS)


def opened(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked as its name ends."""
    name = path.name.lower()
    if name.endswith(".zst"):
        import pyarrow as pa

        return cast("IO[bytes]", pa.input_stream(str(path), compression="zstd"))
    return cast("IO[bytes]", gzip.open(path, "rb")) if name.endswith(".gz") else path.open("rb")


def _packed(path: Path, source: str) -> Issue | None:
    """The fault of a file whose bytes are of another kind than its name."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError:
        return None
    kind = next((kind for mark, kind in _MARKS.items() if head.startswith(mark)), None)
    name = path.name.lower()
    if kind is None or name.endswith(kind):
        return None
    reason = (
        f"the file begins as {kind} files do, and its name ends in {''.join(path.suffixes[-2:])[-20:] or 'nothing'}"
    )
    return Issue(source, 0, "", reason, f"give it a name that ends in {kind}", check="unreadable")


def _starts_array(path: Path) -> bool:
    try:
        with opened(path) as stream:
            head = stream.read(4096)
    except READ_ERRORS:
        return False
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _read(
    parse: Callable[[IO[bytes], str, int], Iterator[Numbered]], path: Path, source: str, bounds: RowBounds
) -> Iterator[Numbered]:
    """What `parse` makes of a file of text, to its end or to where it cannot be read."""
    number, allowance = 0, Allowance(path, bounds.growth)
    try:
        with opened(path) as packed, bounded(packed, allowance) as stream:
            for number, row in parse(stream, source, bounds.bytes):
                yield number, row
    except UnpackedError:
        yield 0, allowance.issue(source, number + 1)
    except READ_ERRORS as error:
        yield number + 1, _unreadable(source, number + 1, f"cannot be read to its end: {error}")


def _unreadable(source: str, number: int, reason: str) -> Issue:
    return Issue(source, number, "", reason, "copy or write the file again", check="unreadable")


def _is_saved(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved(path: Path, split: str, growth: int) -> Iterator[Numbered]:
    import datasets

    source = str(path)
    _refuse_damage(sorted(path.rglob("*.arrow")), growth)
    try:
        data = datasets.load_from_disk(source)
    except Exception as error:  # arrow, json and file errors all mean the same to the user of the folder
        raise DataError(f"not readable as a saved data set: {error}", where=source, remedy="save it again") from None
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            remedy = f"choose one of {quoted(map(str, data))}"
            raise DataError(f"has no split `{split}`", where=source, remedy=remedy)
        data = data[split]
    return _dataset(data, source)


def _hub(source: str, split: str, stream: bool, growth: int) -> Iterator[Numbered]:
    stay_local_if_cut_off()
    import datasets

    name, _, configuration = (source, "", "") if Path(source).exists() else source.partition(":")
    try:
        with _quiet():
            data = datasets.load_dataset(name, configuration or None, split=split, streaming=stream)
    except Exception as error:  # the hub's clients raise what they like; the user must learn for which name
        folder = Path(source).is_dir()
        remedy = "check the name, the split and the connection, or name a local file"
        remedy = "name a file in it, or a pattern as `FOLDER/*.jsonl`, and check the split" if folder else remedy
        first = first_line(error)
        raise DataError(f"split `{split}` cannot be loaded: {first}", where=source, remedy=remedy) from None
    _refuse_damage([Path(file["filename"]) for file in getattr(data, "cache_files", ())], growth)
    return _dataset(data, source)


def _refuse_damage(files: list[Path], growth: int) -> None:
    """`datasets` maps its files into memory and looks at nothing: a damaged one would end the program."""
    found = damaged(files, growth)
    if found is not None:
        path, reason = found
        raise DataError(f"not readable as Arrow: {reason}", where=str(path), remedy="copy or make the data set again")


def _dataset(data: Any, source: str) -> Iterator[Numbered]:
    number = 0
    try:
        for number, row in enumerate(data, 1):
            yield number, dict(row)
    except Exception as error:  # of a value that cannot be decoded, each library raises its own
        yield number + 1, _unreadable(source, number + 1, f"cannot be read: {first_line(error)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of `datasets`: nothing below the command line prints."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
