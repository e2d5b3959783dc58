"""One request over HTTP, with retries, pauses, deadlines and limits. The API key is never written to disk."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from twofold.errors import RecipeError, ServerError
from twofold.settings import require, settings

if TYPE_CHECKING:  # imported where a request is made: training needs neither
    import httpx2
    from tenacity import RetryCallState, Retrying

KEY_VARIABLE = "TWOFOLD_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 16 * 2**20
MOST_MESSAGE = 2000
UNKNOWN = re.compile(
    r"unsupported|n[o']t support|unrecogni[sz]ed|unknown|unexpected|not (?:permitted|allowed|accepted)"
    r"|extra (?:field|input)|only the default|deprecated",
    re.IGNORECASE,
)
REFUSED = "the server refuses the request for the reason above; also check the address and the model's name after #"
LONGEST_WISH = 600.0  # maximum seconds of Retry-After
AGAIN = (408, 409, 425, 429)


@settings
class RetrySettings:
    """How a server is asked."""

    timeout: float = 120.0
    """Timeout in seconds for one whole response."""
    attempts: int = 6
    """How often one question is asked before it is left for the next run."""
    pause: float = 1.0
    """Seconds before the second attempt; doubles, with jitter, up to a minute. A server's Retry-After goes before."""
    parallel: int = 8
    """Questions under way at once."""
    per_minute: float | None = None
    """Maximum number of requests per minute to one server."""
    prices: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Dollars per million prompt and completion tokens, by the model's name."""
    max_spend: float | None = None
    """Maximum dollars for one server: then the work ends with exit code 2, and the same command resumes."""

    def __post_init__(self) -> None:
        require(self.timeout > 0 and self.pause >= 0, "timeout must be > 0 and pause ≥ 0")
        require(1 <= self.attempts <= 64 and self.parallel >= 1, "attempts must be in 1 … 64, parallel ≥ 1")
        require(self.per_minute is None or self.per_minute > 0, "per_minute must be > 0")
        require(self.max_spend is None or self.max_spend > 0, "max_spend must be > 0")
        require(all(min(price) >= 0 for price in self.prices.values()), "prices must be ≥ 0")


class RetryableError(Exception):
    """An attempt that failed and may be repeated. `after` is the server's requested wait, `raw` its response. `useless`
    is true if that was a complete answer."""

    def __init__(self, reason: str, after: float | None = None, raw: str = "", *, useless: bool = False) -> None:
        self.after, self.raw, self.useless = after, raw, useless
        super().__init__(reason)


class RefusedFieldError(ServerError):
    """A server does not accept one field of a request, or (if not `unknown`) this value of it."""

    def __init__(self, what: str, where: str, field: str, *, unknown: bool) -> None:
        self.field, self.unknown = field, unknown
        remedy = f"the server refuses `{field}` of the request: name a model that takes it, or write #NAME?{field}=null"
        super().__init__(what, where=where, remedy=remedy)


class BadRequestError(ServerError):
    """A server refuses a request without naming a field of it."""


