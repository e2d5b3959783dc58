"""Token groups on disk: flat int32 tokens, mapped into memory, and the counts of what it took to make them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from twofold.batch import STEP_LABEL, Branch, Group, Role, asides_of
from twofold.data.encode import Encoded, encode, tell
from twofold.data.lazy import key as key_of
from twofold.data.load import code
from twofold.data.store import Stored, opened, write
from twofold.data.tokenize import Encoder
from twofold.errors import DataError
from twofold.progress import Progress
from twofold.records import Record

_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    {"name": pa.string(), "prompt": _TOKENS, "tokens": _TOKENS, "lengths": _TOKENS, "roles": _TOKENS}
    | {"truth": _TOKENS, "columns": pa.string(), "asides": pa.string()}
    | {"steps": pa.string()}
)
FORMAT = 3
"""Of these files; a store of an earlier one is made again. 2 has asides, 3 labels of steps."""


class StoredGroups(Stored[Group]):
    """Groups made from disk as they are asked for; `digest` is that of `fingerprint`."""

    @property
    def digest(self) -> str:
        return self.facts["digest"]

    def names(self) -> Iterator[str]:
        """What the groups are called, without making them."""
        return (name for batch in self._batches for name in batch.column("name").to_pylist())

    def made(self, batch: pa.RecordBatch, place: int) -> Group:
        columns = batch.column("columns")[place].as_py()
        numbers: list[dict[str, float]] = json.loads(columns) if columns else []
        lengths = _slice(batch, "lengths", place).tolist()
        pieces = _tensor(batch, "tokens", place).split(lengths) if lengths else ()
        roles = _slice(batch, "roles", place).tolist()
        told = batch.column("asides")[place].as_py()
        asides: list[Any] = json.loads(told) if told else []
        rated = batch.column("steps")[place].as_py()
        labels = [{STEP_LABEL: torch.tensor(each)} for each in json.loads(rated)] if rated else []
        branches = tuple(
            Branch(
                tokens,
                Role(role),
                labels[i] if labels else {},
                numbers[i] if numbers else {},
                asides_of(asides[i]) if asides else (),
            )
            for i, (tokens, role) in enumerate(zip(pieces, roles, strict=True))
        )
        truth = _tensor(batch, "truth", place) if batch.column("truth")[place].is_valid else None
        return Group(batch.column("name")[place].as_py(), _tensor(batch, "prompt", place), branches, truth)


def encode_stored(
    records: Sequence[Record], encoder: Encoder, folder: Path, progress: Progress, workers: int = 0
) -> Encoded:
    """As `encode`, with groups that are kept in `folder`, where they are looked for first: under the rows, the
    tokenizer with its template, the settings and the code that made them."""
    parts = [key_of(records), fingerprint_of(encoder), code(), str(FORMAT)]
    key = sha256("\n".join(parts).encode()).hexdigest()[:32]
    found = _open(folder, key)
    if found is None:
        if (folder / f"{key}.json").is_file():
            progress.warn(f"{folder / key}.json: what is kept here is damaged; the tokens are made again")
        encode(
            records, encoder, progress, keep=lambda groups, facts: _write(folder, key, groups, facts), workers=workers
        )
        found = _open(folder, key)
        if found is None:
            raise DataError("the tokens just written cannot be read again", where=str(folder), remedy="check the disk")
        return found
    tell(found, encoder.settings.max_length, progress)
    return found


def fingerprint_of(encoder: Encoder) -> str:
    """A digest of all that decides which tokens a text becomes."""
    import tokenizers
    import transformers

    versions = (transformers.__version__, tokenizers.__version__)
    how = (sorted(encoder.stop_tokens), encoder.settings, encoder.turns.choice)
    parts = (tokenizer_digest(encoder.tokenizer), how, versions)
    return sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of a tokenizer's words, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    parts = (type(tokenizer).__name__, repr(tokenizer.special_tokens_map), tokenizer.chat_template, words)
    return sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


class Fingerprint:
    """A digest over groups as they come: tokens and numbers, not names."""

    def __init__(self) -> None:
        self._sum = sha256()

    def add(self, group: Group) -> None:
        truth = [] if group.truth is None else [group.truth]
        for tokens in (group.prompt, *(b.tokens for b in group.branches), *truth):
            self._sum.update(len(tokens).to_bytes(8, "little") + tokens.numpy().tobytes())
        if columns := [sorted(b.columns.items()) for b in group.branches if b.columns]:
            self._sum.update(repr(columns).encode())
        if labels := step_labels_of(group):
            self._sum.update(repr(labels).encode())
        if asides := [b.asides_as_lists() for b in group.branches if b.asides]:
            self._sum.update(repr(asides).encode())

    def hexdigest(self) -> str:
        return self._sum.hexdigest()[:16]


def fingerprint(groups: Sequence[Group]) -> str:
    """The digest of `groups`; of stored ones without reading them."""
    if isinstance(groups, StoredGroups):
        return groups.digest
    made = Fingerprint()
    for group in groups:
        made.add(group)
    return made.hexdigest()


def max_tokens(groups: Sequence[Group]) -> int:
    """The most tokens that a group of `groups` takes in a pack; of stored ones without reading them."""
    return groups.facts["max_tokens"] if isinstance(groups, StoredGroups) else max(g.num_tokens for g in groups)


def _write(folder: Path, key: str, groups: Iterable[Group], facts: Any) -> Sequence[Group]:
    made, longest = Fingerprint(), 0

    def columns(chunk: list[Group]) -> list[pa.Array]:
        nonlocal longest
        for group in chunk:
            made.add(group)
        longest = max(longest, *(group.num_tokens for group in chunk))
        return _columns(chunk)

    def closing() -> tuple[str, dict[str, Any]]:
        return key, {**facts(), "digest": made.hexdigest(), "max_tokens": longest}

    write(folder, _SCHEMA, groups, columns, closing)
    found = opened(folder, key)
    return [] if found is None else StoredGroups(key, *found)


def _open(folder: Path, key: str) -> Encoded | None:
    found = opened(folder, key) if (folder / f"{key}.json").is_file() else None
    if found is None:
        return None
    facts = {name: fact for name, fact in found[1].items() if name not in ("digest", "max_tokens")}
    return Encoded.of(StoredGroups(key, *found), facts)


def _columns(groups: Sequence[Group]) -> list[pa.Array]:
    """The columns of the schema, of all `groups` at once."""
    counts = [len(group.branches) for group in groups]
    branches = [branch for group in groups for branch in group.branches]
    lengths, roles = [branch.tokens.numel() for branch in branches], [int(branch.role) for branch in branches]
    of_group = [sum(b.tokens.numel() for b in group.branches) for group in groups]
    truths = [group.truth for group in groups]
    return [
        pa.array([group.name for group in groups], pa.string()),
        _lists(_flat([group.prompt for group in groups]), [group.prompt.numel() for group in groups]),
        _lists(_flat([branch.tokens for branch in branches]), of_group),
        _lists(lengths, counts),
        _lists(roles, counts),
        _lists(_flat([t for t in truths if t is not None]), [None if t is None else t.numel() for t in truths]),
        pa.array([_json_of([dict(b.columns) for b in group.branches]) for group in groups], pa.string()),
        pa.array([_json_of([b.asides_as_lists() for b in group.branches]) for group in groups], pa.string()),
        pa.array([_json_of(step_labels_of(group)) for group in groups], pa.string()),
    ]


def _flat(pieces: list[Tensor]) -> NDArray[np.int32]:
    return torch.cat(pieces).numpy().astype(np.int32) if pieces else np.empty(0, np.int32)


def _lists(values: Sequence[int] | NDArray[np.int32], counts: Sequence[int | None]) -> pa.ListArray:
    """The `values` divided into lists, each of its count; None where there is no list."""
    ends = np.cumsum([0, *(count or 0 for count in counts)], dtype=np.int32)
    missing = pa.array([count is None for count in counts]) if None in counts else None
    return pa.ListArray.from_arrays(ends, pa.array(values, pa.int32()), mask=missing)


def _json_of(values: Sequence[Any]) -> str | None:
    """None where none of the `values` holds anything."""
    return json.dumps(values) if any(values) else None


def step_labels_of(group: Group) -> list[list[float]]:
    """The labels of steps of each branch as numbers; empty if steps are not rated."""
    columns = [b.token_columns for b in group.branches if STEP_LABEL in b.token_columns]
    return [list(map(float, column[STEP_LABEL])) for column in columns]


def _slice(batch: pa.RecordBatch, column: str, place: int) -> Any:
    return batch.column(column)[place].values.to_numpy()


def _tensor(batch: pa.RecordBatch, column: str, place: int) -> Tensor:
    return torch.from_numpy(_slice(batch, column, place).astype(np.int64))
