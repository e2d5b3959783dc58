"""An evaluation in two halves: first each item is measured, then figures are computed from all measurements.

So shards can measure, and the figures are the same as without shards. Measurements are JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from twofold.evaluation.figures import Evaluation
from twofold.ledger import Ledger
from twofold.models.load import weights_digest
from twofold.progress import Progress
from twofold.records import Record
from twofold.sampling.named_model import NamedModel

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the table: a row for each measured item. `about` is the same for all of them. `weights` identifies the
    model's weights, if that is required."""

    rows: list[Row]
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weights: str = ""


Measured: TypeAlias = dict[str, Line]
"""Lines by name, in the order of the table."""


@dataclass(frozen=True)
class Part:
    """The items to measure: from `first` to before `end`. With a ledger, measurements are recorded, and none is
    repeated. Its requests begin with `request`, which identifies the evaluation."""

    first: int = 0
    end: int | None = None
    ledger: Ledger | None = None
    request: str = ""

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The items that are measured here."""
        return items[self.first : self.end]

    def weights(self, model: NamedModel) -> str:
        """A digest that distinguishes a model's weights from others with its name; empty if it is not required."""
        return "" if self.ledger is None else weights_digest(model.loaded.model)[:16]

    def rows(
        self, name: Sequence[str], items: Sequence[T], size: int, work: Callable[[Sequence[T]], list[Row]],
        bar: tuple[str, Progress],
    ) -> list[Row]:  # fmt: skip
        """A row for each item that is measured here. `work` makes the rows in batches; `name` identifies them in the
        ledger. `bar` is the name of the work and the receiver of its progress."""
        first, end, _ = slice(self.first, self.end).indices(len(items))
        task, progress = bar
        found: list[Row] = []
        progress.begin(task, end - first)
        for start in range(first, end, size):
            stop = min(end, start + size)
            request = {"evaluation": self.request, "of": list(name), "items": [start, stop]}
            known = None if self.ledger is None else self.ledger.get(request)
            if known is None:
                known = work(items[start:stop])
                if self.ledger is not None:
                    self.ledger.add([(request, known)])
            found += known
            progress.advance(task, stop - start)
        progress.end(task)
        return found


WHOLE = Part()


Measure: TypeAlias = Callable[[Sequence[str], Any, Any, Part], Measured]
"""Measures models on items with settings."""


@dataclass(frozen=True)
class Halves:
    """A task: its settings, the items of rows, and both halves. `grain` returns the batch size for a number of items,
    so that shards begin where a batch of the whole work begins."""

    settings: type[Any]
    items: Callable[[Sequence[Record]], Sequence[Any]]
    measure: Measure
    figures: Callable[[Measured, Any], Evaluation]
    grain: Callable[[int], int] = lambda total: 1


def grain_of(total: int, most: int) -> int:
    """The batch size for `total` items: at most `most`, and such that there are at least 16 batches."""
    return min(most, max(1, -(-total // 16)))


def lines_of(measured: Measured) -> Iterator[Row]:
    """Every row with its line."""
    return ({"line": name, "row": row} for name, line in measured.items() for row in line.rows)


def facts_of(measured: Measured) -> dict[str, Any]:
    """The facts about each line, without its rows."""
    return {name: {"about": line.about, "weights": line.weights} for name, line in measured.items()}


def measured_of(facts: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> Measured:
    """The measurements of several shards of one evaluation, in order."""
    rows: dict[str, list[Row]] = {name: [] for name in facts}
    for line in lines:
        rows[line["line"]].append(line["row"])
    return {name: Line(rows[name], fact["about"], fact["weights"]) for name, fact in facts.items()}
