"""Serves pages to this machine only: what the labeling page and the board have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from twofold.errors import DataError

LOOPBACK = "127.0.0.1"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers with whole bodies, and refuses any host name but this machine's (DNS rebinding).

    `policy` is the content policy of all answers. Where `any_host` is set, the server was opened to other machines.
    """

    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    any_host = False
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "twofold", ""
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the command line."""

    def is_local(self) -> bool:
        """Whether the request names this machine; any other is refused here."""
        port = self.server.server_address[1]  # type: ignore[index]  # an internet address
        if self.any_host or self.headers.get("Host") in (f"{LOOPBACK}:{port}", f"localhost:{port}", f"[::1]:{port}"):
            return True
        self.refuse(HTTPStatus.FORBIDDEN, "this page is for this machine only")
        return False

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer with an error, and close the connection."""
        self.close_connection = True
        self.reply(status, why.encode(), "text/plain; charset=utf-8")

    def reply(self, status: HTTPStatus, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        """Answer with a body of a content type, and further headers."""
        self.send_response(status)
        own = {"Content-Security-Policy": self.policy, "Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in {**HEADERS, **own, **(more or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing where a reader left in the middle of an answer; other errors as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class LoopbackServer:
    """Serves a handler in threads of its own while its context lasts. `port` 0 takes a free one."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0, host: str = LOOPBACK) -> None:
        try:
            self._server = _Server((host, port), handler)
        except (OSError, OverflowError) as error:
            where = f"port {port}" if host == LOOPBACK else f"{host}, port {port}"
            remedy = "name another --port, or 0 for a free one"
            raise DataError(
                f"cannot be served: {getattr(error, 'strerror', None) or error}", where=where, remedy=remedy
            ) from None
        self.port: int = self._server.server_address[1]
        self.address = f"http://{host}:{self.port}/"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def run(self, stop: Callable[[], bool]) -> None:
        """Return once `stop` is true."""
        while not stop():
            time.sleep(0.1)
