"""Serves a board over HTTP: pages of listed runs for GET, and nothing else."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from twofold.loopback import LOOPBACK, LoopbackHandler, LoopbackServer
from twofold.reports.board import Board

MOST_NAMES = 12
"""Runs of one comparison."""


class BoardServer(LoopbackServer):
    """A board at an address of this machine; of any machine's with `remote`."""

    def __init__(self, board: Board, port: int = 0, host: str = LOOPBACK, *, remote: bool = False) -> None:
        class Handler(_Handler):
            pass

        Handler.board, Handler.any_host = board, remote
        super().__init__(Handler, port, host)


class _Handler(LoopbackHandler):
    """`/` is the overview, `/run?name=RUN` a run's report, `/compare?name=RUN&name=RUN` several on one page."""

    board: Board
    policy = (  # the page's own policy allows its script by hash
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )

    def do_GET(self) -> None:
        if not self.is_local():
            return
        split = urlsplit(self.path)
        names = list(dict.fromkeys(parse_qs(split.query).get("name", [])))
        if not self._is_known(split.path, names):
            self.refuse(HTTPStatus.NOT_FOUND, "no such page: see /")
            return
        try:
            found = self.board.page(names)
        except Exception as error:  # whatever a run holds: the board stays up
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"this page cannot be drawn now: {type(error).__name__}")
            return
        if found is None:
            self.refuse(HTTPStatus.NOT_FOUND, "no such run below the board's folder: see /")
            return
        page, tag = found
        if self.headers.get("If-None-Match") == f'"{tag}"':
            self.reply(HTTPStatus.NOT_MODIFIED, b"", "text/html; charset=utf-8", {"ETag": f'"{tag}"'})
        else:
            body = page.encode("utf-8", "replace")
            self.reply(HTTPStatus.OK, body, "text/html; charset=utf-8", {"ETag": f'"{tag}"'})

    do_HEAD = do_GET

    def _is_known(self, path: str, names: list[str]) -> bool:
        sizes = {"/": range(1), "/run": range(1, 2), "/compare": range(1, MOST_NAMES + 1)}
        return path in sizes and len(names) in sizes[path]
