"""Files behind an address: copied once, again if they change there or if the copy is damaged; and what fails."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from twofold.data import remote
from twofold.data.formats import read, scan
from twofold.data.readers import count, digest, files, refuse_missing
from twofold.data.settings import DataSource
from twofold.disk import sha256
from twofold.errors import DataError

ROW = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote._copied.cache_clear()
    yield tmp_path / "cache"
    remote._copied.cache_clear()
    memory = fsspec.filesystem("memory")
    memory.rm("/", recursive=True) if memory.ls("/") else None


def lines(*rows: dict[str, str]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def put(name: str, data: bytes) -> str:
    fsspec.filesystem("memory").pipe(f"/{name}", data)
    return f"memory://{name}"


def chosen(address: str) -> list[str]:
    return [record.chosen for record in read(address).records]  # type: ignore[union-attr]  # pairs


def copies(cache: Path) -> list[Path]:
    return sorted(p for p in cache.rglob("*") if p.is_file() and p.name != "copied.json")


def test_a_file_is_copied_once_and_again_when_it_changes(cache: Path) -> None:
    address = put("a/rows.jsonl", lines(ROW))
    assert chosen(address) == ["2"]
    (copy,) = copies(cache)
    assert (copy.name, len(copy.parent.name), copy.parent.parent.name) == ("rows.jsonl", 32, "files")
    before = copy.stat().st_mtime_ns
    remote._copied.cache_clear()
    assert chosen(address) == ["2"]
    assert (copies(cache), copy.stat().st_mtime_ns) == ([copy], before)
    remote._copied.cache_clear()
    put("a/rows.jsonl", lines({**ROW, "chosen": "two"}))
    assert chosen(address) == ["two"]
    assert len(copies(cache)) == 2


@pytest.mark.parametrize("change", ["flip", "cut", "grow", "record"])
def test_a_damaged_copy_is_made_again(change: str, cache: Path) -> None:
    address = put("rows.jsonl", lines(ROW, ROW))
    chosen(address)
    (copy,) = copies(cache)
    whole = copy.read_bytes()
    if change == "record":
        copy.with_name("copied.json").write_bytes(b"{}")
    copy.write_bytes({"flip": whole.replace(b"2", b"9"), "cut": whole[:9], "grow": whole * 2, "record": whole}[change])
    remote._copied.cache_clear()
    assert chosen(address) == ["2", "2"]
    assert copy.read_bytes() == whole


def test_every_use_of_a_source_takes_an_address(cache: Path) -> None:
    address = put("b/x.jsonl", lines(ROW, ROW))
    put("b/y.jsonl", lines(ROW))
    assert (count(address), digest(address)) == (2, sha256(copies(cache)[0]))
    assert files("memory://b/*.jsonl") == ["memory:///b/x.jsonl", "memory:///b/y.jsonl"]
    assert files(address) == [address]
    assert DataSource(file=address).file == address
    refuse_missing(address)
    (fault,) = scan(put("bad.jsonl", lines(ROW) + b"{\n")).faults
    assert (fault.file, fault.row) == ("memory://bad.jsonl", 2)


def test_what_cannot_be_reached_is_named() -> None:
    for address, what, remedy in (
        ("memory://absent.jsonl", "no such file", "check the address"),
        ("memory://absent/*.jsonl", "no file matches this pattern", "check the path"),
        ("nothing://x/rows.jsonl", "cannot be read", "check the address, your rights"),
        ("http://127.0.0.1:9/rows.jsonl", "cannot be read: <urlopen error", "the connection"),
    ):
        with pytest.raises(DataError) as caught:
            [*map(read, files(address))]
        assert what in str(caught.value)
        assert caught.value.where == address
        assert remedy in str(caught.value.remedy)


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_store_without_its_package_says_which(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = remote.PACKAGES[protocol]
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(DataError) as caught:
        read(f"{protocol}://bucket/rows.jsonl")
    assert caught.value.remedy == f"pip install {package}"


def test_a_web_server_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "rows.jsonl.gz").write_bytes(gzip.compress(lines(ROW)))
    handler = functools.partial(Quiet, directory=str(tmp_path / "there"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert chosen(f"http://127.0.0.1:{server.server_port}/rows.jsonl.gz?download=true") == ["2"]
        with pytest.raises(DataError, match="cannot be read: HTTP Error 404"):
            read(f"http://127.0.0.1:{server.server_port}/absent.jsonl")
        server.shutdown()


class Answer(io.BytesIO):
    """What a web server answers: its headers and the bytes that arrive."""

    def __init__(self, data: bytes, **headers: str) -> None:
        super().__init__(data)
        self.headers: dict[str, str | None] = dict.fromkeys(("Content-Length", "ETag", "Last-Modified"))
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("first", "second", "copied"),
    [
        ({"ETag": "a"}, {"ETag": "a"}, 1),
        ({"ETag": "a"}, {"ETag": "b"}, 2),
        ({"ETag": "a", "Last_Modified": "x"}, {"ETag": "a", "Last_Modified": "y"}, 1),
        ({"Last_Modified": "x"}, {"Last_Modified": "x"}, 1),
        ({"Last_Modified": "x"}, {"Last_Modified": "y"}, 2),
        ({"ETag": "a", "Content_Length": str(len(lines(ROW)))}, {"ETag": "a"}, 2),
        ({}, {}, 2),  # nothing says that it is the same
    ],
)
def test_a_web_file_is_copied_again_where_its_server_says_so(
    first: dict[str, str], second: dict[str, str], copied: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float]] = []
    answers = [Answer(lines(ROW), **first), Answer(lines(ROW), **second)]

    def answer(address: str, timeout: float) -> Answer:
        asked.append((address, timeout))
        return answers[len(asked) - 1]

    monkeypatch.setattr(remote, "urlopen", answer)
    address = "https://h/a/rows.jsonl?version=1"
    for _ in answers:
        assert remote.located(address).name == "rows.jsonl"
        assert remote.located(address).read_bytes() == lines(ROW), "in one run it is asked for once"
        remote._copied.cache_clear()
    assert asked == [(address, 60.0)] * 2
    assert len(copies(cache)) == copied


def test_a_file_that_does_not_arrive_whole_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "urlopen", lambda address, timeout: Answer(b"x" * 1200, Content_Length="3400"))
    with pytest.raises(DataError, match="cannot be read: 1,200 of 3,400 bytes arrived") as caught:
        remote.located("HTTPS://h/rows.jsonl")
    assert caught.value.where == "HTTPS://h/rows.jsonl"
    assert not [*cache.rglob("copied.json")]


def test_an_address_has_a_scheme(tmp_path: Path) -> None:
    addresses = ("s3://b/x", "gs+a.b-1://x", "HTTP://x")
    assert all(map(remote.is_remote, addresses))
    assert not any(map(remote.is_remote, ("a/b://c", "1s://x", "://x", "x", "./s3://b", str(tmp_path))))
    assert remote.located("a/b.jsonl") == Path("a/b.jsonl")


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("S3://b/x", "pip install s3fs"), ("gcs://b/x", "pip install gcsfs"), ("az://b/x", "pip install adlfs"),
        ("abfs://b/x", "pip install adlfs"), ("abfss://b/x", "pip install adlfs"),
        ("https://h/*.jsonl", "pip install aiohttp"), ("http://h/*", "pip install aiohttp"),
        ("odd://b/x", "install the package that it names"),
    ],
)  # fmt: skip
def test_each_store_names_its_package(address: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise ImportError("no package\nmore")

    monkeypatch.setattr(remote, "_system", refuse)
    with pytest.raises(DataError, match="cannot be read: no package\n") as caught:
        remote.matching(address)
    assert (caught.value.where, caught.value.remedy) == (address, remedy)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


def zstd(data: bytes) -> bytes:
    packed = pa.compress(data, codec="zstd", asbytes=True)
    assert isinstance(packed, bytes)
    return packed


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".ndjson"])
def test_zstandard_is_unpacked(ending: str, tmp_path: Path) -> None:
    text = {".json": json.dumps([ROW, ROW]).encode(), ".csv": b"prompt,chosen,rejected\na,2,3\nb,2,3\n"}
    path = tmp_path / f"rows{ending}.zst"
    path.write_bytes(zstd(text.get(ending, lines(ROW, ROW))))
    assert chosen(str(path)) == ["2", "2"]


def test_frames_that_follow_each_other_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.zst"
    path.write_bytes(zstd(lines(ROW)) + zstd(lines({**ROW, "chosen": "two"})))
    assert chosen(str(path)) == ["2", "two"]


def test_damaged_zstandard_is_an_error_of_its_row(tmp_path: Path) -> None:
    path, packed = tmp_path / "rows.jsonl.zst", zstd(lines(*[{**ROW, "prompt": f"{n} + {n}?"} for n in range(500)]))
    for data in (packed[:-20], packed[:40] + bytes([packed[40] ^ 255]) + packed[41:], b"no zstandard"):
        path.write_bytes(data)
        faults = scan(str(path)).faults
        assert faults
        assert all(f.severity == "error" for f in faults)


def test_zstandard_may_not_unpack_without_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.zst"
    path.write_bytes(zstd(lines({**ROW, "prompt": "a" * 2**22}) * 20))
    assert [f.check for f in scan(str(path)).faults][-1:] == ["unpacks too far"]
