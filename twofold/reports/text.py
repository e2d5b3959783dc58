"""Texts of a run as a page may show them."""

from __future__ import annotations

import unicodedata

TEXT = 1200


def clip(text: str, limit: int = TEXT) -> str:
    """`text` without control characters, and without what is beyond `limit`, which is counted instead."""
    kept = "".join(c for c in text[:limit] if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})
    return kept if len(text) <= limit else f"{kept} … ({len(text) - limit:,} more characters)"
