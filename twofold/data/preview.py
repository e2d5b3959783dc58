"""Previews a row as the model sees it: the prompt, the supervised tokens, the common start of all completions, and
where they stop. It uses neither tensors nor colors, so that terminal and page show the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from twofold.data.differences import common_length

Kind = Literal["prompt", "shared", "supervised", "context", "stop"]
Decode = Callable[[Sequence[int]], str]

_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
COMMANDS = re.compile(f"[{_OBEYED}]")
"""What a terminal obeys, or cannot show at all; line ends and tabs stay."""
HIDDEN = re.compile(f"[{_OBEYED}\u200b-\u200f\u2060-\u2065\ufeff]")
"""That, and what a reader could not see."""


@dataclass(frozen=True)
class Span:
    """A stretch of text of one kind. `shared` is supervised too, and the same in every completion of the row; `context`
    is not: tools' and users' turns within a completion."""

    kind: Kind
    text: str
    tokens: int


@dataclass(frozen=True)
class Line:
    """A completion: what it is called (chosen, rejected, rank 1 …), and its spans."""

    label: str
    spans: tuple[Span, ...]

    @property
    def tokens(self) -> int:
        return sum(span.tokens for span in self.spans)

    @property
    def stops(self) -> bool:
        """Whether a stop token ends it; a completion that was cut has none."""
        return any(span.kind == "stop" for span in self.spans)


@dataclass(frozen=True)
class RowView:
    """A row: its name, the prompt that is not supervised, the completions behind it, and the row's numbers: weight,
    probability, margin."""

    name: str
    prompt: Span
    lines: tuple[Line, ...]
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def about(self) -> str:
        """Its numbers in words."""
        return in_words(self.numbers)

    @property
    def shared(self) -> int:
        """Tokens that all completions begin with."""
        return sum(span.tokens for span in self.lines[0].spans if span.kind == "shared") if self.lines else 0


def row_view(
    name: str,
    prompt: Sequence[int],
    completions: Sequence[tuple[str, Sequence[int]]],
    decode: Decode,
    stop_tokens: frozenset[int],
    unscored: Mapping[str, frozenset[int]] | None = None,
) -> RowView:
    """The row of these token ids; `decode` must keep special tokens. `unscored` are places of a completion's tokens
    that are context, by its label."""
    shared = common_length(*(ids for _, ids in completions)) if len(completions) > 1 else 0
    lines = list[Line]()
    for label, ids in completions:
        kinds = _kinds(ids, shared, (unscored or {}).get(label, frozenset()), stop_tokens)
        lines.append(_line(label, prompt, ids, kinds, decode))
    return RowView(name, Span("prompt", visible(decode(prompt)), len(prompt)), tuple(lines))


def in_words(numbers: Mapping[str, float]) -> str:
    """The numbers of a row, as `weight 2, probability 0.7`."""
    return ", ".join(f"{name} {value:g}" for name, value in numbers.items())


def visible(text: str, which: re.Pattern[str] = HIDDEN) -> str:
    """`text` with control and formatting characters as what can be seen: ␛ for escape, ⟨U+202E⟩ for an override."""
    return which.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _kinds(ids: Sequence[int], shared: int, unscored: frozenset[int], stop_tokens: frozenset[int]) -> list[Kind]:
    """What each token of a completion is."""
    kinds: list[Kind] = ["shared" if place < shared else "supervised" for place in range(len(ids))]
    for place in unscored:
        kinds[place] = "context"
    if ids and ids[-1] in stop_tokens:
        kinds[-1] = "stop"
    return kinds


def _line(label: str, prompt: Sequence[int], ids: Sequence[int], kinds: Sequence[Kind], decode: Decode) -> Line:
    whole, start, spans, cut = decode([*prompt, *ids]), len(decode(prompt)), list[Span](), 0
    for kind, members in groupby(kinds):
        tokens = sum(1 for _ in members)
        cut += tokens
        stop = common_length(whole, decode([*prompt, *ids[:cut]]))  # before a character that it ends within
        spans.append(Span(kind, visible(whole[start:stop]), tokens))
        start = stop
    return Line(label, tuple(spans))
