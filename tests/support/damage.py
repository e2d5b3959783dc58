"""Files that twofold wrote, damaged at random places, and what comes of it when they are used again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.errors import TwofoldError

Use = Callable[[], tuple[Any, Sequence[str]]]
"""Reads the file as twofold does: what came of it, and what was warned of."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: those that there are, how they are used, and by which of the others each may be replaced."""

    name: str
    files: Sequence[Path]
    use: Use
    allowed: Callable[[Any, Any], bool] = lambda found, whole: False
    """Whether another result is none the worse: a reply that is not known any more is asked for again."""


def flip(data: bytes, noise: random.Random) -> bytes:
    at = noise.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << noise.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, noise: random.Random) -> bytes:
    return data[: noise.randrange(len(data))]


def grow(data: bytes, noise: random.Random) -> bytes:
    return data + noise.randbytes(noise.randrange(1, 40))


def swap(data: bytes, noise: random.Random) -> bytes:
    """Two stretches change their places."""
    size = max(1, min(16, len(data) // 3))
    a, b = sorted(noise.sample(range(0, len(data) - size + 1), 2))
    b = max(b, a + size) if a + 2 * size <= len(data) else b
    one, other = data[a : a + size], data[b : b + size]
    return data[:a] + other + data[a + size : b] + one + data[b + len(other) :]


HARMS = (flip, flip, flip, cut, grow, swap)


def outcome(kind: Kind, file: Path, whole: Any) -> str:
    """How the damage to `file` was met; raises whatever is not a message, and AssertionError for a silent change."""
    try:
        found, warned = kind.use()
    except TwofoldError as error:
        if not _names(str(error), file):
            raise AssertionError("refused without a name") from error
        return "refused"
    if any(_names(text, file) for text in warned):
        assert found == whole or kind.allowed(found, whole), "told, and another result"
        return "told, then made again or left out"
    if found == whole:
        return "the same"
    assert kind.allowed(found, whole), f"{found!r} instead of {whole!r}"
    return "asked again"


def _names(text: str, file: Path) -> bool:
    return file.name in text or file.parent.name in text


def tries(kind: Kind, number: int, seed: int = 0) -> Counter[str]:
    """Damage the files of a kind `number` times, one after the other, and count how that was met."""
    noise, counts = random.Random(f"{kind.name}/{seed}"), Counter[str]()
    whole, warned = kind.use()
    assert not warned, f"{kind.name} is damaged from the start: {warned}"
    for n in range(number):
        file, harm = kind.files[n % len(kind.files)], HARMS[n // len(kind.files) % len(HARMS)]
        before = file.read_bytes()
        if not before:
            continue
        others = [f for f in kind.files if f != file and f.suffix == file.suffix and f.read_bytes() != before]
        damaged = noise.choice(others).read_bytes() if others and noise.random() < 0.15 else harm(before, noise)
        if damaged == before:
            continue
        file.write_bytes(damaged)
        try:
            counts[outcome(kind, file, whole)] += 1
        except BaseException as error:
            raise AssertionError(f"{kind.name}: {harm.__name__} of {file}: {type(error).__name__} {error}") from error
        finally:
            file.write_bytes(before)
    return counts
