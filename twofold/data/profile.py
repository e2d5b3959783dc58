"""What a source of rows is made of: lengths, origins, scores, scripts, and which preferences go with them."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from twofold.data.issues import Issue
from twofold.data.json_rows import Row
from twofold.data.lengths import LengthBias
from twofold.data.scores import score_margin
from twofold.data.scripts import LETTERS, main_script
from twofold.data.values import Values
from twofold.records import Pair, Record, completion_fields, text_of
from twofold.statistics import Estimate, wilson

ORIGINS = (
    "source", "dataset", "data_source", "dataset_name", "origin", "subset", "category", "domain", "topic", "task",
)  # fmt: skip
"""Columns that name where a row is from; the first one that a source has is used."""
MODELS = ("chosen_model", "rejected_model")
MOST_NAMES = 500


class Profile:
    """Sees every usable row once. Lengths and margins are on disk, 8 bytes each."""

    def __init__(self) -> None:
        self.lengths: dict[str, Values] = defaultdict(Values)
        self.differences, self.margins, self._contradicted = Values(), Values(np.float64), 0
        self.origins: Counter[str] = Counter()
        self.bias: dict[str, LengthBias] = {}
        self.wins: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.scripts: Counter[str] = Counter()
        self.origin_column = ""

    def see(self, record: Record, row: Row) -> None:
        prompt = record.prompt if isinstance(record.prompt, str) else "\n".join(m.text for m in record.prompt)
        fields = [("prompt", prompt), *((field, text_of(told)) for field, told in completion_fields(record))]
        for field, text in fields:
            self.lengths[field.partition("[")[0]].append(len(text))
        self.scripts[main_script("".join(text[:LETTERS] for _, text in fields)[:LETTERS])] += 1
        origin = self._origin(row)
        if isinstance(record, Pair):
            chosen, rejected = len(text_of(record.chosen)), len(text_of(record.rejected))
            self.differences.append(chosen - rejected)
            if origin:
                self.bias.setdefault(origin, LengthBias()).add(chosen, rejected)
            self._models(row)
        margin = score_margin(record, row)
        if margin is not None:
            self.margins.append(margin)
            self._contradicted += margin <= 0

    def _origin(self, row: Row) -> str:
        self.origin_column = self.origin_column or next((c for c in ORIGINS if isinstance(row.get(c), str)), "")
        name = row.get(self.origin_column) if self.origin_column else None
        if not isinstance(name, str) or not name:
            return ""
        name = name if name in self.origins or len(self.origins) < MOST_NAMES else "others"
        self.origins[name] += 1
        return name

    def _models(self, row: Row) -> None:
        better, worse = (row.get(column) for column in MODELS)
        if isinstance(better, str) and isinstance(worse, str) and better != worse:
            _count(self.wins, better)
            _count(self.losses, worse)

    def faults(self, source: str) -> tuple[Issue, ...]:
        del source
        return ()

    @property
    def noise(self) -> Estimate | None:
        """The share of scored pairs whose rejected answer scores as high as the chosen one, or higher."""
        return wilson(self._contradicted, len(self.margins)) if len(self.margins) else None

    def longer_by_origin(self, most: int) -> list[tuple[str, Estimate]]:
        """How often the longer answer is chosen, for the `most` frequent origins."""
        names = [name for name, _ in self.origins.most_common() if name in self.bias and self.bias[name].share.n]
        return [(name, self.bias[name].share) for name in names[:most]]

    def win_rates(self, most: int) -> list[tuple[str, Estimate]]:
        """How often each model's answer is chosen over another model's, for the `most` frequent models."""
        compared = self.wins + self.losses
        return [(name, wilson(self.wins[name], count)) for name, count in compared.most_common(most)]


def _count(names: Counter[str], name: str) -> None:
    """Count a name, unless it is one more than MOST_NAMES."""
    if name in names or len(names) < MOST_NAMES:
        names[name] += 1
