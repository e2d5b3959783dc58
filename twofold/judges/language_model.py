"""A language model on a server as judge: which of two completions is better, or how good one is.

Two completions are shown in both orders. If the verdicts disagree it is a tie, because judges have a position bias
(Zheng et al. 2023, arXiv 2306.05685, section 3.4).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from twofold import disk
from twofold.client.server import CompletionRequest, Reply, Server, UnparsableReply
from twofold.errors import DataError, RecipeError
from twofold.judges.base import collected
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import Prompt, Source, transcript_of

T = TypeVar("T")
Form = Literal["compare", "score"]
Choice = Literal["A", "B", "tie"]
Orders: TypeAlias = tuple[Choice | None, Choice | None]
"""Verdicts on a match and on the same match with swapped completions. A is the one shown first."""

_LABEL = r"^[^\w\n]*{}[^\w\n:]{{0,20}}:\W{{0,20}}?"
VERDICT = re.compile(_LABEL.format("verdict") + r"(A|B|tie)\b[^\w\n]*$", re.IGNORECASE | re.MULTILINE)
SCORE = re.compile(
    _LABEL.format("score") + r"(-?\d+(?:\.\d+)?)(?: {0,9}/ {0,9}10)?[^\w\n]*$", re.IGNORECASE | re.MULTILINE
)
LOW, HIGH = 1.0, 10.0
NO_TEXT = "(no text)"


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
    or `completion` to score. `fence` is a marker that does not occur in the texts; `digest` is the template's
    SHA-256."""

    template: Template
    form: Form
    digest: str

    @classmethod
    def load(cls, form: Form, path: Path | None = None) -> Rubric:
        """The rubric from a file, or else the package's own. Raises `RecipeError` for an invalid one."""
        environment = SandboxedEnvironment(
            undefined=StrictUndefined,
            autoescape=False,  # the text goes to a model, not into a page
            trim_blocks=True,
            keep_trailing_newline=False,
        )
        shipped = files("twofold.judges") / "templates" / f"{form}.jinja"
        try:
            text = shipped.read_text(encoding="utf-8") if path is None else disk.read_text(path)
            rubric = cls(environment.from_string(text), form, hashlib.sha256(text.encode()).hexdigest())
            rubric.render(prompt="p", truth=None, **dict.fromkeys(_FIELDS[form], "x"))
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            known = ", ".join(("prompt", "truth", "fence", *_FIELDS[form]))
            remedy = f"a rubric to {form} knows {known}"
            raise RecipeError(f"cannot be used as a rubric: {error}", where=str(path), remedy=remedy) from None
        return rubric

    def render(self, **texts: str | None) -> str:
        """The instructions with these texts filled in."""
        digest = hashlib.sha256("\x00".join(f"{k}={v}" for k, v in sorted(texts.items())).encode("utf-8", "replace"))
        return self.template.render(fence=f"text-{digest.hexdigest()[:12]}", **texts)


_FIELDS: dict[Form, tuple[str, ...]] = {"compare": ("first", "second"), "score": ("completion",)}


class ModelJudge:
    """Queries a server's model with a rubric. Every request, reply and verdict is in the ledger."""

    def __init__(self, server: Server, rubric: Rubric, *, max_tokens: int = 1024, temperature: float = 0.0) -> None:
        self.server, self.rubric = server, rubric
        self._settings = {"max_tokens": max_tokens, "temperature": temperature, "seed": 0}

    @property
    def provenance(self) -> dict[str, Any]:
        endpoint = self.server.endpoint
        changed = {"not taken": self.server.refused} if self.server.refused else {}
        fields = {"fields": dict(endpoint.fields)} if endpoint.fields else {}
        return {"model": endpoint.model, "server": endpoint.url, "rubric": self.rubric.digest, **fields, **changed}

    def verdicts(self, matches: Sequence[Match], ledger: Ledger) -> Iterator[tuple[int, Orders]]:
        """(index, the verdicts on both orders) of each match when its second reply arrives; None for no verdict."""
        questions = [CompletionRequest(self._body(m.prompt, m.truth, first=a, second=b), _choice)
                     for m in matches for a, b in ((m.first, m.second), (m.second, m.first))]  # fmt: skip
        read: dict[int, Choice | None] = {}
        for place, verdict in self.server.ask(questions, ledger):
            read[place] = verdict
            if place ^ 1 in read:
                yield place // 2, (read[place & ~1], read[place | 1])

    def score(
        self, asked: Sequence[tuple[Prompt, str, str | None]], ledger: Ledger
    ) -> Iterator[tuple[int, float | None]]:
        """(index, score from 1 to 10) of each (prompt, completion, reference answer) in order of arrival; None without
        one."""
        questions = [CompletionRequest(self._body(p, truth, completion=text), _score) for p, text, truth in asked]
        yield from self.server.ask(questions, ledger)

    def collected(self, replies: Iterable[tuple[int, T]], count: int, progress: Progress) -> list[T | None]:
        """`count` replies with their indices in order of arrival, and a warning about options that the server
        rejected."""
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


def _choice(reply: Reply) -> Choice:
    found = _last(VERDICT, reply, "no line `Verdict: A`, `B` or `tie`").upper()
    return "tie" if found == "TIE" else "A" if found == "A" else "B"


def _score(reply: Reply) -> float:
    score = float(_last(SCORE, reply, "no line `Score: N`"))
    if not LOW <= score <= HIGH:
        raise UnparsableReply(f"the score {score:g} is not in {LOW:g} … {HIGH:g}")
    return score


def _last(pattern: re.Pattern[str], reply: Reply, otherwise: str) -> str:
    """The verdict of the last matching line. A truncated reply has none."""
    if reply.truncated:
        raise UnparsableReply("the verdict was cut off")
    found = pattern.findall(reply.text)
    if not found:
        raise UnparsableReply(otherwise)
    return found[-1]
