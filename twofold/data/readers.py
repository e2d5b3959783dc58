"""Rows of a source as they are, numbered, before anything is made of them: JSON lines, CSV, parquet, `datasets`."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, cast

from twofold.client.hub import stay_local_if_cut_off
from twofold.data import csv
from twofold.data.chat import kind
from twofold.data.issues import Issue, quoted
from twofold.errors import DataError

Row = dict[str, Any]
Numbered = tuple[int, Row | Issue]

_JSON = (".jsonl", ".json", ".ndjson")
_CSV = (".csv", ".csv.gz")
_KNOWN = (*_JSON, *(f"{s}.gz" for s in _JSON), *_CSV, ".parquet", ".arrow")
_LFS = b"version https://git-lfs.github.com/spec/"
_READ_ERRORS = (OSError, EOFError, zlib.error)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


def rows(source: str, split: str = "train", stream: bool = False) -> Iterator[Numbered]:
    """Each row with its number from 1, or the fault that stands in its place; raises DataError for the source itself.

    A warning about a row is yielded before the row. A line of JSON is numbered as an editor numbers it, blank lines
    included; anything else by its place. A hub name may carry a configuration, `openai/gsm8k:main`; to `stream` it is
    to read it over the network, row by row, without a copy of its files here.
    """
    path = Path(source)
    refuse_missing(source)
    if path.is_dir():
        return _saved(path, split) if _is_saved(path) else _hub(source, split, stream)
    return _file(path, source) if path.is_file() else _hub(source, split, stream)


def refuse_missing(source: str) -> None:
    """Raise DataError for what is not there and cannot be a hub name."""
    path = Path(source)
    if not path.exists() and (source.endswith(_KNOWN) or not _HUB_NAME.fullmatch(source)):
        near = _similar(path)
        remedy = f"did you mean `{near}`?" if near else "check the path"
        raise DataError("no such file", where=source, remedy=remedy)


def digest(source: str) -> str | None:
    """sha256 of a file's bytes; None where the source is not one file."""
    path = Path(source)
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def count(source: str) -> int | None:
    """How many rows a file of JSON lines or parquet has, at most, for those who wait; None where that takes reading."""
    path = Path(source)
    name = path.name.lower()
    if not path.is_file() or not name.endswith((".jsonl", ".ndjson", ".parquet")):
        return None
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError, ValueError):
            return None
    with path.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


def _similar(path: Path) -> Path | None:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1)
    return path.with_name(near[0]) if near else None


def _file(path: Path, source: str) -> Iterator[Numbered]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _tables(_parquet, path, source, "parquet")
    if name.endswith(".arrow"):
        return _tables(_arrow, path, source, "Arrow")
    if name.endswith(_CSV):
        return _csv_rows(path, source)
    if name.endswith(_KNOWN):
        return _json_array(path, source) if _starts_array(path) else _json_lines(path, source)
    raise DataError(
        f"unknown kind of file `{path.suffix or path.name}`", where=source, remedy=f"bring one of {quoted(_KNOWN)}"
    )


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def _starts_array(path: Path) -> bool:
    try:
        with _opened(path) as stream:
            head = stream.read(4096)
    except _READ_ERRORS:
        return False
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _json_lines(path: Path, source: str) -> Iterator[Numbered]:
    number = 0
    try:
        with _opened(path) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1 and line.startswith(_LFS):
                    reason = "the file is a Git LFS pointer: its contents were not fetched"
                    yield 1, Issue(source, 1, "", reason, "run `git lfs pull` where it came from", check="unreadable")
                    return
                if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    yield 1, Issue(source, 1, "", "the file is UTF-16", "save the file as UTF-8", check="bad UTF-8")
                    return
                yield from _line(line, source, number)
    except _READ_ERRORS as error:
        yield number + 1, _unreadable(source, number + 1, f"cannot be read to its end: {error}")


def _line(line: bytes, source: str, number: int) -> Iterator[Numbered]:
    if line.startswith(codecs.BOM_UTF8):
        yield number, _bom(source, number)
        line = line.removeprefix(codecs.BOM_UTF8)
    if not line.strip():
        return
    row = _parsed(line, source, number)
    if isinstance(row, Issue) and row.check == "bad JSON" and not line.endswith(b"\n"):
        reason = "the last line is cut off: it is no complete JSON and has no line end"
        row = Issue(source, number, "", reason, "copy or write the file again", check="truncated last line")
    yield number, row if isinstance(row, Issue) else _object(row, source, number)


