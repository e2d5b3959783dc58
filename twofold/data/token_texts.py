"""Texts as token ids by one tokenizer: with or without what begins a document, many at once, or inside of a text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twofold.batch import ENCODED_PROMPTS


class TokenTexts:
    """`encoded`: prompt and completion are two texts, each with the special tokens that the tokenizer gives it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.encoded = bool(getattr(tokenizer, ENCODED_PROMPTS, False))
        self.bos: int | None = tokenizer.bos_token_id
        led = self.bos is not None and list(tokenizer("a")["input_ids"])[:1] == [self.bos]
        self._lead: list[int] = [tokenizer.bos_token_id] if led else []
        self._ahead: dict[str, list[int]] = {}

    def ahead(self, texts: Iterable[str]) -> None:
        """Tokenize `texts` in one call, which is much faster than one by one; forgets those before."""
        needed = [] if self.encoded else list(dict.fromkeys(texts))
        self._ahead = {}
        if not needed:
            return
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            ids = self.tokenizer(needed, add_special_tokens=False, verbose=False)["input_ids"]
        else:  # without offsets, which nobody asks for
            ids = [made.ids for made in backend.encode_batch_fast(needed, add_special_tokens=False)]
        self._ahead = dict(zip(needed, ids, strict=True))

    def bare(self, text: str) -> list[int]:
        """A text without special tokens of the tokenizer's own."""
        known = self._ahead.get(text)
        return list(
            self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if known is None else known
        )

    def whole(self, text: str, *, target: bool = False) -> list[int]:
        """A text with the special tokens that the tokenizer adds to a source text, or to a `target` text."""
        return list(self.tokenizer(**{"text_target" if target else "text": text}, verbose=False)["input_ids"])

    def inner(self, text: str) -> list[int]:
        """Text inside a document: without the space that SentencePiece tokenizers put before a first word."""
        anchor, whole = self.bare("\n"), self.bare("\n" + text)
        return whole[len(anchor) :] if whole[: len(anchor)] == anchor else self.bare(text)

    def with_bos(self, ids: list[int]) -> list[int]:
        return ids if ids[: len(self._lead)] == self._lead else [*self._lead, *ids]
