"""Client of any OpenAI-compatible server: one request, one complete answer, with retries.

The ledger stores failures along with answers. A key comes from the environment, is sent only to its host, and is never
written to disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from twofold.client.cost import Forecast, Meter
from twofold.client.http import KEY_VARIABLE, BadRequestError, HttpClient, RefusedFieldError, RetryableError, loads
from twofold.client.http import RetrySettings as RetrySettings
from twofold.errors import RecipeError, ServerError
from twofold.ledger import Ledger, key

if TYPE_CHECKING:
    from tenacity import RetryCallState

HOPELESS = {False: 3, True: 12}  # failed requests in a row, without or with a useless answer, after which work ends


@dataclass(frozen=True)
class Endpoint:
    """A model behind a URL; `raw` servers continue text (…/completions), the others answer chats. `fields` are the
    user's own fields of every request; None leaves a field out."""

    url: str
    model: str
    raw: bool
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, text: str) -> Endpoint:
        """From `https://host/v1#model`, or `https://host/v1/completions#model` for a base model. Fields of requests
        follow as `#model?name=value&name=value`; values are JSON, or else text."""
        import httpx2

        base, _, rest = text.partition("#")
        model, _, query = rest.partition("?")
        try:
            url = httpx2.URL(base)
        except httpx2.InvalidURL as error:
            remedy = "write it as http://127.0.0.1:8000/v1"
            raise RecipeError(f"is no URL: {error}", where=f"`{base}`", remedy=remedy) from None
        if url.userinfo or url.query:
            remedy = f"put the key into the environment variable {KEY_VARIABLE}"
            raise RecipeError("a server's URL must hold no password and no query", where=url.host, remedy=remedy)
        if url.scheme not in ("http", "https") or not url.host or not model:
            remedy = "write http://127.0.0.1:8000/v1#the-model's-name"
            raise RecipeError("names no server and model", where=f"`{text}`", remedy=remedy)
        base = base.rstrip("/")
        raw = base.endswith("/completions") and not base.endswith("/chat/completions")
        address = base if base.endswith("/completions") else f"{base}/chat/completions"
        return cls(address, model, raw, _fields(query, text))

    @property
    def host(self) -> str:
        import httpx2

        return httpx2.URL(self.url).host


def is_url(text: str) -> bool:
    """Whether a model is named by a server's address instead of a folder or a hub name."""
    return text.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Reply:
    """A server's answer; `truncated` if it ran out of tokens, `tokens` by the server's count (prompt, completion).
    `more` are the filled keys of its message besides role and content: reasoning, calls of tools. With some of them
    `text` may be empty. `tops` are the tokens, each with the log-probabilities of the likeliest ones in its place, if
    they were requested."""

    text: str
    truncated: bool
    tokens: tuple[int, int] | None = None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tops: Sequence[tuple[str, Mapping[str, float]]] = ()


class UnparsableReply(ValueError):
    """A reply that is complete but useless. Its reader raises it, and the request is sent again."""


@dataclass(frozen=True)
class CompletionRequest:
    """A request's body, and `read`, which converts the reply to a JSON value or raises `Garbage`."""

    body: Mapping[str, Any]
    read: Callable[[Reply], Any]


RENAMED = {"max_tokens": "max_completion_tokens"}


