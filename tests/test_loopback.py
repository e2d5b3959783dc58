"""What all served pages have in common: this machine only, whole answers with safe headers, and a clear message."""

from __future__ import annotations

import http.client
from contextlib import closing
from http import HTTPStatus

import pytest

from twofold.errors import DataError
from twofold.loopback import HEADERS, LoopbackHandler, LoopbackServer


class Hello(LoopbackHandler):
    def do_GET(self) -> None:
        if self.is_local():
            self.reply(HTTPStatus.OK, b"hello", "text/plain", {"ETag": '"1"'})


class Open(Hello):
    any_host = True


def get(server: LoopbackServer, host: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_is_answered_with_safe_headers(name: str) -> None:
    with LoopbackServer(Hello) as server:
        status, body, headers = get(server, f"{name}:{server.port}")
        assert (status, body, headers["ETag"]) == (200, b"hello", '"1"')
        assert {key: headers[key] for key in HEADERS} == HEADERS
        assert headers["Content-Security-Policy"] == LoopbackHandler.policy
        assert server.address == f"http://127.0.0.1:{server.port}/"


def test_other_names_are_refused_unless_any_is_allowed() -> None:
    for handler, expected in ((Hello, 403), (Open, 200)):
        with LoopbackServer(handler) as server:
            assert get(server, "evil.example")[0] == expected
            assert get(server, "127.0.0.1:1")[0] == expected


@pytest.mark.parametrize(
    ("port", "host", "where"), [(99999, "127.0.0.1", "port 99999"), (0, "192.0.2.1", "192.0.2.1, port 0")]
)
def test_what_cannot_be_served_is_one_message(port: int, host: str, where: str) -> None:
    with pytest.raises(DataError, match=f"{where}: cannot be served"):
        LoopbackServer(Hello, port, host)
