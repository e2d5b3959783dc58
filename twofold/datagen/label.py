"""The labeling page: two answers side by side on a loopback address, each verdict on disk before the next is shown."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from threading import Lock
from typing import Any

from twofold.data.differences import differences
from twofold.datagen.rows import fields_of
from twofold.errors import DataError
from twofold.judges.people import Choice, HumanVerdicts, content_key, swapped, verdicts_path
from twofold.judges.questions import Question
from twofold.ledger import write_rows
from twofold.loopback import LoopbackHandler, LoopbackServer
from twofold.records import Candidate, turn_parts

MOST_BODY = 4096
MOST_SECONDS = 1e9
SIDES = ("left", "right", "tie", "skip")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGES = {"/": ("label.html", "text/html"), "/label.css": ("label.css", "text/css"),
         "/label.js": ("label.js", "text/javascript")}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two answers to one question; `number` counts comparisons from 1, `key` stays when rows move."""

    key: str
    number: int
    question: Question
    first: Candidate
    second: Candidate


def comparisons(questions: Sequence[Question]) -> list[Comparison]:
    """Every pair of answers of each question. Raises DataError if no row has two."""
    found: list[Comparison] = []
    seen: Counter[str] = Counter()
    for question in questions:
        for first, second in combinations(question.candidates, 2):
            content = content_key(question.prompt, first.completion, second.completion)
            seen[content] += 1
            name = content if seen[content] == 1 else f"{content}-{seen[content]}"
            found.append(Comparison(name, len(found) + 1, question, first, second))
    if not found:
        remedy = "rows need chosen and rejected, completions, or answers: twofold data build … --judge human"
        raise DataError("no row has two answers to compare", where=questions[0].source.file, remedy=remedy)
    return found


class Labelling:
    """The comparisons of a file and their verdicts. Threads may share it."""

    def __init__(self, found: Sequence[Comparison], verdicts: HumanVerdicts, out: Path, seed: int) -> None:
        self._comparisons, self._verdicts, self._out, self._seed = found, verdicts, out, seed
        self._lock = Lock()

    @classmethod
    def open(cls, questions: Sequence[Question], out: Path, *, seed: int = 0) -> Labelling:
        """Read the verdicts next to `out`, if any. Refuses an `out` that was not labeled here."""
        path = verdicts_path(out)
        if out.exists() and not path.exists():
            remedy = "name another --out, or move it away"
            raise DataError("exists and was not labeled here", where=str(out), remedy=remedy)
        return cls(comparisons(questions), HumanVerdicts(path), out, seed)

    def __enter__(self) -> Labelling:
        return self

    def __exit__(self, *_: object) -> None:
        self._verdicts.__exit__()

    def progress(self) -> dict[str, int]:
        """How many comparisons there are, and how many have a verdict."""
        done = sum(c.key in self._verdicts for c in self._comparisons)
        return {"total": len(self._comparisons), "done": done}

    def state(self) -> dict[str, Any]:
        """What the page shows: progress, and the first comparison without a verdict (None after the last)."""
        with self._lock:
            return self._state()

    def give(self, name: str, side: str, seconds: float) -> dict[str, Any] | None:
        """Store a verdict on the current comparison, and show the next. None if another comparison is current."""
        with self._lock:
            current = self._current()
            if current is None or current.key != name:
                return None
            self._verdicts.give(name, self._choice(current, side), row=current.number, side=side, seconds=seconds)
            return self._state()

    def undo(self) -> dict[str, Any]:
        """Undo the last verdict and show its comparison again."""
        with self._lock:
            self._verdicts.undo()
            return self._state()

    def write(self) -> int:
        """Write the pairs from the verdicts, and return their number."""
        rows = list(self._pairs())
        write_rows(self._out, rows)
        return len(rows)

    def _current(self) -> Comparison | None:
        return next((c for c in self._comparisons if c.key not in self._verdicts), None)

    def _state(self) -> dict[str, Any]:
        current = self._current()
        return {**self.progress(), "row": None if current is None else self._row(current)}

    def _row(self, comparison: Comparison) -> dict[str, Any]:
        texts = [comparison.first.text, comparison.second.text]
        left, right = differences(*(texts[::-1] if swapped(self._seed, comparison.number) else texts))
        prompt = comparison.question.prompt
        parts = [("", prompt)] if isinstance(prompt, str) else turn_parts(prompt)
        told = [{"role": role, "text": text} for role, text in parts]
        return {"key": comparison.key, "number": comparison.number, "prompt": told, "left": left, "right": right}

    def _choice(self, comparison: Comparison, side: str) -> Choice:
        if side in ("tie", "skip"):
            return side
        return "second" if (side == "right") != swapped(self._seed, comparison.number) else "first"

    def _pairs(self) -> Iterator[dict[str, Any]]:
        for comparison in self._comparisons:
            choice = self._verdicts.get(comparison.key)
            if choice not in ("first", "second"):
                continue
            better, worse = comparison.first, comparison.second
            if choice == "second":
                better, worse = worse, better
            told = {"chosen": better.origin, "rejected": worse.origin, "judge": {"kind": "human"},
                    "source": str(comparison.question.source)}  # fmt: skip
            fields = fields_of(comparison.question, chosen=better.completion, rejected=worse.completion)
            yield {**fields, "provenance": told}


