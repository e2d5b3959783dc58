"""What scores completions: a trained reward model, and whatever else has this form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twofold.progress import Progress
from twofold.records import Record


class Scorer(Protocol):
    """Scores for the completions of records, in the order in which `records.said` tells them; higher is better."""

    def score(self, records: Sequence[Record], progress: Progress) -> list[list[float]]: ...
