"""The labelling page: verdicts on disk at once, nobody else's requests, and no text that does anything."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import devtools
from twofold.data.differences import differences
from twofold.data.validate import check
from twofold.datagen.label import Labelling, LabelServer, comparisons
from twofold.errors import DataError
from twofold.judges.people import swapped
from twofold.judges.questions import read_questions

HOSTILE = (
    "<script>window.hacked = 1; alert(1)</script><img src=x onerror='window.hacked = 2'>"
    "<style>body { display: none }</style><svg onload=alert(2)></svg><a href='javascript:alert(3)'>x</a>"
    "</div></main><iframe srcdoc='<script>parent.hacked = 3</script>'></iframe>\u202e{{ 7 * 7 }}"
)


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    hostile = {"prompt": HOSTILE, "answers": [HOSTILE, f"{HOSTILE} and more"]}
    chat = {"prompt": [{"role": "user", "content": HOSTILE}], "answers": ["one\nline", "two\nlines"]}
    told = ({"prompt": f"question {n}", "answers": [f"good {n}", f"bad {n}"]} for n in range(18))
    return lines(tmp_path / "answers.jsonl", hostile, chat, *told)


@pytest.fixture
def labelling(file: Path, tmp_path: Path) -> Iterator[Labelling]:
    with Labelling.open(read_questions(str(file)).questions, tmp_path / "pairs.jsonl") as found:
        yield found


@pytest.fixture
def server(labelling: Labelling) -> Iterator[LabelServer]:
    with LabelServer(labelling) as serving:
        yield serving


def ask(server: LabelServer, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """A request as the page makes it, with these headers in place of its own; an empty one is left out."""
    own = {"Host": f"127.0.0.1:{server.port}", "Authorization": f"Bearer {server.token}"}
    if body is not None:
        own |= {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{server.port}"}
    sent = {k: v for k, v in {**own, **{k.replace("_", "-"): v for k, v in headers.items()}}.items() if v}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    data = None if body is None else body if isinstance(body, str) else json.dumps(body)
    connection.putrequest("GET" if body is None else "POST", path, skip_host=True)
    for name, value in {**sent, **({"Content-Length": str(len(data))} if data is not None else {})}.items():
        connection.putheader(name, value)
    connection.endheaders(None if data is None else data.encode())
    reply = connection.getresponse()
    found = reply.status, reply.read().decode()
    connection.close()
    return found


def state(server: LabelServer) -> dict[str, Any]:
    return json.loads(ask(server, "/state")[1])


def test_only_the_page_itself_is_served(server: LabelServer) -> None:
    key = state(server)["row"]["key"]
    verdict = {"key": key, "choice": "left", "seconds": 1}
    other = {"Host": f"evil.example:{server.port}"}
    refused = [
        ask(server, "/", Host="evil.example"),
        ask(server, "/", Host=""),
        ask(server, "/label.js", **other),
        ask(server, "/state", **other),
        ask(server, "/state", Authorization=""),
        ask(server, "/state", Authorization="Bearer guess"),
        ask(server, "/verdict", verdict, **other),
        ask(server, "/verdict", verdict, Authorization="Bearer ü"),
        ask(server, "/verdict", verdict, Origin="https://evil.example"),
        ask(server, "/verdict", verdict, Origin="null"),
        ask(server, "/verdict", verdict, Sec_Fetch_Site="cross-site"),
        ask(server, "/verdict", verdict, Content_Type="text/plain"),
        ask(server, "/verdict", {**verdict, "choice": "both"}),
        ask(server, "/verdict", {**verdict, "key": "another"}),
        ask(server, "/verdict", [1]),
        ask(server, "/verdict", "{"),
        ask(server, "/verdict", " " * 5000),
        ask(server, "/verdict", "[" * 4000),
        ask(server, "/verdict", {**verdict, "seconds": float("nan")}),
        ask(server, "/verdict", {**verdict, "seconds": -1}),
        ask(server, "/verdict", {**verdict, "seconds": 1e308}),
        ask(server, "/../label.py"),
        ask(server, "/nothing", {}),
    ]
    assert [status for status, _ in refused] == [403, 403, 403, 403, 401, 401, 403, 401, 403, 403, 403, 403, 400, 409,
                                                 400, 400, 413, 400, 400, 400, 400, 404, 404]  # fmt: skip
    assert state(server)["done"] == 0
    assert ask(server, "/", Authorization="")[0] == 200
    assert server._server.server_address[0] == "127.0.0.1"


def test_every_reply_carries_the_policy(server: LabelServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/")
    reply = connection.getresponse()
    page = reply.read().decode()
    connection.close()
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert server.token not in page
    assert " on" not in page.replace(" one", "")


def test_verdicts_become_pairs_whatever_side_they_were_shown_on(
    file: Path, labelling: Labelling, server: LabelServer, tmp_path: Path
) -> None:
    for number in range(1, 21):
        row = state(server)["row"]
        left = "".join(text for text, _ in row["left"])
        assert row["number"] == number
        assert swapped(0, number) == (left in ("two\nlines", f"{HOSTILE} and more", f"bad {number - 3}"))
        choice = "tie" if number == 5 else "skip" if number == 6 else "left" if left.startswith("good") else "right"
        ask(server, "/verdict", {"key": row["key"], "choice": choice, "seconds": 0.5})
    assert state(server) == {"total": 20, "done": 20, "row": None}
    assert labelling.write() == 18
    made = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [(r["chosen"], r["rejected"]) for r in made[2:]] == [
        (f"good {n}", f"bad {n}") for n in range(18) if n not in (2, 3)
    ]
    assert made[-1]["provenance"]["judge"] == {"kind": "human"}
    assert made[-1]["provenance"]["chosen"] == {"file": str(file), "row": 20, "place": 0}
    assert check(str(tmp_path / "pairs.jsonl")).ok


@pytest.mark.parametrize(
    "body",
    [
        "[" * 4000,
        '{"a":' * 800,
        "",
        "null",
        '{"key": "%s", "choice": "left", "seconds": NaN}',
        '{"key": "%s", "choice": "left", "seconds": Infinity}',
        '{"key": "%s", "choice": "left", "seconds": -1}',
        '{"key": "%s", "choice": "left", "seconds": 1e999}',
        '{"key": "%s", "choice": "left", "seconds": ' + "9" * 3900 + "}",
        '{"key": "%s", "choice": ["left"], "seconds": 1}',
        '{"key": {}, "choice": "left", "seconds": 1}',
    ],
)
def test_a_body_that_is_no_verdict_is_refused_and_changes_nothing(server: LabelServer, body: str) -> None:
    shown = state(server)
    status, _ = ask(server, "/verdict", body.replace("%s", shown["row"]["key"]))
    assert status == 400
    assert state(server) == shown


def test_a_second_press_judges_nothing_and_undo_goes_back(server: LabelServer) -> None:
    first = state(server)["row"]["key"]
    verdict = {"key": first, "choice": "tie", "seconds": 0}
    assert ask(server, "/verdict", verdict)[0] == 200
    assert ask(server, "/verdict", verdict)[0] == 409
    assert json.loads(ask(server, "/undo", {})[1])["row"]["key"] == first
    assert json.loads(ask(server, "/undo", {})[1])["done"] == 0


def test_pairs_and_rankings_are_labelled_anew(tmp_path: Path) -> None:
    ranking = {"prompt": "a", "completions": ["x", "y", "z"]}
    found = comparisons(read_questions(str(lines(tmp_path / "r.jsonl", ranking))).questions)
    assert [(c.first.text, c.second.text) for c in found] == [("x", "y"), ("x", "z"), ("y", "z")]
    with pytest.raises(DataError, match="no row has two answers"):
        comparisons(read_questions(str(lines(tmp_path / "p.jsonl", {"prompt": "a", "completion": "b"}))).questions)


def test_an_out_file_from_elsewhere_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    mine = lines(tmp_path / "mine.jsonl", {"precious": True})
    with pytest.raises(DataError, match="exists and was not labeled here"):
        Labelling.open(read_questions(str(file)).questions, mine)


def test_differences_are_marked_word_by_word() -> None:
    left, right = differences("a b c", "a x c d")
    assert left == [("a ", False), ("b", True), (" c", False)]
    assert right == [("a ", False), ("x", True), (" c", False), (" d", True)]
    long = "word " * 3000
    assert differences(long, f"{long}!") == ([(long, False)], [(f"{long}!", False)])


@pytest.fixture
def page(tmp_path: Path) -> Iterator[devtools.Page]:
    path = devtools.browser()
    if path is None:
        pytest.skip("no Chromium on this machine: the labelling page is not driven by a browser here")
    opened = devtools.Page(path, tmp_path / "profile", size=(500, 800))
    yield opened
    opened.close()


def test_a_person_with_a_keyboard(
    page: devtools.Page, labelling: Labelling, server: LabelServer, tmp_path: Path
) -> None:
    """20 verdicts, a reload and an undo in the middle, each on disk before the next is shown; hostile text inert."""
    verdicts = tmp_path / "pairs.verdicts.jsonl"
    page.open(server.address)
    given: list[str] = []
    keys = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "t", "skip": "s"}
    for n in range(20):
        page.wait(f"document.querySelector('#count')?.textContent === '{n} of 20'")
        if n < 2:
            assert page.ask("document.querySelector('#prompt').innerText").split("\n")[-1] == HOSTILE
            assert (
                page.ask("document.querySelectorAll('main script, main img, main iframe, main style, main a').length")
                == 0
            )
        if n == 10:
            page.open(server.address)
            page.wait("document.querySelector('#count')?.textContent === '10 of 20'")
        if n == 12:
            page.press("u")
            page.wait("document.querySelector('#count').textContent === '11 of 20'")
            page.press(keys[given[-1]])
            page.wait("document.querySelector('#count').textContent === '12 of 20'")
        given.append(("left", "right", "tie", "left", "skip")[n % 5])
        page.press(keys[given[-1]])
        page.wait(f"document.querySelector('#count').textContent === '{n + 1} of 20'")
        assert json.loads(verdicts.read_text().splitlines()[-1])["side"] == given[-1]
    page.wait("document.querySelector('#message').textContent.startsWith('Everything is judged')")
    kept = [json.loads(line) for line in verdicts.read_text().splitlines()]
    undone = kept.index(next(row for row in kept if row.get("undone")))
    assert [row["side"] for row in (*kept[: undone - 1], *kept[undone + 1 :])] == given
    assert page.ask("window.hacked") is None
    assert page.ask("getComputedStyle(document.body).display") == "block"
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    assert page.log == []
    assert labelling.write() == 12
