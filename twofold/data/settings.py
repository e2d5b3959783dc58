"""Which rows a run reads: files and mixtures to train on, and the splits that are held out or generated for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from twofold.data.issues import Acceptable
from twofold.data.tokenize import TokenizeSettings
from twofold.data.turns import ChatChoice
from twofold.settings import require, settings


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


@settings
class DataSettings:
    """What to train on. Errors name file, row and field; `twofold data check FILE` looks without training."""

    train: str | tuple[DataSource, ...]
    """A file (JSON, JSON lines, CSV, parquet, Arrow), a folder saved by `datasets`, a hub name, or a list of these with
    weights: a mixture."""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Our field names → the file's, where they differ; they also choose the shape where several fit (docs/data.md)."""
    limit: int | None = None
    """Rows at most."""
    stream: bool = False
    """Of a hub name: read over the network, row by row, without a copy of its files here."""
    accept: tuple[Acceptable, ...] = ()
    """Kinds of errors whose rows are trained on all the same, of every file: contradictions of people who disagree."""
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

    def __post_init__(self) -> None:
        if isinstance(self.train, str):
            return
        weighed, files = [p.weight is not None for p in self.train], [p.file for p in self.train]
        require(len(files) > 0, "train needs at least one file")
        require(len(set(files)) == len(files), "train names a file twice: give it once, with the weight of both")
        require(all(weighed) or not any(weighed), "train needs a weight for every file, or for none")
        alone = not self.columns and self.limit is None and self.split == "train" and not self.stream
        require(alone, "train is a mixture: give columns, split, limit and stream to its files")

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The files of `train`, each with how it is read."""
        if not isinstance(self.train, str):
            return self.train
        columns, split = self.columns, self.split
        return (DataSource(file=self.train, split=split, columns=columns, limit=self.limit, stream=self.stream),)
