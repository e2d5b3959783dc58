"""The board: which runs it lists, what it refuses, and that it lives through runs that are half written."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from support import devtools
from support.made_up_runs import Make
from twofold.errors import DataError
from twofold.reports import board as module
from twofold.reports.board import Board
from twofold.reports.board_server import BoardServer

Reply = tuple[int, str, http.client.HTTPMessage]


def get(server: BoardServer, path: str, method: str = "GET", **headers: str) -> Reply:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


@pytest.fixture
def folder(make_run: Make, tmp_path: Path) -> Path:
    """A folder `runs` with two runs, the older one below another folder."""
    runs = tmp_path / "runs"
    (runs / "deep").mkdir(parents=True)
    shutil.move(make_run("old", solved=(10, 9)), runs / "deep" / "old")
    shutil.move(make_run("new run", extra={"draft_kl": 0.1}), runs / "new run")
    for file in (runs / "deep" / "old").iterdir():
        os.utime(file, (1e9, 1e9))
    return runs


@pytest.fixture
def server(folder: Path) -> Iterator[BoardServer]:
    with BoardServer(Board(folder, every=0.1)) as running:
        yield running


def test_runs_are_listed_last_written_first_wherever_they_are(folder: Path) -> None:
    (folder / "new run" / "checkpoints" / "step-9").mkdir(parents=True)
    (folder / "new run" / "checkpoints" / "step-9" / "metrics.jsonl").touch()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "metrics.jsonl").touch()
    (folder / "1" / "2" / "3" / "4" / "5").mkdir(parents=True)
    (folder / "1" / "2" / "3" / "4" / "5" / "metrics.jsonl").touch()
    assert Board(folder).runs() == ["new run", "deep/old"]
    assert Board(folder / "new run").runs() == ["."]
    (folder / "1" / "2" / "3" / "4" / "metrics.jsonl").touch()
    os.utime(folder / "1" / "2" / "3" / "4" / "metrics.jsonl", (2e9, 2e9))
    assert Board(folder).runs()[0] == "1/2/3/4"


def test_links_out_of_the_folder_are_not_followed(folder: Path, make_run: Make, tmp_path: Path) -> None:
    outside = make_run("outside")
    (folder / "linked").symlink_to(outside)
    (folder / "part").mkdir()
    (folder / "part" / "metrics.jsonl").touch()
    (folder / "part" / "resolved.yaml").symlink_to(outside / "resolved.yaml")
    (folder / "loop").mkdir()
    (folder / "loop" / "metrics.jsonl").symlink_to(folder / "loop" / "metrics.jsonl")
    (folder / "inner").mkdir()
    (folder / "inner" / "metrics.jsonl").symlink_to(folder / "deep" / "old" / "metrics.jsonl")
    assert set(Board(folder).runs()) == {"new run", "deep/old", "inner"}


def test_pages_of_a_board(server: BoardServer) -> None:
    status, page, headers = get(server, "/")
    assert status == 200
    assert page.count('<a href="/run?name=') == 2
    assert "deep/old" in page
    assert page.count("<figure") >= 5
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    status, page, _ = get(server, "/run?name=" + quote("new run"))
    assert (status, "KL of samples from the reference" in page, 'href="/"' in page) == (200, True, True)
    status, page, _ = get(server, "/compare?name=deep/old&name=new%20run")
    assert status == 200
    assert "20 problems" in page or "McNemar" in page
    assert "file:" not in page


@pytest.mark.parametrize("path", [
    "/run?name=..", "/run?name=../outside", "/run?name=/etc", "/run?name=", "/run", "/run?name=deep", "/run?name=%00",
    "/run?name=deep/../deep/old", "/run?name=a&name=b", "/compare", "/etc/passwd", "/../x", "/?name=deep/old",
    "/run?name=.", "/compare?name=new%20run&name=nope",
])  # fmt: skip
def test_what_is_no_listed_run_is_refused(server: BoardServer, path: str) -> None:
    status, text, _ = get(server, path)
    assert (status, "see /" in text) == (404, True)


def test_it_only_reads_and_only_for_this_machine(server: BoardServer) -> None:
    assert get(server, "/", Host="evil.example")[0] == 403
    assert get(server, "/", Host=f"localhost:{server.port}")[0] == 200
    assert [get(server, "/", method)[0] for method in ("POST", "PUT", "DELETE")] == [501] * 3
    status, body, headers = get(server, "/", "HEAD")
    assert (status, body, int(headers["Content-Length"]) > 1000) == (200, "", True)
    with pytest.raises(DataError, match="cannot be served"):
        BoardServer(Board(Path()), server.port)


def test_a_page_is_sent_again_only_when_something_is_new(server: BoardServer, folder: Path) -> None:
    _, before, headers = get(server, "/")
    assert get(server, "/", If_None_Match=headers["ETag"])[:2] == (304, "")
    with (folder / "new run" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 40, "loss": 7.25}) + "\n")
    shown = Board(folder).page([])
    assert shown is not None
    assert ">7.25<" in shown[0]
    assert ">7.25<" not in before


@pytest.mark.parametrize(("most", "lines"), [(1, 1), (3, 2)])
def test_curves_are_those_of_the_runs_written_last(
    folder: Path, most: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (module.DEEPEST, module.MOST_RUNS, module.DRAWN) == (4, 200, 12)
    monkeypatch.setattr(module, "DRAWN", most)
    page = Board(folder)._overview()
    assert ("of the 1 runs" in page.lower()) == (most == 1)
    assert page.count('<tr style="--look: var(--') == lines


def test_a_page_is_not_drawn_more_often_than_it_may_cost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(folder)
    first = board.page([])
    (folder / "new run" / "metrics.jsonl").write_text("")
    assert board.page([]) == first
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)
    assert board.page([]) != first


WRONG_TYPES = {"step": 1, "warnings": 3, "comparisons": {"a": 1}, "displacement": 3, "experts": [3], "reward_model": 3}
ODD = [b"", b"\xff\x00" * 50, b"[1, 2]", b"3\n", b'{"step": "x", "models": 3}\n', json.dumps(WRONG_TYPES).encode()]


def damaged(run: Path, name: str, parts: list[bytes], server: BoardServer) -> list[int]:
    """The answers of the board while a file of the run is each of `parts`, and while it is a folder."""
    whole, found = (run / name).read_bytes(), list[int]()
    for part in parts:
        (run / name).write_bytes(part)
        found += [get(server, path)[0] for path in ("/", "/run?name=new%20run")]
    (run / name).unlink()
    (run / name).mkdir()
    found += [get(server, "/")[0]]
    (run / name).rmdir()
    (run / name).write_bytes(whole)
    return found


@pytest.mark.parametrize("names", [
    ("results.json", "metrics.jsonl"),
    pytest.param(("timings.jsonl", "samples.jsonl", "resolved.yaml", "environment.json"), marks=pytest.mark.slow),
])  # fmt: skip
def test_half_written_runs_never_break_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """A file cut anywhere, empty, garbage, of the wrong type, or a folder: a page each time."""
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module.charts, "draw", lambda *_: [])  # drawing is tested elsewhere, and slow
    run, chance = folder / "new run", random.Random(0)
    with BoardServer(Board(folder)) as server:
        for name in names:
            cut = (run / name).read_bytes()
            parts = [cut[: chance.randrange(len(cut))] for _ in range(3)]
            assert set(damaged(run, name, [*parts, *ODD], server)) == {200}, name
        shutil.rmtree(run)
        assert (get(server, "/")[0], get(server, "/run?name=new%20run")[0]) == (200, 404)


def test_a_board_lives_in_a_browser(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New lines and new runs appear; what was ticked stays ticked; the chosen runs are compared."""
    path = devtools.browser()
    if path is None:
        pytest.skip("no Chromium on this machine: the board is not opened in a browser here")
    monkeypatch.setattr(module, "PAUSE", 0)
    browser = devtools.Page(path, tmp_path / "profile")
    with BoardServer(Board(folder, every=0.1)) as server:
        try:
            browser.open(server.address)
            browser.wait("document.readyState === 'complete' && document.querySelectorAll('tbody tr').length === 2")
            browser.ask("document.querySelectorAll('input').forEach((box) => { box.checked = true; })")
            (folder / "third").mkdir()
            (folder / "third" / "metrics.jsonl").write_text('{"kind": "train", "step": 0, "loss": 7.25}\n{"kind"')
            browser.wait("document.body.innerText.includes('7.25')")
            assert browser.ask("[...document.querySelectorAll('input:checked')].map((box) => box.value).sort()") == [
                "deep/old", "new run",
            ]  # fmt: skip
            assert browser.ask("figures.length === document.querySelectorAll('.files').length && figures.length > 3")
            browser.ask("document.querySelector('form button').click()")
            browser.wait("location.pathname === '/compare' && document.readyState === 'complete'")
            assert browser.ask("document.querySelector('h1').textContent") == "new run · deep/old"
            assert browser.log == []
            assert {url.split("/")[2] for url in browser.requests if url.startswith("http")} == {
                f"127.0.0.1:{server.port}"
            }
        finally:
            browser.close()
