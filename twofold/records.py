"""What people bring, after any file format: a prompt and what was said, with the place it came from.

A prompt is either plain text or a chat (a tuple of messages); a completion is text in both cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record was read: file (or hub name) and row, counted from 1 as editors do."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: `chosen` is better than `rejected` as an answer to `prompt`."""

    prompt: Prompt
    chosen: str
    rejected: str
    source: Source


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer worth imitating."""

    prompt: Prompt
    completion: str
    source: Source


@dataclass(frozen=True, slots=True)
class Task:
    """A problem whose answer can be checked: `answer` is the worked ground truth or only its last line."""

    prompt: Prompt
    answer: str
    source: Source


Record: TypeAlias = Pair | Demonstration | Task
