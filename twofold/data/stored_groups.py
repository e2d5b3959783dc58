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

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal longest
        for group in groups:
            made.add(group)
            longest = max(longest, group.num_tokens)
            yield _row(group)

    def closing() -> tuple[str, dict[str, Any]]:
        return key, {**facts(), "digest": made.hexdigest(), "max_tokens": longest}

    write(folder, _SCHEMA, rows(), closing)
    found = opened(folder, key)
    return [] if found is None else StoredGroups(key, *found)


def _open(folder: Path, key: str) -> Encoded | None:
    found = opened(folder, key) if (folder / f"{key}.json").is_file() else None
    if found is None:
        return None
    facts = {name: fact for name, fact in found[1].items() if name not in ("digest", "max_tokens")}
    return Encoded.of(StoredGroups(key, *found), facts)


def _row(group: Group) -> dict[str, Any]:
    numbers = [dict(b.columns) for b in group.branches]
    asides = [b.asides_as_lists() for b in group.branches]
    labels = step_labels_of(group)
    return {
        "name": group.name,
        "prompt": group.prompt.numpy().astype(np.int32),
        "tokens": torch.cat([b.tokens for b in group.branches]).numpy().astype(np.int32) if group.branches else [],
        "lengths": [len(b.tokens) for b in group.branches],
        "roles": [int(b.role) for b in group.branches],
        "truth": None if group.truth is None else group.truth.numpy().astype(np.int32),
        "columns": json.dumps(numbers) if any(numbers) else None,
        "asides": json.dumps(asides) if any(asides) else None,
        "steps": json.dumps(labels) if labels else None,
    }


def step_labels_of(group: Group) -> list[list[float]]:
    """The labels of steps of each branch as numbers; empty if steps are not rated."""
    columns = [b.token_columns for b in group.branches if STEP_LABEL in b.token_columns]
    return [list(map(float, column[STEP_LABEL])) for column in columns]


def _slice(batch: pa.RecordBatch, column: str, place: int) -> Any:
    return batch.column(column)[place].values.to_numpy()


def _tensor(batch: pa.RecordBatch, column: str, place: int) -> Tensor:
    return torch.from_numpy(_slice(batch, column, place).astype(np.int64))
