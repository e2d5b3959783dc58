"""JSON without the losses that Python's own reader allows: a key that is there twice is an error."""

from __future__ import annotations

from typing import Any


class TwiceError(ValueError):
    """A `key` occurs twice in one object, and one of its two values would be lost."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the key {key[:60]!r} is there twice in one object")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of `pairs`, for `object_pairs_hook`; raises `TwiceError`."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen = set[str]()
        raise TwiceError(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return made