class LabelServer(LoopbackServer):
    """Serves the labeling page to everyone with the `address`, on this machine only; a context manager."""

    def __init__(self, labelling: Labelling, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(32)
        super().__init__(_handler(labelling, self.token), port)
        self.address += f"#{self.token}"


def _handler(labelling: Labelling, token: str) -> type[LoopbackHandler]:
    class Handler(_Handler):
        pass

    Handler.labelling, Handler.token = labelling, token
    return Handler


class _Handler(LoopbackHandler):
    """Refuses other hosts than this machine (DNS rebinding), requests of other pages, and requests without a token."""

    labelling: Labelling
    token: str
    policy = POLICY

    def do_GET(self) -> None:
        if not self.is_local():
            return
        if self.path in PAGES:
            name, kind = PAGES[self.path]
            page = (files("twofold.datagen") / "page" / name).read_bytes()
            self.reply(HTTPStatus.OK, page, f"{kind}; charset=utf-8")
        elif self.path == "/state":
            if self._has_token():
                self._tell(self.labelling.state())
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        self.close_connection = True  # a refused request's body is never read
        if not (self.is_local() and self._is_own_page() and self._has_token()):
            return
        asked = self._body()
        if asked is None:
            return
        if self.path == "/undo":
            self._tell(self.labelling.undo())
        elif self.path == "/verdict":
            self._verdict(asked)
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "no such page")

    def _verdict(self, asked: Mapping[str, Any]) -> None:
        name, side, seconds = asked.get("key"), asked.get("choice"), asked.get("seconds", 0.0)
        timed = isinstance(seconds, int | float) and 0 <= seconds <= MOST_SECONDS  # NaN is neither
        if not isinstance(name, str) or side not in SIDES or not timed:
            self.refuse(HTTPStatus.BAD_REQUEST, "no such verdict")
            return
        try:
            state = self.labelling.give(name, side, seconds)
        except DataError as error:
            self.refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
            return
        if state is None:
            self.refuse(HTTPStatus.CONFLICT, "another comparison is open")
        else:
            self._tell(state)

    def _is_own_page(self) -> bool:
        origin = self.headers.get("Origin")
        own = origin in (None, f"http://{self.headers.get('Host')}")
        site = self.headers.get("Sec-Fetch-Site") in (None, "same-origin")
        kind = self.headers.get_content_type() == "application/json"
        if not (own and site and kind):
            self.refuse(HTTPStatus.FORBIDDEN, "another page may not judge")
        return own and site and kind

    def _has_token(self) -> bool:
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        if secrets.compare_digest(given, f"Bearer {self.token}".encode()):
            return True
        self.refuse(HTTPStatus.UNAUTHORIZED, "the address lacks its token")
        return False

    def _body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MOST_BODY:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a verdict is short")
            return None
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.refuse(HTTPStatus.BAD_REQUEST, "no JSON object")
            return None
        return found

    def _tell(self, value: Mapping[str, Any]) -> None:
        self.reply(HTTPStatus.OK, json.dumps(value).encode(), "application/json")
