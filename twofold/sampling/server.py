"""Any OpenAI-compatible server: one question, one whole answer, however often it takes.

What went wrong on the way is kept in the ledger beside what went right; a key comes from the environment, goes to the
host that it is meant for, and is never written down.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any

import httpx2
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from twofold.errors import RecipeError, ServerError
from twofold.ledger import Ledger
from twofold.settings import require, settings

KEY_VARIABLE = "TWOFOLD_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 16 * 2**20
LONGEST_WISH = 600.0  # seconds of Retry-After that are waited for
HOPELESS = {False: 3, True: 12}  # unanswered questions in a row, silent or answered with garbage: so would the rest be
AGAIN = (408, 409, 425, 429)


@settings
class Asking:
    """How a server is asked."""

    timeout: float = 120.0
    """Seconds for one whole answer."""
    attempts: int = 6
    """How often one question is asked before it is left for the next run."""
    pause: float = 1.0
    """Seconds before the second attempt; doubles, with jitter, up to a minute. A server's Retry-After goes before."""
    parallel: int = 8
    """Questions under way at once."""

    def __post_init__(self) -> None:
        require(self.timeout > 0 and self.pause >= 0, "timeout must be > 0 and pause ≥ 0")
        require(1 <= self.attempts <= 64 and self.parallel >= 1, "attempts must be in 1 … 64, parallel ≥ 1")


@dataclass(frozen=True)
class Endpoint:
    """A model behind a URL; `raw` servers continue text (…/completions), the others answer chats."""

    url: str
    model: str
    raw: bool

    @classmethod
    def of(cls, text: str) -> Endpoint:
        """From `https://host/v1#model`, or `https://host/v1/completions#model` for a base model."""
        base, _, model = text.partition("#")
        try:
            url = httpx2.URL(base)
        except httpx2.InvalidURL as error:
            raise RecipeError(f"is no URL: {error}", where=f"`{base}`") from None
        if url.userinfo or url.query:
            remedy = f"put the key into the environment variable {KEY_VARIABLE}"
            raise RecipeError("a server's URL must hold no password and no query", where=url.host, remedy=remedy)
        if url.scheme not in ("http", "https") or not url.host or not model:
            remedy = "write http://127.0.0.1:8000/v1#the-model's-name"
            raise RecipeError("names no server and model", where=f"`{text}`", remedy=remedy)
        base = base.rstrip("/")
        raw = base.endswith("/completions") and not base.endswith("/chat/completions")
        return cls(base if base.endswith("/completions") else f"{base}/chat/completions", model, raw)

    @property
    def host(self) -> str:
        return httpx2.URL(self.url).host


def is_url(text: str) -> bool:
    """Whether a model is named by a server's address, not by a folder or a hub name."""
    return text.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Reply:
    """What a server said; `truncated` where it ran out of tokens, `tokens` as it counted them (prompt, completion)."""

    text: str
    truncated: bool
    tokens: tuple[int, int] | None = None


class Garbage(ValueError):
    """A reply that arrived whole and is of no use; raised by those who read it, answered by asking again."""


@dataclass(frozen=True)
class Question:
    """A request's body, and `read`, which makes a JSON value of the reply or raises `Garbage`."""

    body: Mapping[str, Any]
    read: Callable[[Reply], Any]


class _Again(Exception):
    """An attempt that may go better next time; `after` is what the server asks to wait, `raw` what it said; `useless`
    where that was a whole answer."""

    def __init__(self, reason: str, after: float | None = None, raw: str = "", *, useless: bool = False) -> None:
        self.after, self.raw, self.useless = after, raw, useless
        super().__init__(reason)


