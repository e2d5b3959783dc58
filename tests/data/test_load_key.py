"""The key of a stored table: what decides it, and what does not."""

from __future__ import annotations

from dataclasses import replace

from twofold.data.load import _key
from twofold.data.reading import Reading


def test_the_key_is_of_what_is_read_and_not_of_where_it_is_or_of_the_order_of_columns() -> None:
    first = Reading("a.jsonl", columns={"prompt": "q", "chosen": "good"})
    turned = replace(first, columns={"chosen": "good", "prompt": "q"})
    assert _key(first, "known") == _key(turned, "known") == _key(replace(first, source="b.jsonl"), "known")
    assert len({_key(first, "known"), _key(first, "other"), _key(replace(first, split="test"), "known")}) == 3
    assert len(_key(first, "known")) == 32
