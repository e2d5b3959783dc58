"""From numbers for drafts to preferences, by hand."""

from __future__ import annotations

import pytest
import torch

from twofold.algorithms.preference_pairs import balanced, compared, decided, sides, tied, win_rates, wins
from twofold.batch import Branch, Role

SCORES = torch.tensor([2.0, 0.0, 2.0, -1.0], dtype=torch.float64)


def test_a_win_is_certain_or_as_likely_as_the_lead() -> None:
    assert wins(SCORES, "hard", 9.0).tolist() == [
        [0.5, 1, 0.5, 1], [0, 0.5, 0, 1], [0.5, 1, 0.5, 1], [0, 0, 0, 0.5],
    ]  # fmt: skip
    soft = wins(SCORES, "bradley_terry", 0.5)
    assert soft[0].tolist() == pytest.approx(torch.sigmoid(torch.tensor([0.0, 1.0, 0.0, 1.5])).tolist())
    assert soft[1, 3].item() == pytest.approx(1 / (1 + torch.tensor(-0.5).exp().item()))
    torch.testing.assert_close(soft + soft.T, torch.ones_like(soft))


def test_a_win_rate_is_the_mean_over_the_others() -> None:
    """Of three others: a tie and two wins; one win; the same as the first; none."""
    assert win_rates(wins(SCORES, "hard", 1.0)).tolist() == pytest.approx([2.5 / 3, 1 / 3, 2.5 / 3, 0])
    assert win_rates(wins(SCORES[:2], "hard", 1.0)).tolist() == [1.0, 0.0]


def test_which_drafts_are_compared() -> None:
    """Of equals the first is the best and the last the worst; of every two the better, or the first, comes first."""
    assert compared(SCORES, "best_worst") == [(0, 3)]
    assert compared(torch.tensor([0.0, -1.0, 3.0, -1.0, 3.0]), "best_worst") == [(2, 3)]
    assert compared(torch.tensor([1.0, 1.0]), "best_worst") == [(0, 1)]
    assert compared(SCORES, "all") == [(0, 1), (0, 2), (0, 3), (2, 1), (1, 3), (2, 3)]


def test_a_winner_is_drawn_by_one_number_each() -> None:
    """Below P the first of a pair wins; what is certain is certain whatever is drawn."""
    soft = torch.tensor([[0.5, 0.7], [0.3, 0.5]])
    pairs = [(0, 1), (0, 1), (1, 0), (1, 0)]
    assert decided(pairs, soft, iter([0.69, 0.71, 0.29, 0.31])) == [(0, 1), (1, 0), (1, 0), (0, 1)]
    hard = torch.tensor([[0.5, 1.0], [0.0, 0.5]])
    assert decided([(0, 1), (1, 0)], hard, iter([0.999999, 0.0])) == [(0, 1), (0, 1)]


def test_a_tie_teaches_nothing() -> None:
    tokens = [torch.tensor(t) for t in ([1, 2], [1, 2], [1, 3], [1, 2, 3])]
    hard, soft = (wins(torch.tensor([1.0, 0.0, 1.0, 0.0]), labels, 1.0) for labels in ("hard", "bradley_terry"))
    assert [tied((0, j), hard, tokens, "hard") for j in (1, 2, 3)] == [True, True, False]
    assert [tied((0, j), soft, tokens, "bradley_terry") for j in (1, 2, 3)] == [True, False, False]


def test_sides_keep_what_a_draft_carries() -> None:
    one, other = (Branch(torch.tensor([i]), Role.DRAFT, {"x": torch.tensor([1.0])}, {"y": 2.0}) for i in (1, 2))
    chosen, rejected = sides(one, other)
    assert (chosen.role, rejected.role) == (Role.CHOSEN, Role.REJECTED)
    assert [int(b.tokens) for b in (chosen, rejected)] == [1, 2]
    assert (chosen.columns, chosen.token_columns) == (one.columns, one.token_columns)


def excess(rewards: list[list[float]], lengths: list[list[int]], penalty: float) -> int:
    """By how many tokens the best drafts are longer than the worst, in all."""
    told = 0
    for row, sizes in zip(rewards, lengths, strict=True):
        shaped = [r - penalty * n for r, n in zip(row, sizes, strict=True)]
        told += sizes[shaped.index(max(shaped))] - sizes[shaped.index(min(shaped))]
    return told


def test_a_penalty_that_balances_lengths() -> None:
    """The longer draft of 8 leads one of 3 by 5: from a penalty of 1 on the shorter is the best. Of two such prompts,
    turning at 1 and at 3, the lengths balance between."""
    assert balanced([[5.0, 0.0]], [[8, 3]]) == pytest.approx(1.0, abs=1e-9)
    assert balanced([[15.0, 0.0]], [[8, 3]]) == pytest.approx(3.0, abs=1e-9)
    rewards, lengths = [[5.0, 0.0], [15.0, 0.0]], [[8, 3], [8, 3]]
    found = balanced(rewards, lengths)
    assert 1.0 <= found <= 3.0
    assert excess(rewards, lengths, found) == 0


def test_where_the_best_is_not_longer_nothing_is_taken() -> None:
    assert balanced([[0.0, 5.0]], [[8, 3]]) == 0.0
    assert balanced([[5.0, 0.0]], [[3, 3]]) == 0.0
    assert balanced([], []) == 0.0


def test_the_penalty_is_the_nearer_of_two_that_do_not_balance() -> None:
    """The best and the worst change places at 0.6, in steps of whole tokens: what is left is as little as can be."""
    rewards, lengths = [[3.0, 0.0], [-1.0, 0.0]], [[7, 2], [1, 2]]
    found = balanced(rewards, lengths)
    either = [excess(rewards, lengths, found + d) for d in (-1e-6, 1e-6)]
    assert abs(excess(rewards, lengths, found)) == min(map(abs, either))
    assert found == pytest.approx(0.6, abs=1e-6)
