"""Word n-grams of texts as 64-bit hashes: what near-duplicates and contamination are found by."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from twofold.records import TOOLS, Prompt

Grams = NDArray[np.uint64]
"""[n]: a hash of each n-gram, in the order of the text."""
_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Letters of scripts that write no spaces between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese)."""
_IN_COMMON = ("system", "developer", TOOLS)
_WORD = re.compile(f"[{_WITHOUT_SPACES}]|[^\\W{_WITHOUT_SPACES}]+")
_MULTIPLIER, _FINISH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def composed(text: str) -> str:
    """A text in which an accented letter is one character (Unicode's NFC), not a letter and an accent."""
    return text if text.isascii() else normalize("NFC", text)


def words(text: str) -> Grams:
    """A hash of each word of `text` [n], without case and punctuation. In scripts without spaces a letter is a word."""
    found: list[str] = _WORD.findall(composed(text).casefold())
    return np.fromiter(map(_hash, found), np.uint64, len(found))


def prompt_words(prompt: Prompt) -> Grams:
    """The words of a prompt: of a chat without instructions and tools, which many rows have in common."""
    if isinstance(prompt, str):
        return words(prompt)
    turns = [turn for turn in prompt if turn.role not in _IN_COMMON] or prompt
    return words("\n".join(turn.text for turn in turns))


@lru_cache(1 << 17)
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())


def grams(hashed: Grams, n: int) -> Grams:
    """The n-grams of `words`; of a shorter text one gram of all its words, of an empty one none."""
    n = min(n, len(hashed))
    if not n:
        return hashed
    count = len(hashed) - n + 1
    made = np.zeros(count, np.uint64)
    for place in range(n):
        made = made * _MULTIPLIER + hashed[place : place + count]
    made ^= made >> np.uint64(32)
    made *= _FINISH
    return made ^ (made >> np.uint64(29))
