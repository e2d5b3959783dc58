"""Where texts differ: word by word, and what they begin with."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Hashable, Sequence

WORDS = re.compile(r"\s+|\w+|[^\w\s]")
MOST_COMPARED = 4_000_000  # words of one text times words of the other: beyond it the differences are not marked

Pieces = list[tuple[str, bool]]


def differences(left: str, right: str) -> tuple[Pieces, Pieces]:
    """Both texts in pieces, each marked where the other text has something else."""
    a, b = WORDS.findall(left), WORDS.findall(right)
    if len(a) * len(b) > MOST_COMPARED:
        return [(left, False)], [(right, False)]
    pieces: tuple[Pieces, Pieces] = ([], [])
    for what, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for side, words in zip(pieces, (a[a0:a1], b[b0:b1]), strict=True):
            if words:
                side.append(("".join(words), what != "equal"))
    return pieces


def common_length(*rows: Sequence[Hashable]) -> int:
    """How many members (characters, tokens, messages) all `rows` begin with."""
    first, *others = (row if isinstance(row, str) else tuple(row) for row in rows)
    shortest = range(min(map(len, rows)))
    return bisect_left(shortest, True, key=lambda i: any(other[: i + 1] != first[: i + 1] for other in others))
