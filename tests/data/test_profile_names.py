"""How many names a profile tells apart, and whose wins it counts."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data import profile as module
from twofold.data.profile import Profile
from twofold.records import Demonstration, Message, Pair, Ranking, Source
from twofold.statistics import wilson

AT = Source("f", 1)


def pair(chosen: str = "aa", rejected: str = "b") -> Pair:
    return Pair("p", chosen, rejected, AT)


def seen(*rows: dict[str, Any]) -> Profile:
    profile = Profile()
    for row in rows:
        profile.see(pair(), row)
    return profile


def test_origins_beyond_a_number_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 2)
    profile = seen(*({"topic": name} for name in ("a", "b", "c", "a", "d", "")))
    assert (profile.origin_column, profile.origins) == ("topic", {"a": 2, "b": 1, "others": 2})
    assert {name: bias.chosen for name, bias in profile.bias.items()} == {"a": 2, "b": 1, "others": 2}


def test_the_first_column_that_a_source_has_is_its_origin() -> None:
    profile = seen({"dataset": 3, "topic": "t"}, {"source": "s", "topic": "u"}, {"topic": None}, {"source": "x"})
    assert (profile.origin_column, profile.origins) == ("topic", {"t": 1, "u": 1})
    assert seen({"domain": "d", "source": "s"}).origin_column == "source"
    assert (seen({}).origin_column, seen({}).bias) == ("", {})


def test_models_beyond_a_number_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 1)
    rows = [("a", "b"), ("a", "c"), ("d", "b"), ("d", "c"), ("e", "e"), ("a", None), ("a", "b"), ("d", "c")]
    profile = seen(*({"chosen_model": better, "rejected_model": worse} for better, worse in rows))
    assert (dict(profile.wins), dict(profile.losses)) == ({"a": 3}, {"b": 3}), "none beyond it is stored"
    assert profile.win_rates(1) == [("a", wilson(3, 3))]


def test_the_most_frequent_models_come_first() -> None:
    rows = [("a", "b"), ("c", "b"), ("b", "a")]
    profile = seen(*({"chosen_model": better, "rejected_model": worse} for better, worse in rows))
    assert profile.win_rates(2) == [("b", wilson(1, 3)), ("a", wilson(1, 2))]


def test_margins_of_zero_contradict_a_preference() -> None:
    profile = seen(*({"score_chosen": score, "score_rejected": 0} for score in (1, 0, -1, 0.5)))
    assert (profile.noise, list(profile.margins)) == (wilson(2, 4), [1.0, 0.0, -1.0, 0.5])
    assert seen({}).noise is None


def test_equal_lengths_are_no_bias_of_an_origin() -> None:
    profile = Profile()
    profile.see(pair("a", "b"), {"source": "x"})
    profile.see(pair("a", "bb"), {"source": "y"})
    assert profile.longer_by_origin(5) == [("y", wilson(0, 1))]
    assert list(profile.differences) == [0, -1]


def test_lengths_are_those_of_fields() -> None:
    profile = Profile()
    profile.see(Ranking((Message("user", "ab"), Message("assistant", "c")), ("d", "ef"), AT), {})
    profile.see(Demonstration("pq", "r", AT), {})
    assert {name: list(values) for name, values in profile.lengths.items()} == {
        "prompt": [4, 2], "completions": [1, 2], "completion": [1],
    }  # fmt: skip
    assert list(profile.differences) == []


def test_the_script_of_a_row_is_that_of_its_first_letters() -> None:
    profile = Profile()
    profile.see(Demonstration("a" * 201, "я" * 400, AT), {})
    profile.see(Demonstration("a" * 199, "я" * 400, AT), {})
    profile.see(Demonstration("a" * 1000, "я" * 399, AT), {})
    assert profile.scripts == {"Latin": 2, "Cyrillic": 1}
