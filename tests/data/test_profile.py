"""What a source is made of, by value: lengths, origins, scores, models and scripts; and rows with noise or markup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.data.looks import Further
from twofold.data.markup import MARKUP
from twofold.data.profile import Profile
from twofold.data.validate import check
from twofold.errors import DataError

Write = Callable[..., str]


def row(chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": "abc", "chosen": chosen, "rejected": rejected, **more}


def profiled(path: str) -> Profile:
    profile = Profile()
    assert check(path, further=Further(looks=(profile,))).ok
    return profile


def test_lengths_and_differences(write: Write) -> None:
    profile = profiled(write("rows.jsonl", row("12345", "12"), row("1", "1234")))
    assert {name: list(values) for name, values in profile.lengths.items()} == {
        "prompt": [3, 3], "chosen": [5, 1], "rejected": [2, 4],
    }  # fmt: skip
    assert list(profile.differences) == [3, -3]
    ranking = {"prompt": "ab", "completions": ["123", "12", "1"]}
    assert list(profiled(write("r.jsonl", ranking)).lengths["completions"]) == [3, 2, 1]


def test_bias_and_preference_rate_by_origin_and_model(write: Write) -> None:
    a = {"source": "A", "chosen_model": "big", "rejected_model": "small"}
    b = {"source": "B", "chosen_model": "small", "rejected_model": "small"}
    rows = (row("12", "1", **a), row("123", "1", **a), row("4", "567", **a), row("6", "78", **b), row("9", "87"))
    profile = profiled(write("rows.jsonl", *rows))
    assert (profile.origin_column, dict(profile.origins)) == ("source", {"A": 3, "B": 1})
    (first, longer), (_, other) = profile.longer_by_origin(5)
    assert (first, longer.value, longer.n, other.value) == ("A", 2 / 3, 3, 0.0)
    assert {name: (share.value, share.n) for name, share in profile.win_rates(5)} == {
        "big": (1.0, 3),
        "small": (0.0, 3),
    }
    assert profile.longer_by_origin(1) == [(first, longer)]


def test_scores_that_contradict_the_preference(write: Write) -> None:
    rows = (
        row("1", "2", score_chosen=4, score_rejected=1.5),
        row("3", "4", score_chosen=2, score_rejected=2),
        row("5", "6", score_chosen=1, score_rejected=3),
        row("7", "8", score_chosen=None, score_rejected=3),
    )
    path = write("rows.jsonl", *rows)
    profile = profiled(path)
    assert list(profile.margins) == [2.5, 0.0, -2.0]
    assert profile.noise is not None
    assert (profile.noise.value, profile.noise.n) == (2 / 3, 3)
    found = check(path, further=Further(least_margin=0.5)).warnings
    assert [(f.row, f.check, f.reason) for f in found] == [
        (2, "low margin", "chosen scores +0 against rejected, less than 0.5"),
        (3, "low margin", "chosen scores -2 against rejected, less than 0.5"),
    ]
    (none,) = check(write("plain.jsonl", row("1", "2")), further=Further(least_margin=0.5)).warnings
    assert (none.row, none.check) == (0, "no scores")
    assert profiled(write("plain.jsonl", row("1", "2"))).noise is None
    with pytest.raises(DataError, match="no finite number"):
        check(path, further=Further(least_margin=float("nan")))


def test_scripts_by_most_letters(write: Write) -> None:
    texts = ["hello", "Привет ok", "今天天气很好", "ありがとう", "123"]
    path = write("rows.jsonl", *({"prompt": text, "completion": text} for text in texts))
    assert profiled(path).scripts == {"Latin": 1, "Cyrillic": 1, "Cjk": 1, "Japanese": 1, "": 1}


@pytest.mark.parametrize("mark", MARKUP)
def test_turn_markup_in_a_completion(write: Write, mark: str) -> None:
    (found,) = check(write("rows.jsonl", row(f"yes{mark}no", "b"))).warnings
    assert (found.row, found.field, found.check) == (1, "chosen", "turn markup")
    assert found.reason == f"holds the turn markup {mark.strip()!r} at position 4"


def test_markup_in_a_prompt_or_in_half_is_none(write: Write) -> None:
    rows = ({**row("a", "b"), "prompt": "<|im_start|>user\nHi<|im_end|>"}, row("a <| b", "x_turn> [INSTALL] y"))
    assert check(write("rows.jsonl", *rows)).faults == ()
