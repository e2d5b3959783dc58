"""Rows as the groups that a reward model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twofold.batch import Branch, Group, Role
from twofold.data.encode import encode
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError
from twofold.models.load import LoadedModel
from twofold.progress import Progress
from twofold.records import Record

AT_ONCE = 64
"""Rows that are scored between two reports of progress."""


def encoder_of(loaded: LoadedModel, max_length: int, *, cut_prompt: bool, separator: str | None = None) -> Encoder:
    """The encoder of a reward model, for a prompt and a completion of `max_length` tokens together; `separator` joins
    steps."""
    how = TokenizeSettings(max_length=max_length, truncation="cut_prompt" if cut_prompt else "refuse")
    how = how if separator is None else replace(how, step_separator=separator)
    return Encoder(loaded.tokenizer, loaded.stop_tokens, how)


def groups_of(records: Sequence[Record], encoder: Encoder, progress: Progress) -> list[Group]:
    """One group per record; the answer of a problem is its completion. Raises DataError for a row that is too long."""
    encoded = encode(records, encoder, progress)
    if encoded.dropped:
        limit = encoder.settings.max_length
        what = f"a completion is longer than max_length ({limit})"
        raise DataError(what, where=encoded.dropped[0], remedy="raise max_length")
    return [_spoken(g) for g in encoded.groups]


def _spoken(group: Group) -> Group:
    if group.truth is None:
        return group
    return replace(group, branches=(Branch(group.truth, Role.TRUTH),), truth=None)
