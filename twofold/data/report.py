"""The result of a check of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from twofold.data.fault_store import counts_of, of_severity
from twofold.data.issues import Issue, Texts
from twofold.data.lengths import Histogram, LengthBias
from twofold.data.weights import Weights


@dataclass(frozen=True)
class Report:
    """What a check found. `rows` counts all rows, `records` the usable ones; `format` is the shape detected. `faults`
    are on disk if there are many.

    With a tokenizer, `tokens` are the lengths of prompts with their completions, and `prompts` is their format.
    `weights` are those of usable rows, if any has one.
    """

    source: str
    format: str
    rows: int
    records: int
    faults: Sequence[Issue]
    bias: LengthBias | None = None
    tokens: Histogram | None = None
    prompts: str = ""
    weights: Weights | None = None

    @property
    def errors(self) -> Sequence[Issue]:
        return of_severity(self.faults, "error")

    @property
    def warnings(self) -> Sequence[Issue]:
        return of_severity(self.faults, "warning")

    @property
    def ok(self) -> bool:
        """Whether training would accept the source."""
        return not self.errors

    @property
    def counts(self) -> dict[str, int]:
        """How many faults of each kind, most frequent first."""
        counts = Counter[str]()
        for (_, check), count in counts_of(self.faults).items():
            counts[check] += count
        return dict(counts.most_common())


@dataclass(frozen=True)
class Kind:
    """The faults of one kind: how many, and the first of them with the texts of their rows."""

    name: str
    severity: str
    count: int
    examples: tuple[tuple[Issue, Texts], ...]
