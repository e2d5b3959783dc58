"""What requests to a server cost: an estimate before they are sent, and the spend by the server's own counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from twofold.errors import RecipeError, TwofoldError

PER_TOKEN = 4
"""Characters of English text in a token, roughly; used where a server has not counted."""
MILLION = 1e6


class SpendLimitError(TwofoldError):
    """The limit on spending is reached. What was answered is stored."""


@dataclass(frozen=True)
class Forecast:
    """Requests that are not in the ledger, the approximate number of their prompt tokens, and the maximum number of
    their completion tokens (None if a request has no limit)."""

    requests: int
    prompt: int
    completion: int | None

    @classmethod
    def of(cls, bodies: Sequence[Mapping[str, Any]]) -> Forecast:
        """Tokens of prompts from their characters."""
        most = [body.get("max_tokens", body.get("max_completion_tokens")) for body in bodies]
        limits = [limit for limit in most if isinstance(limit, int)]
        completion = sum(limits) if len(limits) == len(bodies) else None
        return cls(len(bodies), sum(map(_prompt_tokens, bodies)), completion)

    def text(self, price: tuple[float, float] | None) -> str:
        """In words, with the cost if there is a price."""
        requests = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        completion = "" if self.completion is None else f", at most {self.completion:,} completion tokens"
        words = f"{requests} to send, about {self.prompt:,} prompt tokens{completion}"
        if price is None or self.completion is None:
            return words
        return f"{words}: at most about ${dollars(price, self.prompt, self.completion):.4g}"


class Meter:
    """The tokens that a server has counted; safe to share between threads. `price` is in dollars per million prompt and
    completion tokens, `limit` in dollars."""

    def __init__(self, where: str, price: tuple[float, float] | None, limit: float | None) -> None:
        """Raises RecipeError for a limit without a price."""
        if limit is not None and price is None:
            name = where.rpartition("#")[2]
            remedy = f"add its dollars per million prompt and completion tokens: --price {name}=0.15,0.60"
            raise RecipeError("max_spend requires the model's price", where=where, remedy=remedy)
        self.where, self.price, self.limit = where, price, limit
        self.requests = self.prompt = self.completion = self.estimated = 0
        self._lock = Lock()

    def count(self, tokens: Sequence[int] | None, body: Mapping[str, Any], text: str) -> None:
        """Add a reply. Without the server's counts its tokens are estimated."""
        prompt, completion = tokens or (_prompt_tokens(body), -(-len(text) // PER_TOKEN))
        with self._lock:
            self.requests += 1
            self.estimated += not tokens
            self.prompt += prompt
            self.completion += completion

    def has_room(self, running: int) -> bool:
        """Whether another request fits into the limit next to those under way, at the mean cost of a request. Nothing
        is sent next to the first one, whose cost is not known."""
        if self.limit is None or self.price is None:
            return True
        if not self.requests:
            return not running
        spent = dollars(self.price, self.prompt, self.completion)
        return spent < self.limit and spent + (running + 1) * spent / max(1, self.requests) <= self.limit

    def limit_error(self, left: int) -> SpendLimitError:
        """The error for `left` requests that were not sent."""
        assert self.price is not None, "a limit has one"
        spent = dollars(self.price, self.prompt, self.completion)
        what = f"${spent:.4g} of max_spend ${self.limit:.4g} are spent, and {left:,} requests are left"
        remedy = "what was answered is stored: raise max_spend, and the same command resumes"
        return SpendLimitError(what, where=self.where, remedy=remedy)

    def text(self) -> str:
        """In words."""
        return spend_text(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """As in JSON; `estimated` is the number of replies without the server's counts."""
        found: dict[str, Any] = {
            "server": self.where, "requests": self.requests, "prompt_tokens": self.prompt,
            "completion_tokens": self.completion, "estimated": self.estimated,
        }  # fmt: skip
        return found if self.price is None else {**found, "dollars": dollars(self.price, self.prompt, self.completion)}


def dollars(price: tuple[float, float], prompt: int, completion: int) -> float:
    """The cost of tokens."""
    return (price[0] * prompt + price[1] * completion) / MILLION


def spend_text(spend: Mapping[str, Any]) -> str:
    """What `Meter.as_dict` counts, in words."""
    cost = f", ${spend['dollars']:.4g}" if "dollars" in spend else ""
    about = ", some estimated" if spend["estimated"] else ""
    tokens = f"{spend['prompt_tokens']:,} prompt and {spend['completion_tokens']:,} completion tokens{about}"
    return f"{spend['server']}: {spend['requests']:,} replies, {tokens}{cost}"


def total(spends: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The spend of each server, over several parts of the work."""
    found: dict[str, dict[str, Any]] = {}
    for spend in spends:
        known = found.setdefault(spend["server"], {"server": spend["server"]})
        for name, value in spend.items():
            if name != "server":
                known[name] = known.get(name, 0) + value
    return list(found.values())


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    text = body.get("prompt", "")
    length = len(text) if isinstance(text, str) else 0
    length += sum(len(str(message.get("content") or "")) for message in body.get("messages", ()))
    return -(-length // PER_TOKEN)