def _json_array(path: Path, source: str) -> Iterator[Numbered]:
    try:
        with _opened(path) as stream:
            data = stream.read()
    except _READ_ERRORS as error:
        yield 0, _unreadable(source, 0, f"cannot be read to its end: {error}")
        return
    if data.startswith(codecs.BOM_UTF8):
        yield 0, _bom(source, 0)
    value = _parsed(data.removeprefix(codecs.BOM_UTF8), source, 0)
    if isinstance(value, Issue):
        yield 0, value
        return
    for number, item in enumerate(value, 1):
        yield number, _object(item, source, number)


def _parsed(data: bytes, source: str, number: int) -> Any | Issue:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} ({data[error.start]:#04x}) is not UTF-8"
        return Issue(source, number, "", reason, "save the file as UTF-8", check="bad UTF-8")
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if number else f"line {error.lineno}, column {error.colno}"
        reason = f"bad JSON at {place}: {error.msg}"
    except _Twice as error:
        reason, remedy = "is there twice in one object: one of the two would be lost", "keep one of them"
        return Issue(source, number, error.key, reason, remedy, check="field twice")
    except (ValueError, RecursionError) as error:
        reason = f"bad JSON: {error}"
    return Issue(source, number, "", reason, "write one JSON object per line", check="bad JSON")


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(key for key in keys if keys.count(key) > 1))
    return made


def _object(value: Any, source: str, number: int) -> Row | Issue:
    if isinstance(value, dict):
        return value
    reason = f"the row is {kind(value)}, not an object with named fields"
    return Issue(source, number, "", reason, 'write rows as {"prompt": …, …}', check="bad JSON")


def _bom(source: str, number: int) -> Issue:
    return Issue(source, number, "", "starts with a byte order mark", "save as UTF-8 without BOM", "warning", "BOM")


def _unreadable(source: str, number: int, reason: str) -> Issue:
    return Issue(source, number, "", reason, "copy or write the file again", check="unreadable")


def _csv_rows(path: Path, source: str) -> Iterator[Numbered]:
    number = 0
    try:
        with _opened(path) as stream:
            for number, row in csv.rows(stream, source):
                yield number, row
    except _READ_ERRORS as error:
        yield number + 1, _unreadable(source, number + 1, f"cannot be read to its end: {error}")


def _tables(batches: Callable[[Path], Iterator[Any]], path: Path, source: str, kind: str) -> Iterator[Numbered]:
    """The rows of Arrow's record `batches`."""
    import pyarrow as pa

    number = 0
    try:
        for number, row in enumerate((row for batch in batches(path) for row in _whole(batch).to_pylist()), 1):
            yield number, row
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        yield number and number + 1, _unreadable(source, number and number + 1, f"not readable as {kind}: {first}")


def _arrow(path: Path) -> Iterator[Any]:
    """A stream or a file of Arrow record batches; `datasets` writes streams. Read, not mapped: a damaged file must not
    end the process."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as opened:
        try:
            batches = iter(pa.ipc.open_stream(opened))
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(opened)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        yield from batches


def _whole(batch: Any) -> Any:
    """A record batch, or table, whose every offset and text is where and what it says; Arrow's errors otherwise."""
    batch.validate(full=True)
    return batch


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=1024)


def _is_saved(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved(path: Path, split: str) -> Iterator[Numbered]:
    import datasets

    source = str(path)
    try:
        data = datasets.load_from_disk(source)
        for part in data.values() if isinstance(data, datasets.DatasetDict) else [data]:
            _whole(part.data)
    except Exception as error:  # arrow, json and file errors alike mean one thing to whoever named the folder
        raise DataError(f"not readable as a saved data set: {error}", where=source, remedy="save it again") from None
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            remedy = f"choose one of {quoted(map(str, data))}"
            raise DataError(f"has no split `{split}`", where=source, remedy=remedy)
        data = data[split]
    return _dataset(data, source)


def _hub(source: str, split: str, stream: bool) -> Iterator[Numbered]:
    stay_local_if_cut_off()
    import datasets

    name, _, configuration = (source, "", "") if Path(source).exists() else source.partition(":")
    try:
        with _quiet():
            data = datasets.load_dataset(name, configuration or None, split=split, streaming=stream)
    except Exception as error:  # the hub's clients raise what they like; the user must learn for which name
        remedy = "check the name, the split and the connection, or name a local file"
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"split `{split}` cannot be loaded: {first}", where=source, remedy=remedy) from None
    return _dataset(data, source)


def _dataset(data: Any, source: str) -> Iterator[Numbered]:
    number = 0
    try:
        for number, row in enumerate(data, 1):
            yield number, dict(row)
    except (OSError, ValueError, OverflowError) as error:  # arrow's errors are ValueErrors
        yield number + 1, _unreadable(source, number + 1, f"cannot be read: {error}")


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
