"""Finds the tokens of a chosen completion that known causes of likelihood displacement affect, from token ids only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

Gram = tuple[int, ...]
Mask = NDArray[np.bool_]

LONGEST = 3  # tokens of a pattern: longer ones are found by their parts
CHANCE = 0.01  # one-sided, of a fair coin, that a pattern is rejected as often as it is


def opening(chosen: Sequence[int], rejected: Sequence[int]) -> int:
    """Number of tokens at the start of both. Their context is equal, so a pair's gradient on them is exactly 0."""
    pairs = zip(chosen, rejected, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(chosen), len(rejected)))


def shared(chosen: Sequence[int], rejected: Sequence[int]) -> Mask:
    """The tokens [n] of `chosen` that are also in `rejected` in the same order, after the common start: a longest
    common subsequence, the last one if there are several."""
    start = opening(chosen, rejected)
    a, b = np.asarray(chosen[start:]), np.asarray(rejected[start:])
    longest_IJ = np.zeros((len(a) + 1, len(b) + 1), dtype=np.int32)
    for i, token in enumerate(a):
        row_J = np.maximum(longest_IJ[i, 1:], longest_IJ[i, :-1] + (b == token))
        longest_IJ[i + 1, 1:] = np.maximum.accumulate(row_J)
    mask, i, j = np.zeros(len(chosen), dtype=np.bool_), len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            mask[start + i] = True
        elif longest_IJ[i - 1, j] >= longest_IJ[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return mask


def likeness(chosen: Sequence[int], rejected: Sequence[int]) -> float:
    """Share of both completions' tokens in a longest common subsequence: 1 for equal completions."""
    common = opening(chosen, rejected) + int(shared(chosen, rejected).sum())
    return 2 * common / (len(chosen) + len(rejected))


class Patterns:
    """Runs of up to LONGEST tokens that a data set rejects: the number of pairs in which only chosen, and in which only
    rejected, contains each."""

    def __init__(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        self.won, self.lost = Counter[Gram](), Counter[Gram]()
        for chosen, rejected in pairs:
            mine, theirs = set(_grams(chosen)), set(_grams(rejected))
            self.won.update(mine - theirs)
            self.lost.update(theirs - mine)

    def contested(self, chosen: Sequence[int], rejected: Sequence[int]) -> list[Gram | None]:
        """For each token [n] of `chosen` of a pair that was counted, the pattern over it that other pairs reject: more
        often than they choose it, beyond chance. Of several the one that leads most; None without one."""
        theirs = set(_grams(rejected))
        found: list[Gram | None] = [None] * len(chosen)
        lead = [0] * len(chosen)
        for gram, end in zip(_grams(chosen), _ends(len(chosen)), strict=True):
            lost, won = self.lost[gram], self.won[gram] - 1
            if lost <= won or gram in theirs or not _beyond_chance(lost, lost + won):
                continue
            for at in range(end - len(gram), end):
                if lost - won > lead[at]:
                    found[at], lead[at] = gram, lost - won
        return found


def _grams(tokens: Sequence[int]) -> Iterator[Gram]:
    return (tuple(tokens[at : at + n]) for n in range(1, LONGEST + 1) for at in range(len(tokens) - n + 1))


def _ends(length: int) -> Iterator[int]:
    """Where each of `_grams` ends."""
    return (at + n for n in range(1, LONGEST + 1) for at in range(length - n + 1))


@lru_cache(maxsize=4096)
def _beyond_chance(heads: int, tosses: int) -> bool:
    return sum(comb(tosses, k) for k in range(heads, tosses + 1)) < CHANCE * 2**tosses
