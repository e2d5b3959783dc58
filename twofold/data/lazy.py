"""Parts, unions and readings of rows that are not held in memory: sequences, each with a `key` of what it holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def key(rows: Sequence[Any]) -> str:
    """What `rows` are, as a digest: that of a list is made of its members."""
    return rows.key if isinstance(rows, LazySequence) else _digest(map(repr, rows))


class LazySequence(Sequence[T]):
    """What all rows that are made when they are needed share: slices, and a key."""

    key: str

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.at(index % len(self))

    @abstractmethod
    def at(self, place: int) -> T:
        """The member at `place` ≥ 0."""


class Subset(LazySequence[T]):
    """The members of `of` at `places`."""

    def __init__(self, of: Sequence[T], places: NDArray[np.int64]) -> None:
        self.of, self.places = of, places
        self.key = _digest([key(of), places.tobytes().hex()])

    def __len__(self) -> int:
        return len(self.places)

    def at(self, place: int) -> T:
        return self.of[int(self.places[place])]


class Concat(LazySequence[T]):
    """The members of `parts`, one part after the other."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self.parts = parts
        self.key = _digest(map(key, parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[T]:
        return (member for part in self.parts for member in part)

    def at(self, place: int) -> T:
        for part in self.parts:
            if place < len(part):
                return part[place]
            place -= len(part)
        raise IndexError(place)


class MappedRows(LazySequence[T]):
    """The results of `reading` for each member of `of`: none, one or several. `name` identifies the reading.

    Made to be iterated: its length, and a member, take a pass.
    """

    def __init__(self, of: Sequence[T], reading: Callable[[T], Iterable[T]], name: str) -> None:
        self.of, self._reading = of, reading
        self.key = _digest([key(of), name])
        self._length: int | None = None

    def __iter__(self) -> Iterator[T]:
        return (made for member in self.of for made in self._reading(member))

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def at(self, place: int) -> T:
        return next(islice(iter(self), place, None))


def concat(parts: Sequence[Sequence[T]]) -> Sequence[T]:
    """One sequence of all parts: a list where all of them are lists."""
    if all(isinstance(part, list) for part in parts):
        return [member for part in parts for member in part]
    return parts[0] if len(parts) == 1 else Concat(parts)


def subset(of: Sequence[T], places: NDArray[np.int64]) -> Sequence[T]:
    """The members at `places`: of a list, a list."""
    return [of[i] for i in places.tolist()] if isinstance(of, list) else Subset(of, places)


def _digest(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]
