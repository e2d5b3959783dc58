"""Completions of several processes: what each sends of its own, and how all are put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twofold.sampling import dealt
from twofold.sampling.base import Sample
from twofold.sampling.dealt import all_completions, own_prompts


def sample(*tokens: int, truncated: bool = False) -> Sample:
    return Sample(torch.tensor(tokens), torch.tensor([-float(t) for t in tokens], dtype=torch.float64), truncated)


def test_the_completions_of_all_are_by_prompt_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has prompt 2, the other one prompt 0; nobody has any of prompt 1."""
    pools: list[Any] = []

    def pooled(parts: dict[int, torch.Tensor], lengths: list[int], dtype: torch.dtype) -> list[torch.Tensor]:
        pools.append(({n: value.tolist() for n, value in parts.items()}, lengths, dtype))
        return [parts.get(n, torch.full((length,), 9, dtype=dtype)) for n, length in enumerate(lengths)]

    sent: list[Any] = []
    theirs = [[0, 1, 1, True, "float64"], [0, 0, 3, False, "float64"]]
    here = SimpleNamespace(size=2, gather=lambda sheet: sent.append(sheet) or [sheet, theirs], pooled=pooled)
    monkeypatch.setattr(dealt, "world", lambda: here)
    found = all_completions({2: [sample(4, 5), sample(6, truncated=True)]}, 3)
    assert sent == [[[2, 0, 2, False, "float64"], [2, 1, 1, True, "float64"]]]
    assert pools == [
        ({2: [4, 5], 3: [6]}, [3, 1, 2, 1], torch.int64), ({2: [-4, -5], 3: [-6]}, [3, 1, 2, 1], torch.float64),
    ]  # fmt: skip
    assert [[(s.tokens.tolist(), s.truncated) for s in some] for some in found] == [
        [([9, 9, 9], False), ([9], True)], [], [([4, 5], False), ([6], True)],
    ]  # fmt: skip
    assert found[2][0].logp.tolist() == [-4, -5]


def test_where_nobody_has_any_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(size=2, gather=lambda sheet: [sheet, []], pooled=lambda parts, lengths, dtype: [])
    monkeypatch.setattr(dealt, "world", lambda: here)
    assert all_completions({}, 2) == [[], []]


def test_prompts_are_dealt_by_their_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[Any] = []
    turns = [SimpleNamespace(place=2), SimpleNamespace(place=0)]
    monkeypatch.setattr(dealt, "world", lambda: SimpleNamespace(deal=lambda some: costs.append(some) or turns))
    assert own_prompts([torch.ones(3), torch.ones(1), torch.ones(2)]) == [0, 2]
    assert costs == [[3, 1, 2]]