class HttpClient:
    """A client of one host."""

    def __init__(self, url: str, retry: RetrySettings) -> None:
        """Raises RecipeError if the key would be sent without encryption."""
        import httpx2

        host = httpx2.URL(url).host
        self.retry, self.stop = retry, Event()
        self._next, self._lock = 0.0, Lock()
        self._key = api_key(url)
        self._client = httpx2.Client(
            timeout=retry.timeout,
            limits=httpx2.Limits(max_connections=retry.parallel),
            trust_env=host not in LOOPBACK,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
        )

    def close(self) -> None:
        """Abort open requests."""
        self.stop.set()
        self._client.close()

    def retrying(self, failed: Callable[[RetryCallState], None] = lambda state: None) -> Retrying:
        """Repeat until an attempt raises no RetryableError. Raises the last failure."""
        from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_after_attempt

        return Retrying(
            stop=stop_after_attempt(self.retry.attempts),
            wait=self._pause,
            retry=retry_if_exception_type(RetryableError),
            sleep=sleep_using_event(self.stop),
            after=failed,
            reraise=True,
        )

    def _pause(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential, wait_random

        error = state.outcome.exception() if state.outcome else None
        wish = error.after if isinstance(error, RetryableError) else None
        if wish is not None:
            return min(max(wish, 0.0), LONGEST_WISH)
        pause = self.retry.pause
        return (wait_exponential(multiplier=pause, max=60.0) + wait_random(0, pause))(state)

    def post(self, url: str, body: Mapping[str, Any], remedies: Mapping[int, str] | None = None) -> str:
        """The text of a good answer. Raises RetryableError for a failure that may be temporary, ServerError (with the
        remedy for its status) for a refusal."""
        import httpx2

        self._wait_for_turn()
        if self.stop.is_set():
            raise RetryableError("stopped")
        deadline = time.monotonic() + self.retry.timeout
        data = bytearray()
        try:
            with self._client.stream("POST", url, json=body) as response:
                for part in response.iter_bytes():
                    data += part
                    if time.monotonic() > deadline:
                        raise RetryableError(
                            f"no whole answer within {self.retry.timeout:g} s", raw=self._excerpt(data)
                        )
                    if len(data) > MOST_BYTES:
                        raise RetryableError(f"the answer is longer than {MOST_BYTES} bytes")
        except httpx2.RequestError as error:
            what = "timed out" if isinstance(error, httpx2.TimeoutException) else str(error) or type(error).__name__
            raise RetryableError(self._redacted(what), raw=self._excerpt(data)) from None
        text = self._redacted(data.decode("utf-8", "replace"))
        if response.status_code != 200:
            self._refused(response, text, (url, body), remedies or {})
        return text

    def _wait_for_turn(self) -> None:
        """Until `per_minute` allows another request, or a stop."""
        if self.retry.per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 60 / self.retry.per_minute
        self.stop.wait(turn - now)

    def _refused(
        self, response: httpx2.Response, text: str, request: tuple[str, Mapping[str, Any]], remedies: Mapping[int, str]
    ) -> None:
        status, (url, body) = response.status_code, request
        what = f"HTTP {status}: {_short(_message(text))}"
        if status in AGAIN or status >= 500:
            raise RetryableError(what, _seconds(response.headers.get("Retry-After")), raw=text[:2000])
        if status in (400, 422) and (field := _refused_field(text, body)):
            unknown = UNKNOWN.search(_message(text)[:MOST_MESSAGE]) is not None
            raise RefusedFieldError(what, url, field, unknown=unknown)
        key = {401: f"set {KEY_VARIABLE}", 403: f"set {KEY_VARIABLE} to a key that may do this"}
        address = "check the address and the model's name behind #"
        remedy = {**key, 404: address, 405: address, **remedies}.get(status, REFUSED)
        raise (BadRequestError if status in (400, 422) else ServerError)(what, where=url, remedy=remedy)

    def _excerpt(self, data: bytearray) -> str:
        return self._redacted(data[:2000].decode("utf-8", "replace"))

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def api_key(url: str) -> str | None:
    """The key for an address's host: TWOFOLD_API_KEY_HOST_NAME, or TWOFOLD_API_KEY, which is only sent encrypted."""
    import httpx2

    host = httpx2.URL(url).host
    own = f"{KEY_VARIABLE}_{re.sub(r'[^A-Z0-9]', '_', host.upper())}"
    if own in os.environ:
        return os.environ[own].strip() or None
    found = os.environ.get(KEY_VARIABLE, "").strip() or None
    if found and url.startswith("http:") and host not in LOOPBACK:
        remedy = f"use https, or set {own} if the wire to it is safe"
        raise RecipeError(f"{KEY_VARIABLE} would be sent in clear", where=url, remedy=remedy)
    return found


def loads(text: str) -> Any:
    """Untrusted JSON. Raises ValueError for anything else, including JSON that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _message(text: str) -> str:
    """The reason in a refusal: {"error": {"message": …}}, {"error": …} or SGLang's {"message": …}."""
    try:
        whole = loads(text)
        error = whole.get("error", whole)
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return text


def _refused_field(text: str, body: Mapping[str, Any]) -> str | None:
    """The setting of a request that an error is about: its `param`, or the first that it names."""
    settings = {name for name in body if name not in ("model", "messages", "prompt")}
    try:
        named = loads(text)["error"]["param"]
    except (ValueError, KeyError, TypeError, IndexError):
        named = None
    if named in settings:
        return named
    words = re.findall(r"\w+", _message(text)[:MOST_MESSAGE])
    return next((word for word in words if word in settings), None)


def _seconds(header: str | None) -> float | None:
    """Retry-After in either of its forms: seconds, or a date."""
    if header is None:
        return None
    try:
        seconds = float(header)
        return seconds if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _short(text: str, width: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
