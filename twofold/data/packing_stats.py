"""What a data set costs: how much of padded batches would be padding, and what sharing a prompt saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twofold.data.order import permutation

BATCH = 8
"""Rows of a padded batch: with pairs, sixteen sequences."""


@dataclass(frozen=True)
class Lengths:
    """A row's tokens: its prompt's, and each completion's."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def apart(self) -> tuple[int, ...]:
        """Tokens of each completion as a sequence of its own, behind a prompt of its own."""
        return tuple(self.prompt + n for n in self.completions) or (self.prompt,)

    @property
    def together(self) -> int:
        """Number of tokens if the completions share one copy of the prompt."""
        return self.prompt + sum(self.completions)


@dataclass(frozen=True)
class Savings:
    """Tokens of a data set: in padded batches of separate sequences, of the sequences themselves, and with shared
    prompts."""

    rows: int
    padded: int
    apart: int
    together: int

    @property
    def padding(self) -> float:
        """Share of padded batches that is padding; packs have none."""
        return 1 - self.apart / self.padded

    @property
    def sharing(self) -> float:
        """Share of the sequences' tokens that a shared prompt saves."""
        return 1 - self.together / self.apart

    @property
    def factor(self) -> float:
        """How many times the tokens a padded, unshared layout takes."""
        return self.padded / self.together


def savings(rows: Iterable[Lengths], batch: int = BATCH) -> Savings | None:
    """What `rows` cost; a padded batch holds `batch` rows of a shuffled epoch (seed 0) and is as wide as its longest
    sequence. None without rows."""
    lengths = list(rows)
    if not lengths:
        return None
    order = permutation(len(lengths), 0, 0)
    batches = (order[i : i + batch] for i in range(0, len(order), batch))
    padded = sum(_area([n for place in batch for n in lengths[place].apart]) for batch in batches)
    apart = sum(sum(row.apart) for row in lengths)
    return Savings(len(lengths), padded, apart, sum(row.together for row in lengths))


def _area(lengths: Sequence[int]) -> int:
    return len(lengths) * max(lengths)
