"""How long rows are in tokens, and whether the longer answer is the chosen one more often than chance has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from twofold.data.issues import Issue
from twofold.data.values import Values, quantiles
from twofold.statistics import Estimate, wilson

STRONG, FEWEST = 0.7, 100
"""The share of longer chosen answers that a whole interval must exceed, and the pairs it takes, for a warning."""


@dataclass(frozen=True)
class Histogram:
    """The number of rows by number of tokens: `counts[i]` of (`edges[i]`, `edges[i + 1]`], edges doubling."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    mean: float
    median: float
    p99: float
    max: int

    @classmethod
    def of(cls, lengths: Values) -> Histogram:
        """The histogram of one or more lengths."""
        low, high = (int(np.ceil(np.log2(n))) for n in (lengths.low, lengths.high))
        edges = [2**p for p in range(low, max(high, low) + 1)]
        counts = lengths.counts([0.5, *(e + 0.5 for e in edges)])
        middle, far = quantiles([lengths], [0.5, 0.99])
        return cls((0, *edges), tuple(counts), lengths.mean, middle, far, int(lengths.high))

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("edges", "counts", "mean", "median", "p99", "max")}


@dataclass
class LengthBias:
    """Pairs by which answer is the longer one: the `chosen`, the `rejected`, or neither."""

    chosen: int = 0
    rejected: int = 0
    same: int = 0

    def add(self, chosen: int, rejected: int) -> None:
        """One pair with the lengths of its answers."""
        self.chosen += chosen > rejected
        self.rejected += chosen < rejected
        self.same += chosen == rejected

    @property
    def pairs(self) -> int:
        return self.chosen + self.rejected + self.same

    @property
    def share(self) -> Estimate:
        """How often the longer answer is chosen, of the pairs whose answers differ in length."""
        return wilson(self.chosen, self.chosen + self.rejected)

    def words(self) -> str:
        """The share as a sentence."""
        if not self.chosen + self.rejected:
            return "chosen and rejected are equally long"
        share = self.share
        told = (
            f"the longer answer is chosen in {share.value:.1%} of {share.n} pairs [{share.low:.1%}, {share.high:.1%}]"
        )
        if share.low <= 0.5 <= share.high:
            return f"{told}: no bias that these pairs could show"
        return f"{told}: {'longer' if share.low > 0.5 else 'shorter'} answers are preferred"

    def as_dict(self) -> dict[str, Any]:
        counts = {"longer_chosen": self.chosen, "longer_rejected": self.rejected, "same_length": self.same}
        share = self.share.as_dict() if self.chosen + self.rejected else None
        return {**counts, "share": share, "words": self.words()}


def bias_fault(bias: LengthBias, source: str) -> Iterator[Issue]:
    """A warning if length is enough to distinguish chosen from rejected in most pairs."""
    share = bias.share
    if share.n >= FEWEST and (share.low > STRONG or share.high < 1 - STRONG):
        remedy = "balance the lengths, or choose an objective that counts per token (simpo, ln_dpo, ld_dpo)"
        yield Issue(source, 0, "", bias.words(), remedy, "warning", "length bias")
