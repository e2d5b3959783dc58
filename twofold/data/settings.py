"""Which rows a run reads: files and mixtures to train on, and the splits that are held out or generated for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

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
    """Rows from a file of their own, or a count or fraction of the training rows (a prompt never on two sides)."""

    file: str | None = None
    split: str = "train"
    """Of a hub name or a `datasets` folder."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Our field names → the file's."""
    count: int | None = None
    fraction: float | None = None
    limit: int | None = None
    """Rows of `file` at most."""

    def __post_init__(self) -> None:
        given = [x is not None for x in (self.file, self.count, self.fraction)]
        require(sum(given) == 1, "give one of file, count and fraction")
        require(self.fraction is None or 0 < self.fraction < 1, "fraction must be in (0, 1)")
        require(self.count is None or self.count > 0, "count must be ≥ 1")


@settings
class DataSource:
    """One file of a mixture."""

    file: str
    weight: float | None = None
    """Share of the rows in the stream, relative to the other files' weights; without weights, the share of its rows."""
    split: str = "train"
    """Of a hub name or a `datasets` folder."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Our field names → the file's."""
    limit: int | None = None
    """Rows at most."""
    stream: bool = False
    """Of a hub name: read over the network, row by row, without a copy of its files here."""

    def __post_init__(self) -> None:
        require(self.weight is None or self.weight > 0, "weight must be > 0")
        alone = self.weight is None and self.limit is None
        require(alone or not is_pattern(self.file), "weight and limit go with one file, not with a pattern")


@settings
class DataSettings:
    """What to train on. Errors name file, row and field; `twofold data check FILE` looks without training."""

    train: str | tuple[str | DataSource, ...]
    """A file (JSON, JSON lines, CSV, parquet, Arrow), a pattern (`data/*.jsonl`), a folder saved by `datasets`, a hub
    name, or a list of these, each by its name or as a section; with weights, a mixture."""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Our field names → the file's, where they differ; they also choose the shape where several fit (docs/data.md)."""
    limit: int | None = None
    """Rows at most."""
    stream: bool = False
    """Of a hub name: read over the network, row by row, without a copy of its files here."""
    accept: tuple[Acceptable, ...] = ()
    """Kinds of errors whose rows are trained on all the same, of every file: contradictions of people who disagree."""
    ignore: tuple[str, ...] = ()
    """Keys of rows and messages that may be lost, in every file: those that nothing reads are errors otherwise."""
    bounds: RowBounds = field(default_factory=RowBounds)
    cache: str | None = None
    """Folder for rows and tokens of data too large to hold (`data-cache` in the run): later runs find them there."""
    generator: DataSplit | None = None
    """Problems for PDPO's generator; from a share of pairs, the chosen completion is the ground truth."""
    heldout: DataSplit | None = None
    """Rows to measure the objective on (accuracy, margin …), never trained on."""
    chat: ChatChoice = "auto"
    """Prompts that are text: a user's turn (transcripts: several) where the tokenizer has a chat template and bare text
    where not (auto); always bare text; or always turns. The trained model keeps the choice, and auto follows it."""
    tokenize: TokenizeSettings = field(default_factory=TokenizeSettings)
    workers: int = 0
    """Processes that tokenize beside this one, to the same tokens; 0: this one does, which is as fast for few rows."""

    def __post_init__(self) -> None:
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
        """Whether weights say how often each file is met."""
        return any(part.weight is not None for part in self._parts())

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The files of `train`, each with how it is read; a pattern is as many as there are files that match it. Raises
        DataError where none does, or where one is named twice."""
        listed = tuple(replace(part, file=name) for part in self._parts() for name in files(part.file))
        names = [part.file for part in listed]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError("is in data.train twice: by its name and by a pattern", where=twice, remedy="name it once")
        return listed
