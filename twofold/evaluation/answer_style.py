"""The style of an answer as arena-hard-auto measures it: its tokens, and its headers, list items and bold texts.

Files of arena-hard-auto have the counts of each answer as `metadata`; of other answers they are counted by the rules of
its `add_markdown_info.py`, with tokens by tiktoken's encoding of gpt-4o.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from twofold.data.reasoning import without_reasoning
from twofold.errors import DataError
from twofold.evaluation.parts import Row
from twofold.evaluation.published_rows import BenchmarkItem, fields_of
from twofold.records import transcript_of, unshown

Style: TypeAlias = "list[int]"
"""Tokens, headers, list items and bold texts of an answer."""
NAMES = ("tokens", "headers", "lists", "bold")
TOKENIZED_AS = "gpt-4o"
_KEYS = ("token_len", "header_count", "list_count", "bold_count")
_BLOCK = re.compile("```([^`]*)```")
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = (re.compile(r"\*\*[^*\n]+\*\*"), re.compile(r"__[^_\n]+__"))


class _Encoding(Protocol):
    def encode(self, text: str, *, disallowed_special: tuple[str, ...]) -> list[int]: ...


class TokenCounter:
    """Counts tokens with tiktoken, if it is installed and has its vocabulary."""

    def count(self, text: str) -> int | None:
        """The tokens of a text; None if they cannot be counted."""
        encoding = self._opened[0]
        return None if encoding is None else len(encoding.encode(text, disallowed_special=()))

    @property
    def lacks(self) -> str:
        """Why nothing can be counted here, with what to do; "" if it can."""
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[_Encoding | None, str]:
        try:
            import tiktoken  # pyright: ignore[reportMissingImports]  # optional

            return tiktoken.encoding_for_model(TOKENIZED_AS), ""
        except ImportError:
            return None, "tiktoken is not installed: pip install tiktoken"
        except Exception as error:  # its download raises errors of several libraries
            why = f"tiktoken has no vocabulary of {TOKENIZED_AS} ({type(error).__name__})"
            return None, f"{why}: let it download that once, or set TIKTOKEN_CACHE_DIR"


def markdown_of(text: str) -> list[int]:
    """Headers, list items and bold texts of an answer.

    What is between triple backquotes is not counted. The published rule removes such a text from the whole answer, also
    where it occurs again outside of them.
    """
    for block in _BLOCK.findall(text):
        text = text.replace(block, "")
    bold = sum(len(pattern.findall(text)) for pattern in _BOLD)
    return [len(_HEADER.findall(text)), len(_ITEM.findall(text)), bold]


def styled(
    rows: Sequence[Row], items: Sequence[BenchmarkItem], files: tuple[str | None, str | None], counter: TokenCounter
) -> list[Row]:
    """The rows with `style` and `other_style`, a `Style` or None where its tokens cannot be counted.

    `files` are where both players' answers were read, None for answers that were sampled. Raises DataError for
    `metadata` that has other values than counts.
    """
    found = [dict(row) for row in rows]
    for side, key, file in zip(("own", "other"), ("style", "other_style"), files, strict=True):
        known = {} if file is None else _published(file, items)
        for row in found:
            row[key] = _style(
                transcript_of(without_reasoning(unshown(row[side]))), known.get(row["index"], {}), counter
            )
    return found


def _style(text: str, known: Mapping[str, int], counter: TokenCounter) -> Style | None:
    tokens = known["token_len"] if "token_len" in known else counter.count(text)
    own = [known.get(key, count) for key, count in zip(_KEYS[1:], markdown_of(text), strict=True)]
    return None if tokens is None else [tokens, *own]


def _published(file: str, items: Sequence[BenchmarkItem]) -> dict[int, dict[str, int]]:
    """The counts in a file's `metadata`, by the index of an item."""
    return {
        index: {key: _total(value[key], f"{where}: metadata.{key}") for key in _KEYS if key in value}
        for index, (where, value) in fields_of(file, items, "metadata").items()
        if isinstance(value, dict)
    }


def _total(value: Any, where: str) -> int:
    """A count, or the sum of several by kind."""
    counts = list(value.values()) if isinstance(value, dict) else [value]
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        remedy = "remove `metadata` from the row: then the answer's text is counted"
        raise DataError("is no count", where=where, remedy=remedy)
    return sum(counts)
