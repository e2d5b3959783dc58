"""Tokens by what can reach them: exact on sequences that one can read, and against all subsequences of short ones."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from twofold.analysis.causes import Patterns, likeness, opening, shared


def longest(a: list[int], b: list[int]) -> int:
    """Of all common subsequences, by trying every one of `a`."""

    def within(part: tuple[int, ...]) -> bool:
        rest = iter(b)
        return all(token in rest for token in part)

    return max(n for n in range(len(a) + 1) for part in combinations(a, n) if within(part))


def test_shared_tokens_are_a_longest_common_subsequence_after_the_opening() -> None:
    assert shared([1, 2, 3, 4, 5], [1, 2, 9, 4, 8, 5]).tolist() == [False, False, False, True, True]
    assert shared([1, 2], [1, 2, 3]).tolist() == [False, False]
    assert shared([7], [8]).tolist() == [False]
    noise = torch.Generator().manual_seed(0)
    for _ in range(60):
        n, m = torch.randint(1, 8, (2,), generator=noise).tolist()
        a, b = (torch.randint(3, (k,), generator=noise).tolist() for k in (n, m))
        start = opening(a, b)
        mask = shared(a, b)
        kept = [t for t, common in zip(a, mask, strict=True) if common]
        rest = iter(b[start:])
        assert all(token in rest for token in kept)
        assert len(kept) == longest(a[start:], b[start:])


def test_likeness_is_1_for_equals_and_0_for_strangers() -> None:
    assert likeness([1, 2, 3], [1, 2, 3]) == 1
    assert likeness([1, 2], [3, 4, 5]) == 0
    assert likeness([1, 2, 3, 4], [1, 9, 3, 4]) == pytest.approx(0.75)


def test_a_pattern_is_contested_where_others_reject_it_beyond_chance() -> None:
    """7 heads of 7 tosses have a chance of 1/128, below 0.01; 6 of 6 one of 1/64, above."""
    mine = ([1, 5, 6, 2], [1, 2])
    for times, told in ((7, [None, (5,), (6,), None]), (6, [None] * 4)):
        assert Patterns([mine, *[([3], [5, 6])] * times]).contested(*mine) == told


def test_what_is_chosen_as_often_or_rejected_here_too_is_not_contested() -> None:
    mine = ([5, 6], [5])
    known = Patterns([mine, *[([3], [5, 6])] * 9])
    assert known.contested(*mine) == [(5, 6), (6,)]
    even = Patterns([mine, *[([3], [5, 6])] * 9, *[([5, 6], [3])] * 9])
    assert even.contested(*mine) == [None, None]
