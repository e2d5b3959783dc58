"""Which rows a run reads: files and mixtures to train on, and the splits that are held out or generated for."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal

from twofold.data.issues import Acceptable
from twofold.data.readers import files, is_pattern
from twofold.data.reading import RowBounds
from twofold.data.tokenize import TokenizeSettings
from twofold.data.turns import ChatChoice
from twofold.errors import DataError
from twofold.settings import require, settings

MOST_WORKERS = 1024


@settings
class DataSplit:
    """Rows from a separate file, or a count or fraction of the training rows. All rows of a prompt are in the same
    split."""

    file: str | None = None
    split: str = "train"
    """Split of a Hub data set or a `datasets` folder."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """twofold's field names → the file's."""
    count: int | None = None
    fraction: float | None = None
    limit: int | None = None
    """Maximum number of rows of `file`."""

    def __post_init__(self) -> None:
        given = [x is not None for x in (self.file, self.count, self.fraction)]
        require(sum(given) == 1, "give one of file, count and fraction")
        require(self.fraction is None or 0 < self.fraction < 1, "fraction must be in (0, 1)")
        require(self.count is None or self.count > 0, "count must be ≥ 1")
        require(self.limit is None or self.limit > 0, "limit must be ≥ 1")


@settings
class DataSource:
    """One file of a list or mixture."""

    file: str
    weight: float | None = None
    """Sampling weight, relative to the other files' weights. Without weights, each file counts by its number of
    rows."""
    split: str = "train"
    """Split of a Hub data set or a `datasets` folder."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """twofold's field names → the file's."""
    limit: int | None = None
    """Maximum number of rows."""
    stream: bool = False
    """For a Hub name: read row by row over the network, without a local copy."""

    def __post_init__(self) -> None:
        require(self.weight is None or 0 < self.weight < math.inf, "weight must be > 0 and finite")
        require(self.limit is None or self.limit > 0, "limit must be ≥ 1")
        alone = self.weight is None and self.limit is None
        require(alone or not is_pattern(self.file), "weight and limit go with one file, not with a pattern")


@settings
class DataBeside:
    """Further rows for every step, with an objective of their own: demonstrations next to pairs, against
    forgetting."""

    file: str
    objective: Mapping[str, bool | int | float | str] = field(default_factory=lambda: {"kind": "sft"})
    """A section like `objective`, of one that needs no reference model."""
    share: float = 0.25
    """Rows per step, relative to training.batch_size; at least one. They are in addition to the training rows."""
    weight: float = 1.0
    """Weight of their loss."""
    split: str = "train"
    """Split of a Hub data set or a `datasets` folder."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """twofold's field names → the file's."""
    limit: int | None = None
    """Maximum number of rows."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit > 0, "limit must be ≥ 1")
        require(0 < self.share < math.inf, "share must be > 0 and finite")
        require(0 < self.weight < math.inf, "weight must be > 0 and finite")

    def rows_per_step(self, batch_size: int) -> int:
        return max(1, round(self.share * batch_size))


@settings
class DataSettings:
    """The training data. Errors name file, row and field. `twofold data check FILE` checks a file without training."""

    train: str | tuple[str | DataSource, ...]
    """A file (JSON, JSON Lines, CSV, Parquet, Arrow), a pattern (`data/*.jsonl`), a folder saved by `datasets`, a Hub
    name, or a list of these. A list entry is a name or a section. A list with weights is a mixture."""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """twofold's field names → the file's, where they differ. They also select the row format if several match
    (docs/data.md)."""
    limit: int | None = None
    """Maximum number of rows."""
    balance: Literal["rows", "sources"] = "rows"
    """What counts the same in the loss. rows: every row, by its `weight`. sources: every file of a list, whatever its
    size; of a mixture each file by its sampling weight."""
    stream: bool = False
    """For a Hub name: read row by row over the network, without a local copy."""
    accept: tuple[Acceptable, ...] = ()
    """Kinds of errors to accept in every file; rows with them are still used for training. Example: contradictory
    labels from annotators who disagree."""
    ignore: tuple[str, ...] = ()
    """Keys of rows and messages to ignore, in every file. Any other key that twofold does not read is an error."""
    bounds: RowBounds = field(default_factory=RowBounds)
    cache: str | None = None
    """Folder for the rows and tokens of data that does not fit in memory (default: `data-cache` in the run folder).
    Later runs reuse it."""
    generator: DataSplit | None = None
    """Problems for PDPO's generator. If they are a share of the training pairs, chosen is the ground truth."""
    heldout: DataSplit | None = None
    """Held-out rows: the objective's metrics (accuracy, margin …) are computed on them. They are never used for
    training."""
    also: DataBeside | None = None
    """Further rows for every step, such as demonstrations next to pairs."""
    chat: ChatChoice = "auto"
    """How to read prompts that are plain text. auto: as a user turn (a transcript: as several turns) if the tokenizer
    has a chat template, else as plain text. text: always as plain text. chat: always as turns. The choice is saved with
    the trained model, and auto uses a saved choice."""
    tokenize: TokenizeSettings = field(default_factory=TokenizeSettings)
    workers: int = 0
    """Number of processes that tokenize, with the same result. 0: this process, which is as fast for few rows."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit > 0, "limit must be ≥ 1")
        require(0 <= self.workers <= MOST_WORKERS, f"workers must be from 0 to {MOST_WORKERS}")
        shares = [part.fraction or 0.0 for part in (self.heldout, self.generator) if part is not None]
        require(sum(shares) < 1, "the fractions of heldout and generator leave no row to train on: lower one")
        if isinstance(self.train, str):
            require(self.limit is None or not is_pattern(self.train), "limit goes with one file, not with a pattern")
            return
        parts = self._parts()
        weighed, names = [p.weight is not None for p in parts], [p.file for p in parts]
        require(len(names) > 0, "train needs at least one file")
        require(len(set(names)) == len(names), "train names a file twice: give it once, with the weight of both")
        require(all(weighed) or not any(weighed), "train needs a weight for every file, or for none")
        alone = not self.columns and self.limit is None and self.split == "train" and not self.stream
        require(alone, "train is a mixture: give columns, split, limit and stream to its files")

    def _parts(self) -> tuple[DataSource, ...]:
        if isinstance(self.train, str):
            columns, split = self.columns, self.split
            return (DataSource(file=self.train, split=split, columns=columns, limit=self.limit, stream=self.stream),)
        return tuple(DataSource(file=part) if isinstance(part, str) else part for part in self.train)

    @property
    def is_mixture(self) -> bool:
        """Whether weights define how often each file is sampled."""
        return any(part.weight is not None for part in self._parts())

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The files of `train`, each with how it is read; a pattern is as many as there are files that match it. Raises
        DataError where none does, or where one is named twice."""
        listed = tuple(replace(part, file=name) for part in self._parts() for name in files(part.file))
        paths = [part.file if "://" in part.file else os.path.normpath(part.file) for part in listed]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise DataError("is in data.train twice", where=twice, remedy="name it once")
        return listed