class Server:
    """Asks one endpoint; a context manager. `body` makes requests, `ask` sends those that the ledger does not hold."""

    def __init__(self, endpoint: Endpoint, asking: Asking | None = None) -> None:
        self.endpoint, self.asking = endpoint, asking or Asking()
        self._key = api_key(endpoint)
        self._stop = Event()
        self._client = httpx2.Client(
            timeout=self.asking.timeout,
            limits=httpx2.Limits(max_connections=self.asking.parallel),
            trust_env=endpoint.host not in LOOPBACK,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._client.close()

    def body(self, prompt: Sequence[Mapping[str, str]] | str, **settings: Any) -> dict[str, Any]:
        """The request for an answer to a chat, or a text's continuation; a chat server gets text as a user's turn."""
        if isinstance(prompt, str) and not self.endpoint.raw:
            prompt = [{"role": "user", "content": prompt}]
        if not isinstance(prompt, str) and self.endpoint.raw:
            remedy = "name the server's chat address (…/v1), or give prompts as text"
            raise RecipeError("continues text, the prompts are chats", where=self.endpoint.url, remedy=remedy)
        field = "prompt" if self.endpoint.raw else "messages"
        return {"model": self.endpoint.model, field: prompt, **settings}

    def request(self, question: Question) -> dict[str, Any]:
        """What the ledger knows a question by: where it goes and what it says."""
        return {"url": self.endpoint.url, "body": question.body}

    def ask(self, questions: Sequence[Question], ledger: Ledger) -> Iterator[tuple[int, Any | None]]:
        """(place, what was read) of each question as it comes; None where every attempt failed.

        Recorded replies come first and cost nothing. Raises `ServerError` where a server refuses what it is asked, or
        where several questions in a row stay unanswered.
        """
        open_places: list[int] = []
        for place, question in enumerate(questions):
            known = ledger.get(self.request(question))
            if known is None:
                open_places.append(place)
            else:
                yield place, known["read"]
        pool = ThreadPoolExecutor(self.asking.parallel, thread_name_prefix="ask")
        try:
            yield from self._ask_open(questions, open_places, ledger, pool)
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
            self._stop.clear()

    def _ask_open(
        self, questions: Sequence[Question], places: Sequence[int], ledger: Ledger, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, Any | None]]:
        """Few questions wait in the pool at any time, so that stopping does not mean sending the rest."""
        ahead, failures = iter(places), list[_Again]()
        running: dict[Future[Any], int] = {}
        while True:
            while len(running) < 2 * self.asking.parallel and (place := next(ahead, None)) is not None:
                running[pool.submit(self._one, questions[place], ledger)] = place
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place = running.pop(future)
                try:
                    found = future.result()
                    failures.clear()
                except _Again as error:
                    found = None
                    failures.append(error)
                yield place, found
                self._despair(failures)

    def _despair(self, failures: Sequence[_Again]) -> None:
        """Raise `ServerError` once so many questions in a row stayed unanswered that the others would too."""
        if not failures or len(failures) < HOPELESS[failures[-1].useless]:
            return
        what = f"{len(failures)} questions in a row stayed unanswered after {self.asking.attempts} attempts each"
        remedy = "what was answered is kept: run the same command again once the server is well"
        raise ServerError(f"{what}: {failures[-1]}", where=self.endpoint.url, remedy=remedy)

    def _one(self, question: Question, ledger: Ledger) -> Any:
        """Ask until there is an answer of use; record it with what was made of it, and each failure."""
        request = self.request(question)

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            raw = error.raw if isinstance(error, _Again) else ""
            ledger.fail(request, str(error), attempt=state.attempt_number, raw=raw)

        retrying = Retrying(
            stop=stop_after_attempt(self.asking.attempts),
            wait=self._pause,
            retry=retry_if_exception_type(_Again),
            sleep=sleep_using_event(self._stop),
            after=failed,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                number = attempt.retry_state.attempt_number
                reply = self._send(_other(question.body, number))
                try:
                    read = question.read(reply)
                except Garbage as error:
                    raise _Again(str(error), raw=reply.text, useless=True) from None
                kept = {"text": reply.text, "truncated": reply.truncated, "tokens": reply.tokens, "read": read}
                ledger.add([(request, kept)])
                return read
        raise AssertionError("tenacity raises the last failure")

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        wish = error.after if isinstance(error, _Again) else None
        if wish is not None:
            return min(max(wish, 0.0), LONGEST_WISH)
        pause = self.asking.pause
        return (wait_exponential(multiplier=pause, max=60.0) + wait_random(0, pause))(state)

    def _send(self, body: Mapping[str, Any]) -> Reply:
        if self._stop.is_set():
            raise _Again("stopped")
        deadline = time.monotonic() + self.asking.timeout
        data = bytearray()
        try:
            with self._client.stream("POST", self.endpoint.url, json=body) as response:
                for part in response.iter_bytes():
                    data += part
                    if time.monotonic() > deadline:
                        raise _Again(f"no whole answer within {self.asking.timeout:g} s", raw=self._told(data))
                    if len(data) > MOST_BYTES:
                        raise _Again(f"the answer is longer than {MOST_BYTES} bytes")
        except httpx2.TransportError as error:
            what = "timed out" if isinstance(error, httpx2.TimeoutException) else str(error) or type(error).__name__
            raise _Again(self._redacted(what), raw=self._told(data)) from None
        text = self._redacted(data.decode("utf-8", "replace"))
        if response.status_code != 200:
            self._refused(response, text)
        return _reply(text)

    def _refused(self, response: httpx2.Response, text: str) -> None:
        status = response.status_code
        what = f"HTTP {status}: {_short(_message(text))}"
        if status in AGAIN or status >= 500:
            raise _Again(what, _seconds(response.headers.get("Retry-After")), raw=text[:2000])
        remedy = {401: f"set {KEY_VARIABLE}", 403: f"set {KEY_VARIABLE} to a key that may do this"}.get(
            status, "check the address and the model's name behind #"
        )
        raise ServerError(what, where=self.endpoint.url, remedy=remedy)

    def _told(self, data: bytearray) -> str:
        return self._redacted(data[:2000].decode("utf-8", "replace"))

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def api_key(endpoint: Endpoint) -> str | None:
    """The key for an endpoint's host: TWOFOLD_API_KEY_HOST_NAME, else TWOFOLD_API_KEY, which never leaves in clear."""
    own = f"{KEY_VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', endpoint.host.upper())}"
    if own in os.environ:
        return os.environ[own].strip() or None
    found = os.environ.get(KEY_VARIABLE, "").strip() or None
    if found and endpoint.url.startswith("http:") and endpoint.host not in LOOPBACK:
        remedy = f"use https, or set {own} if the wire to it is safe"
        raise RecipeError(f"{KEY_VARIABLE} would be sent in clear", where=endpoint.url, remedy=remedy)
    return found


def _other(body: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """A later attempt draws with another seed, or it would hear the same garbage again."""
    return {**body, "seed": body["seed"] + attempt - 1} if "seed" in body else dict(body)


def _reply(text: str) -> Reply:
    """The first choice of a completion object, of either endpoint; raises `_Again` for anything else or half of it."""
    try:
        whole = json.loads(text)
        choice = whole["choices"][0]
        said = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise _Again("the answer is no completion", raw=text[:2000]) from None
    if not isinstance(said, str):
        raise _Again("the answer holds no text", raw=text[:2000])
    usage = whole.get("usage") or {}
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
    tokens = (counts[0], counts[1]) if all(isinstance(c, int) for c in counts) else None
    clean = said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Reply(clean, choice.get("finish_reason") == "length", tokens)  # type: ignore[arg-type]  # checked above


def _message(text: str) -> str:
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return text


def _seconds(header: str | None) -> float | None:
    """Retry-After in either of its forms: seconds, or a date."""
    if header is None:
        return None
    try:
        seconds = float(header)
        return None if math.isnan(seconds) else seconds
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None


def _short(text: str, width: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