class Server:
    """Client of one endpoint; a context manager. `body` makes requests, `ask` sends those that are not in the ledger.

    A setting that the server refuses is sent with its other name. If it has none and is `optional`, it is left out.
    `take_notes` reports each such change once.
    """

    def __init__(
        self, endpoint: Endpoint, retry: RetrySettings | None = None, *, optional: Collection[str] = ()
    ) -> None:
        self.endpoint, self.retry, self.optional = endpoint, retry or RetrySettings(), optional
        self._notes: list[str] = []
        self._changes: dict[str, str | None] = {}
        self._lock = Lock()
        where = f"{endpoint.url}#{endpoint.model}"
        self.meter = Meter(where, self.retry.prices.get(endpoint.model), self.retry.max_spend)
        self.note: Callable[[str], None] = lambda text: None
        """Receives the estimate of each work."""
        self._counted: set[str] = set()
        self._wire = HttpClient(endpoint.url, self.retry)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def body(self, prompt: Sequence[Mapping[str, str]] | str, **settings: Any) -> dict[str, Any]:
        """The request for an answer to a chat or a continuation of a text. A chat server gets text as a user's turn."""
        if isinstance(prompt, str) and not self.endpoint.raw:
            prompt = [{"role": "user", "content": prompt}]
        if not isinstance(prompt, str) and self.endpoint.raw:
            remedy = "name the server's chat address (…/v1), or give prompts as text"
            raise RecipeError("continues text, the prompts are chats", where=self.endpoint.url, remedy=remedy)
        place = "prompt" if self.endpoint.raw else "messages"
        whole = {"model": self.endpoint.model, place: prompt, **settings, **self.endpoint.fields}
        return {name: value for name, value in whole.items() if value is not None}

    @property
    def refused(self) -> list[str]:
        """The settings that the server does not accept and that are left out."""
        return sorted(name for name, other in self._changes.items() if other is None)

    def take_notes(self) -> list[str]:
        """The refused settings since the last call."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes

    def request(self, question: CompletionRequest) -> dict[str, Any]:
        """The key of a question in the ledger: its address and its body."""
        return {"url": self.endpoint.url, "body": question.body}

    def ask(self, questions: Sequence[CompletionRequest], ledger: Ledger) -> Iterator[tuple[int, Any | None]]:
        """(index, result) of each question as it completes; None if every attempt failed.

        Recorded replies come first and cost nothing. Raises `ServerError` if the server refuses a request, or if
        several questions in a row remain without an answer, SpendLimitError at the limit on spending.
        """
        open_places: list[int] = []
        for place, question in enumerate(questions):
            request = self.request(question)
            known = ledger.get(request)
            if known is None:
                open_places.append(place)
                continue
            if (name := key(request)) not in self._counted:
                self._counted.add(name)
                self.meter.count(known.get("tokens"), question.body, str(known.get("text") or ""))
            yield place, known["read"]
        if open_places:
            forecast = Forecast.of([questions[place].body for place in open_places])
            self.note(f"{self.meter.where}: {forecast.text(self.meter.price)}")
        pool = ThreadPoolExecutor(self.retry.parallel, thread_name_prefix="ask")
        try:
            yield from self._ask_open(questions, open_places, ledger, pool)
        finally:
            self._wire.stop.set()
            pool.shutdown(cancel_futures=True)
            self._wire.stop.clear()

    def _ask_open(
        self, questions: Sequence[CompletionRequest], places: Sequence[int], ledger: Ledger, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, Any | None]]:
        """Only a few questions wait in the pool at any time, so that a stop does not send all the others first."""
        waiting, failures = deque(places), list[RetryableError]()
        running: dict[Future[Any], int] = {}
        while True:
            while waiting and len(running) < 2 * self.retry.parallel and self.meter.has_room(len(running)):
                place = waiting.popleft()
                running[pool.submit(self._one, questions[place], ledger)] = place
            if not running:
                if waiting:
                    raise self.meter.limit_error(len(waiting))
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place = running.pop(future)
                try:
                    found = future.result()
                    failures.clear()
                except RetryableError as error:
                    found = None
                    failures.append(error)
                yield place, found
                self._despair(failures)

    def _despair(self, failures: Sequence[RetryableError]) -> None:
        """Raise `ServerError` after several failures in a row, when the other questions would fail, too."""
        if not failures or len(failures) < HOPELESS[failures[-1].useless]:
            return
        what = f"{len(failures)} questions in a row stayed unanswered after {self.retry.attempts} attempts each"
        remedy = "what was answered is kept: run the same command again once the server is well"
        raise ServerError(f"{what}: {failures[-1]}", where=self.endpoint.url, remedy=remedy)

    def _one(self, question: CompletionRequest, ledger: Ledger) -> Any:
        """Send the request until there is a useful answer. Record it with its result, and each failure."""
        request = self.request(question)

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            raw = error.raw if isinstance(error, RetryableError) else ""
            ledger.fail(request, str(error), attempt=state.attempt_number, raw=raw)

        retrying = self._wire.retrying(failed)
        for attempt in retrying:
            with attempt:
                number = attempt.retry_state.attempt_number
                reply = _reply(self._post(_other(question.body, number)))
                self.meter.count(reply.tokens, question.body, reply.text)
                self._counted.add(key(request))
                try:
                    read = question.read(reply)
                except UnparsableReply as error:
                    raise RetryableError(str(error), raw=reply.text, useless=True) from None
                kept = {"text": reply.text, "truncated": reply.truncated, "tokens": reply.tokens, "read": read}
                ledger.add([(request, kept)])
                return read
        raise AssertionError("tenacity raises the last failure")

    def _post(self, body: Mapping[str, Any]) -> str:
        """The text of a good answer, requested without the fields that the server has refused."""
        while True:
            changes = {name: other for name, other in self._changes.items() if other or name in self.optional}
            names = {name: changes.get(name, name) for name in body}
            sent = {other: body[name] for name, other in names.items() if other is not None}
            try:
                return self._wire.post(self.endpoint.url, sent)
            except RefusedFieldError as error:
                self._change(error)
            except BadRequestError as error:
                return self._without_optional(sent, error)

    def _without_optional(self, sent: Mapping[str, Any], error: BadRequestError) -> str:
        """The answer to a request whose refusal names no field: without optional fields, one more each time. Those are
        left out from then on. Raises `error` if that does not help."""
        names = [name for name in self.optional if name in sent]
        for count in range(1, len(names) + 1):
            try:
                answer = self._wire.post(self.endpoint.url, {k: v for k, v in sent.items() if k not in names[:count]})
            except (BadRequestError, RefusedFieldError):
                continue
            with self._lock:
                for name in names[:count]:
                    if name not in self._changes:
                        self._changes[name] = None
                        self._notes.append(self._left_out(name))
            return answer
        raise error

    def _change(self, error: RefusedFieldError) -> None:
        """From now on, send a refused setting in another way. Raises `error` if there is none."""
        with self._lock:
            name = next((name for name, other in self._changes.items() if other == error.field), error.field)
            handled = name in self._changes and self._changes[name] != error.field
            if handled and (self._changes[name] or name in self.optional):
                return  # another thread has already handled it
            other = RENAMED.get(name) if name not in self._changes else None
            if not error.unknown or (other is None and name not in self.optional):
                raise error
            self._changes[name] = other
            sent = f"{self.endpoint.url} does not take `{error.field}`: `{other}` is sent in its place"
            self._notes.append(sent if other else self._left_out(error.field))

    def _left_out(self, name: str) -> str:
        return f"{self.endpoint.url} does not take `{name}`: it is left out, the server's own default holds"


def _fields(query: str, text: str) -> dict[str, Any]:
    """The fields of `name=value&name=value`."""
    fields: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier() or name in ("model", "messages", "prompt"):
            remedy = "write #model?name=value, such as #m?reasoning_effort=low&seed=null"
            raise RecipeError(f"`{part}` is no field of a request", where=f"`{text}`", remedy=remedy)
        try:
            fields[name] = loads(unquote(value))
        except ValueError:
            fields[name] = unquote(value)
    return fields


def _other(body: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """A later attempt uses another seed, because otherwise it would get the same useless answer."""
    return {**body, "seed": body["seed"] + attempt - 1} if "seed" in body else dict(body)


def _reply(text: str) -> Reply:
    """The first choice of a completion object, of either endpoint. Raises `RetryableError` for anything else."""
    try:
        whole = loads(text)
        choice = whole["choices"][0]
        message = {**choice["message"]} if "message" in choice else {"content": choice["text"]}
    except (ValueError, KeyError, IndexError, TypeError):
        raise RetryableError("the answer is no completion", raw=text[:2000]) from None
    said = message.pop("content", None)
    said = message.pop("refusal", None) if said is None else said
    more = {name: value for name, value in message.items() if name != "role" and value not in (None, "", [], {})}
    if not isinstance(said, str) and (said is not None or not more):
        raise RetryableError("the answer holds no text", raw=text[:2000])
    usage = whole.get("usage") or {}
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
    tokens = (counts[0], counts[1]) if all(isinstance(c, int) for c in counts) else None
    tops = _tops(choice.get("logprobs"))
    clean = (said or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Reply(clean, choice.get("finish_reason") == "length", tokens, more, tops)  # type: ignore[arg-type]  # checked above


def _tops(found: Any) -> list[tuple[str, dict[str, float]]]:
    """Log-probabilities of tokens, as of chats or as of completions; none if there are none, or of another shape."""
    try:
        if found.get("content") is not None:
            rows = [(t["token"], {o["token"]: o["logprob"] for o in (t, *t["top_logprobs"])}) for t in found["content"]]
        else:
            rows = list(zip(found["tokens"], found["top_logprobs"], strict=True))
        return [(str(token), {str(name): float(value) for name, value in tops.items()}) for token, tops in rows]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
