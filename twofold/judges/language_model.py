"""A language model on a server as judge: which of two completions is better, or how good one is.

Two completions are shown in both orders. If the verdicts disagree it is a tie, because judges have a position bias
(Zheng et al. 2023, arXiv 2306.05685, section 3.4). Probabilities of the letters A and B are averaged over both orders.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from twofold import disk
from twofold.client.http import RefusedFieldError
from twofold.client.server import CompletionRequest, Reply, Server, UnparsableReply
from twofold.errors import DataError, RecipeError, ServerError
from twofold.judges.base import MatchResult, collected
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import Prompt, Source, transcript_of

T = TypeVar("T")
Form = Literal["compare", "choose", "score", "grade"]
Choice = Literal["A", "B", "tie"]
Orders: TypeAlias = tuple[Choice | None, Choice | None]
"""Verdicts on a match and on the same match with swapped completions. A is the one shown first."""

_LABEL = r"^[^\w\n]*{}[^\w\n:]{{0,20}}:\W{{0,20}}?"
VERDICT = re.compile(_LABEL.format("verdict") + r"(A|B|tie)\b[^\w\n]*$", re.IGNORECASE | re.MULTILINE)
SCORE = re.compile(
    _LABEL.format("score") + r"(-?\d+(?:\.\d+)?)(?: {0,9}/ {0,9}10)?[^\w\n]*$", re.IGNORECASE | re.MULTILINE
)
RATING = re.compile(r"\[\[ {0,9}(-?\d+(?:\.\d+)?) {0,9}\]\]")
"""A score as the templates of MT-Bench ask for it."""
GRADE = re.compile(r"\[\[ {0,9}([AB])(>>|>|=|<|<<)([AB]) {0,9}\]\]")
"""A verdict of five grades, as the templates of Arena-Hard ask for it."""
LOW, HIGH = 1.0, 10.0
NO_TEXT = "(no text)"
LETTERS = ("A", "B")
CHAT_TOKENS, TEXT_TOKENS = {"logprobs": True, "top_logprobs": 20}, {"logprobs": 5}
"""Request fields for the probabilities of tokens, of chats and of completions."""
MOST_LETTERS = 16
"""Tokens in which a reply must name its letter."""


@dataclass(frozen=True)
class Match:
    """Two completions of one prompt. `truth` is the reference answer, shown only to the judge."""

    prompt: Prompt
    first: str
    second: str
    truth: str | None = None


@dataclass(frozen=True)
class Rubric:
    """The judge's instructions: a jinja2 template of `prompt`, `truth`, `fence`, and `first` and `second` to compare
    or `completion` to score. `fence` is a marker that does not occur in the texts; `digest` is the SHA-256 of the
    user's file, or of the package's template. `criteria` replace those of the package's template."""

    template: Template
    form: Form
    digest: str
    criteria: str | None = None

    @classmethod
    def load(cls, form: Form, path: Path | None = None) -> Rubric:
        """The rubric from a file, or else the package's own. A file without jinja2 is a text of criteria for the
        package's template. Raises `RecipeError` for an invalid one."""
        environment = SandboxedEnvironment(
            undefined=StrictUndefined,
            autoescape=False,  # the text goes to a model, not into a page
            trim_blocks=True,
            keep_trailing_newline=False,
        )
        shipped = files("twofold.judges") / "templates" / f"{form}.jinja"
        try:
            own = shipped.read_text(encoding="utf-8")
            text = own if path is None else disk.read_text(path)
            if not text.strip():
                raise RecipeError("is empty", where=str(path), remedy="write what makes an answer good")
            is_template = re.search(r"\{[{%]", text) is not None
            template = environment.from_string(text if is_template else own)
            criteria = None if is_template else text.strip()
            rubric = cls(template, form, hashlib.sha256(text.encode()).hexdigest(), criteria)
            rubric.render(prompt="p", truth=None, **dict.fromkeys(_FIELDS[form], "x"))
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            known = ", ".join(("prompt", "truth", "fence", *_FIELDS[form]))
            remedy = f"a rubric to {form} knows {known}"
            raise RecipeError(f"cannot be used as a rubric: {error}", where=str(path), remedy=remedy) from None
        return rubric

    def render(self, **texts: str | None) -> str:
        """The instructions with these texts filled in."""
        digest = hashlib.sha256("\x00".join(f"{k}={v}" for k, v in sorted(texts.items())).encode("utf-8", "replace"))
        return self.template.render(fence=f"text-{digest.hexdigest()[:12]}", criteria=self.criteria, **texts)


