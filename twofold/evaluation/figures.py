"""Results of several models on the same items: a figure with its interval for each model, a paired test for each two.

`BinaryOutcomes` are correct or wrong. A `Ratio` is a sum divided by a sum (nats per token). All models have the same
order of items.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from twofold.statistics import (
    Estimate,
    PairedTest,
    bootstrap_ratio,
    by_cluster,
    holm,
    mcnemar,
    paired_bootstrap,
    repeated,
    share_by_cluster,
    share_difference,
    sign_flips,
    weighted_share,
)

LOGARITHMS = "of logarithms"


@dataclass(frozen=True, slots=True)
class Difference:
    """Two models on the same items: the difference b − a with its interval, and a paired test."""

    difference: Estimate
    test: PairedTest

    def as_dict(self) -> dict[str, Any]:
        """The fields as in JSON."""
        return {"difference": self.difference.as_dict(), **self.test.as_dict()}


class Measure(Protocol):
    """One metric of one model."""

    def estimate(self) -> Estimate: ...

    def against(self, other: Any) -> Difference | None:
        """`other` minus this, None where the two cannot be compared."""
        ...


@dataclass(frozen=True)
class BinaryOutcomes:
    """Correct or wrong, [items]. Items with the same `prompts` entry may be correlated, and count as one in tests.

    With `weights` [items], the share is Σ weight · credit / Σ weight, and `credit` [items] is what an item has of 1."""

    right: Sequence[bool]
    prompts: Sequence[Hashable] = ()
    weights: Sequence[float] = ()
    credit: Sequence[float] = ()

    def estimate(self) -> Estimate:
        """Wilson's interval; with repeated prompts or weights, at the effective number of items."""
        if self.weights:
            sums, totals = self._weighted, _sums(self.weights, self.prompts)
            effective = math.fsum(self.weights) ** 2 / (math.fsum(w * w for w in self.weights) or 1.0)
            return weighted_share(sums, totals, len(self.right), effective)
        return share_by_cluster(self.right, self.prompts)

    def against(self, other: BinaryOutcomes) -> Difference:
        """McNemar's exact test; with repeated prompts or weights, sign flips of what the models differ by on each
        prompt."""
        if not self._repeated and not self.weights:
            moved = share_difference(paired_bootstrap(self.right, other.right))
            return Difference(moved, mcnemar(self.right, other.right))
        if self.weights:
            a, b, totals = self._weighted, other._weighted, _sums(self.weights, self.prompts)
            return Difference(share_difference(bootstrap_ratio(np.subtract(b, a), totals)), sign_flips(a, b))
        moved = np.subtract(other.right, self.right, dtype=np.float64)
        difference = share_difference(bootstrap_ratio(moved, np.ones(len(moved)), clusters=self.prompts))
        a, b = (by_cluster(x.right, self.prompts) for x in (self, other))
        return Difference(difference, sign_flips(a, b))

    @property
    def _weighted(self) -> list[float]:
        """What each prompt has of its weight."""
        return _sums([w * c for w, c in zip(self.weights, self.credit, strict=True)], self.prompts)

    @property
    def _repeated(self) -> bool:
        return repeated(self.prompts)


@dataclass(frozen=True)
class Ratio:
    """sum(part) / sum(whole), [items]. With `exponential`, the value is e to that power (a perplexity), and differences
    are of logarithms. A test's `only_a` and `only_b` count the items on which either is higher. Items with the same
    `prompts` entry may be correlated, and count as one in intervals and tests. A `share` is between 0 and 1.

    Two ratios with different `tokens` have different units.
    """

    part: Sequence[float]
    whole: Sequence[float]
    exponential: bool = False
    tokens: Sequence[float] = ()
    prompts: Sequence[Hashable] = ()
    share: bool = False

    def estimate(self) -> Estimate:
        found = bootstrap_ratio(self.part, self.whole, clusters=self.prompts)
        if not self.exponential:
            return found
        value, low, high = (_exp(x) for x in (found.value, found.low, found.high))
        return replace(found, value=value, low=low, high=high)

    def against(self, other: Ratio) -> Difference | None:
        """In units of the ratio itself."""
        if list(self.tokens) != list(other.tokens):
            return None
        difference = bootstrap_ratio(np.subtract(other.part, self.part), self.whole, clusters=self.prompts)
        if self.share:
            difference = share_difference(difference)
        if self.exponential:
            difference = replace(difference, method=f"{difference.method}, {LOGARITHMS}")
        if difference.clusters is None:
            return Difference(difference, sign_flips(self.part, other.part))
        a, b = (by_cluster(part, self.prompts) for part in (self.part, other.part))
        return Difference(difference, sign_flips(a, b))


@dataclass(frozen=True)
class Entry:
    """A line of the table: the results of a model on the items. `about` has its prompting. `rows` are the single items,
    so that others can repeat the count. `counts` are more numbers, such as the number of truncated completions."""

    name: str
    measures: Mapping[str, Measure]
    about: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()

    def as_dict(self) -> dict[str, Any]:
        figures = {metric: measure.estimate().as_dict() for metric, measure in self.measures.items()}
        return {"name": self.name, **figures, **self.counts, **self.about}


def comparisons(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Every two entries by every metric that both have, with Holm's correction over all of them."""
    found: list[dict[str, Any]] = []
    for a, b in combinations(entries, 2):
        for metric in (m for m in a.measures if m in b.measures):
            tested = a.measures[metric].against(b.measures[metric])
            if tested is not None:
                found.append({"a": a.name, "b": b.name, "metric": metric, **tested.as_dict()})
    return corrected(found)


@dataclass(frozen=True)
class Evaluation:
    """The results: `figures` as in results.json, and the `rows` behind them, one per item."""

    figures: dict[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, entries: Sequence[Entry], **about: Any) -> Evaluation:
        """A table of models, with every paired test. `about` describes the task and its settings."""
        models = [entry.as_dict() for entry in entries]
        rows = [dict(row) for entry in entries for row in entry.rows]
        return cls({**about, "models": models, "comparisons": comparisons(entries)}, rows)


def corrected(tests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tests of one table, each with `p_holm` where there is more than one."""
    if len(tests) < 2:
        return [dict(t) for t in tests]
    return [{**t, "p_holm": p} for t, p in zip(tests, holm([t["p_value"] for t in tests]), strict=True)]


def _sums(values: Sequence[float], prompts: Sequence[Hashable]) -> list[float]:
    """Of each prompt, in order of first appearance."""
    found: dict[Hashable, float] = {}
    for value, prompt in zip(values, prompts, strict=True):
        found[prompt] = found.get(prompt, 0) + value
    return list(found.values())


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
