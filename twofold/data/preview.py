"""Previews a row as the model sees it: the prompt, the supervised tokens, the common start of all completions, and
where they stop. It uses neither tensors nor colors, so that terminal and page show the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from twofold.data.differences import common_length

Kind = Literal["prompt", "shared", "supervised", "stop"]
Decode = Callable[[Sequence[int]], str]

_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
COMMANDS = re.compile(f"[{_OBEYED}]")
"""What a terminal obeys, or cannot show at all; line ends and tabs stay."""
HIDDEN = re.compile(f"[{_OBEYED}\u200b-\u200f\u2060-\u2065\ufeff]")
"""That, and what a reader could not see."""


@dataclass(frozen=True)
class Span:
    """A stretch of text of one kind. `shared` is supervised too, and the same in every completion of the row."""

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
    """A row: its name, the prompt that is not supervised, and the completions behind it."""

    name: str
    prompt: Span
    lines: tuple[Line, ...]

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
) -> RowView:
    """The row of these token ids; `decode` must keep special tokens."""
    shared = common_length(*(ids for _, ids in completions)) if len(completions) > 1 else 0
    lines = [_line(label, prompt, ids, (shared, decode, stop_tokens)) for label, ids in completions]
    return RowView(name, Span("prompt", visible(decode(prompt)), len(prompt)), tuple(lines))


def visible(text: str, which: re.Pattern[str] = HIDDEN) -> str:
    """`text` with control and formatting characters as what can be seen: ␛ for escape, ⟨U+202E⟩ for an override."""
    return which.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _line(label: str, prompt: Sequence[int], ids: Sequence[int], how: tuple[int, Decode, frozenset[int]]) -> Line:
    shared, decode, stop_tokens = how
    stops = bool(ids) and ids[-1] in stop_tokens
    end = len(ids) - stops
    cuts: list[tuple[Kind, int]] = [("shared", min(shared, end)), ("supervised", end), ("stop", len(ids))]
    whole, start, spans = decode([*prompt, *ids]), len(decode(prompt)), list[Span]()
    before = 0
    for kind, cut in cuts:
        if cut == before:
            continue
        stop = common_length(whole, decode([*prompt, *ids[:cut]]))  # before a character that it ends within
        spans.append(Span(kind, visible(whole[start:stop]), cut - before))
        before, start = cut, stop
    return Line(label, tuple(spans))
