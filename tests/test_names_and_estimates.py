"""Short names of models and judges, and estimates that come back from JSON."""

from __future__ import annotations

import pytest

from twofold.records import short_name
from twofold.statistics import Estimate, bootstrap_ratio, wilson


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/a/b/c/d", "c/d"),
        ("/a/b:1/c", "b:1/c"),
        ("/a", "/a"),
        ("../a/b/c", "../a/b/c"),
        ("acme/base-1", "acme/base-1"),
        ("runs/a/b/c", "runs/a/b/c"),
        ("reward:/a/b/c", "reward:b/c"),
        ("reward:runs/rm", "reward:runs/rm"),
        ("openai/gsm8k:main", "openai/gsm8k:main"),
        ("llm:http://host:80/a/b/v1#m", "llm:http://host:80/a/b/v1#m"),
        ("https://host/v1/x#m", "https://host/v1/x#m"),
    ],
)
def test_short_names(name: str, told: str) -> None:
    assert short_name(name) == told


def test_an_estimate_is_what_it_was() -> None:
    for estimate in (wilson(3, 7), bootstrap_ratio([1.0, 2.0, 4.0], [1.0] * 3)):
        assert Estimate.from_dict({**estimate.as_dict(), "name": "beside it"}) == estimate
    with pytest.raises(KeyError):
        Estimate.from_dict({"value": 1.0})
