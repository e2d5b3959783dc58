"""How much rows count: the sum of their weights, and how many rows of equal weight have the same information."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Weights:
    """Sums over rows: their number, weights and squared weights. A row without a weight counts once."""

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0
    weighted: int = 0
    """Rows that have a weight."""

    def add(self, weight: float | None) -> None:
        value = 1.0 if weight is None else weight
        self.rows += 1
        self.total += value
        self.squares += value * value
        self.weighted += weight is not None

    @property
    def effective(self) -> float:
        """(Σ weight)² / Σ weight², after Kish: as many rows of equal weight have the same variance of a mean."""
        return self.total**2 / self.squares if self.squares else 0.0

    @property
    def nothing(self) -> bool:
        """Whether there are rows and all of them have weight 0."""
        return self.rows > 0 and not self.total

    def words(self) -> str:
        rows = f"{self.rows:,} rows of which {self.weighted:,} have a weight"
        return f"weights: {rows} count as {self.total:g}, and as much as {self.effective:,.1f} rows of equal weight"

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "effective": self.effective}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Weights:
        return cls(**{name: value for name, value in facts.items() if name != "effective"})