_FIELDS: dict[Form, tuple[str, ...]] = {
    "compare": ("first", "second"),
    "choose": ("first", "second"),
    "grade": ("first", "second"),
    "score": ("completion",),
}


class ModelJudge:
    """Queries a server's model with a rubric. Every request, reply and verdict is in the ledger."""

    def __init__(self, server: Server, rubric: Rubric, *, max_tokens: int = 1024, temperature: float = 0.0) -> None:
        self.server, self.rubric = server, rubric
        self._settings: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": 0}
        if rubric.form == "choose":
            self._settings |= {"max_tokens": MOST_LETTERS, **(TEXT_TOKENS if server.endpoint.raw else CHAT_TOKENS)}

    @property
    def provenance(self) -> dict[str, Any]:
        endpoint = self.server.endpoint
        changed = {"not taken": self.server.refused} if self.server.refused else {}
        fields = {"fields": dict(endpoint.fields)} if endpoint.fields else {}
        return {"model": endpoint.model, "server": endpoint.url, "rubric": self.rubric.digest, **fields, **changed}

    @property
    def spend(self) -> dict[str, Any]:
        """What the replies that were used have cost, recorded ones included."""
        return self.server.meter.as_dict()

    def note_spend(self, progress: Progress) -> None:
        """Report the tokens of the replies that were used."""
        if self.server.meter.requests:
            progress.note(self.server.meter.text())

    def verdicts(self, matches: Sequence[Match], ledger: Ledger) -> Iterator[tuple[int, Orders]]:
        """(index, the verdicts on both orders) of each match when its second reply arrives; None for no verdict."""
        yield from self._in_both_orders(matches, ledger, _choice)

    def grades(self, matches: Sequence[Match], ledger: Ledger) -> Iterator[tuple[int, tuple[str | None, str | None]]]:
        """(index, the verdicts on both orders) of each match: `A>>B`, `A>B`, `A=B`, `B>A` or `B>>A`, where A is the one
        shown first; None for no verdict."""
        yield from self._in_both_orders(matches, ledger, _grade)

    def results(self, matches: Sequence[Match], ledger: Ledger, progress: Progress) -> list[MatchResult | None]:
        """The result of each match; None without both verdicts."""
        if self.rubric.form == "compare":
            verdicts = self.collected(self.verdicts(matches, ledger), len(matches), progress)
            return [None if both is None else _by_choice(*both) for both in verdicts]
        replies = self._in_both_orders(matches, ledger, partial(_probability, self.server.endpoint.url))
        try:
            found = self.collected(replies, len(matches), progress)
        except RefusedFieldError as error:
            if error.field not in CHAT_TOKENS:
                raise
            raise no_probabilities(error.where, error.what) from None
        return [None if both is None else _by_probability(*both) for both in found]

    def _in_both_orders(
        self, matches: Sequence[Match], ledger: Ledger, read: Callable[[Reply], T]
    ) -> Iterator[tuple[int, tuple[T | None, T | None]]]:
        """(index, what is read from the replies to both orders) of each match when its second reply arrives."""
        questions = [CompletionRequest(self._body(m.prompt, m.truth, first=a, second=b), read)
                     for m in matches for a, b in ((m.first, m.second), (m.second, m.first))]  # fmt: skip
        known: dict[int, T | None] = {}
        for place, value in self.server.ask(questions, ledger):
            known[place] = value
            if place ^ 1 in known:
                yield place // 2, (known[place & ~1], known[place | 1])

    def score(
        self, asked: Sequence[tuple[Prompt, str, str | None]], ledger: Ledger
    ) -> Iterator[tuple[int, float | None]]:
        """(index, score from 1 to 10) of each (prompt, completion, reference answer) in order of arrival; None without
        one."""
        questions = [CompletionRequest(self._body(p, truth, completion=text), _score) for p, text, truth in asked]
        yield from self.server.ask(questions, ledger)

    def collected(self, replies: Iterable[tuple[int, T]], count: int, progress: Progress) -> list[T | None]:
        """`count` replies with their indices in order of arrival, after a note of what they cost, and a warning about
        options that the server rejected."""
        self.server.note = progress.note
        found = collected(replies, count, progress)
        for note in self.server.take_notes():
            progress.warn(note)
        return found

    def _body(self, prompt: Prompt, truth: str | None, **answers: str) -> dict[str, object]:
        texts = {name: text if text.strip() else NO_TEXT for name, text in answers.items()}
        return self.server.body(
            self.rubric.render(prompt=transcript_of(prompt), truth=truth, **texts), **self._settings
        )


