"""The board's server at its bounds: how many runs it compares, what its answers are headed by, and other machines."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twofold.reports.board_server import MOST_NAMES, BoardServer

Page = Callable[[list[str]], tuple[str, str] | None]


@contextmanager
def serving(page: Page, **how: Any) -> Iterator[BoardServer]:
    with BoardServer(cast(Any, SimpleNamespace(page=page)), **how) as server:
        yield server


def get(server: BoardServer, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def names(count: int) -> str:
    return "&".join(f"name=r{i}" for i in range(count))


def test_twelve_runs_are_compared_and_no_more() -> None:
    drawn: list[list[str]] = []
    with serving(lambda query: drawn.append(query) or ("page", "tag")) as server:
        for path, status in (
            (f"/compare?{names(1)}", 200), (f"/compare?{names(MOST_NAMES)}", 200), (f"/compare?{names(13)}", 404),
            (f"/compare?{names(12)}&name=r3", 200), (f"/run?{names(1)}", 200), (f"/run?{names(2)}", 404),
            ("/run?name=a&name=a", 200), ("/", 200), ("/?x=1", 200), ("/compare", 404), ("/other", 404),
        ):  # fmt: skip
            assert get(server, path)[0] == status, path
    twelve = [f"r{i}" for i in range(12)]
    assert drawn == [["r0"], twelve, twelve, ["r0"], ["a"], [], []]


def test_a_page_is_sent_with_its_tag_and_what_it_may_do() -> None:
    with serving(lambda query: ("é \ud800", "abc")) as server:
        status, body, headers = get(server, "/")
        assert (status, body) == (200, "é ?".encode())
        assert (headers["ETag"], headers["Content-Type"]) == ('"abc"', "text/html; charset=utf-8")
        assert headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )
        for known, expected in (('"abc"', 304), ("abc", 200), ('"abd"', 200)):
            status, body, headers = get(server, "/", If_None_Match=known)
            assert (status, bool(body), headers["ETag"]) == (expected, expected == 200, '"abc"')
            assert headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "page", "status", "words"),
    [
        ("/none", lambda query: ("x", "y"), 404, "no such page: see /"),
        ("/run?name=x", lambda query: None, 404, "no such run below the board's folder: see /"),
        ("/", lambda query: 1 / 0, 500, "this page cannot be drawn now: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_is_refused_in_whole_words(path: str, page: Page, status: int, words: str) -> None:
    with serving(page) as server:
        assert get(server, path)[:2] == (status, words.encode())


def test_other_machines_are_answered_where_the_board_is_opened_to_them() -> None:
    for how, status in (({}, 403), ({"remote": False}, 403), ({"remote": True, "host": "127.0.0.1"}, 200)):
        with serving(lambda query: ("page", "tag"), **how) as server:
            assert get(server, "/", Host="board.example")[0] == status
            assert server.address == f"http://127.0.0.1:{server.port}/"


def test_two_boards_are_apart() -> None:
    with serving(lambda query: ("one", "a")) as first, serving(lambda query: ("two", "b"), remote=True) as second:
        assert (get(first, "/")[1], get(second, "/")[1]) == (b"one", b"two")
        assert (get(first, "/", Host="x")[0], get(second, "/", Host="x")[0]) == (403, 200)
