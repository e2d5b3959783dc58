"""Which rows of a source are read, and as what; and how much one row, and a packed file, may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twofold.data.issues import Acceptable
from twofold.settings import require, settings


@settings
class RowBounds:
    """Limits on the size of a row and on decompression. Larger input is an error, because it would cost unexpected time
    and memory."""

    bytes: int = 16 * 2**20
    """Maximum size of a row, decompressed: a line of JSON or CSV, an item of a JSON array, the values of a Parquet or
    Arrow row."""
    items: int = 1000
    """Maximum length of a list in a row: completions, messages."""
    growth: int = 100
    """Maximum ratio of decompressed to compressed size of a file (gz, zst, Parquet, Arrow). 64 MiB are always
    allowed."""

    def __post_init__(self) -> None:
        require(min(self.bytes, self.items, self.growth) >= 1, "bounds must be ≥ 1")


BOUNDS = RowBounds()


@dataclass(frozen=True)
class Reading:
    """Which rows of a source to read, and how. A Hub name may be `stream`ed, without a local copy of its files. What it
    is to `accept` are warnings; keys in `ignore` are treated as absent, in rows and in messages. With `whole` the full
    row is passed on, so that unknown keys are no error."""

    source: str
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    split: str = "train"
    limit: int | None = None
    stream: bool = False
    accept: tuple[Acceptable, ...] = ()
    ignore: tuple[str, ...] = ()
    bounds: RowBounds = BOUNDS
    whole: bool = False