def refuse_pictures(prompt: Prompt, source: Source) -> None:
    """Raise DataError for a prompt of which a language model as judge would see only the texts."""
    if not isinstance(prompt, str) and any(message.pictures for message in prompt):
        remedy = "leave the rows with pictures out"
        raise DataError("holds pictures, and the judge reads texts", where=str(source), remedy=remedy)


def agreed(forward: Choice | None, backward: Choice | None) -> float | None:
    """The first completion's share of two verdicts, the second with swapped completions; None if one is missing."""
    if forward is None or backward is None:
        return None
    if (forward, backward) == ("A", "B"):
        return 1.0
    return 0.0 if (forward, backward) == ("B", "A") else 0.5


def _by_choice(forward: Choice | None, backward: Choice | None) -> MatchResult | None:
    """If the verdicts in both orders disagree, it is a tie."""
    share = agreed(forward, backward)
    return None if share is None else MatchResult(share, (str(forward), str(backward)))


def _by_probability(forward: float | None, backward: float | None) -> MatchResult | None:
    """The probability that the first completion is better, of the probabilities of A in both orders."""
    if forward is None or backward is None:
        return None
    probability = (forward + 1 - backward) / 2
    orders = tuple("tie" if p == 0.5 else "A" if p > 0.5 else "B" for p in (forward, backward))
    return MatchResult(0.5 + 0.5 * ((probability > 0.5) - (probability < 0.5)), (orders[0], orders[1]), probability)


def _probability(url: str, reply: Reply) -> float:
    """The probability of A among A and B, where the reply names one of them first. Raises ServerError for a reply
    without probabilities of tokens."""
    if not reply.tops:
        raise no_probabilities(url, "the reply has no probabilities of tokens")
    for token, tops in reply.tops:
        if token.strip() in LETTERS:
            a, b = (math.fsum(math.exp(v) for name, v in tops.items() if name.strip() == x) for x in LETTERS)
            if a + b > 0:
                return a / (a + b)
    raise UnparsableReply("no token `A` or `B`")


def no_probabilities(url: str, what: str) -> ServerError:
    """The error of a server that does not return probabilities of tokens."""
    return ServerError(what, where=url, remedy="judge with llm:URL#NAME, which reads the verdict as text")


def _choice(reply: Reply) -> Choice:
    found = _last(VERDICT, reply, "no line `Verdict: A`, `B` or `tie`").upper()
    return "tie" if found == "TIE" else "A" if found == "A" else "B"


def _grade(reply: Reply) -> str:
    first, sign, second = _last(GRADE, reply, "no mark such as `[[A>B]]`")
    if first == second:
        raise UnparsableReply(f"the mark `{first}{sign}{second}` compares an answer with itself")
    if sign == "=":
        return "A=B"
    return f"{first}{sign}{second}" if ">" in sign else f"{second}{'>' * len(sign)}{first}"


def _score(reply: Reply) -> float:
    labeled = SCORE.search(reply.text) or not RATING.search(reply.text)
    score = float(_last(SCORE if labeled else RATING, reply, "no line `Score: N`"))
    if not LOW <= score <= HIGH:
        raise UnparsableReply(f"the score {score:g} is not in {LOW:g} … {HIGH:g}")
    return score


def _last(pattern: re.Pattern[str], reply: Reply, otherwise: str) -> Any:
    """The verdict (its groups) of the last matching line. A truncated reply has none."""
    if reply.truncated:
        raise UnparsableReply("the verdict was cut off")
    found = pattern.findall(reply.text)
    if not found:
        raise UnparsableReply(otherwise)
    return found[-1]
