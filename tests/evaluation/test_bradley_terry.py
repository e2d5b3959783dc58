"""Bradley–Terry scores against a minimizer, by hand, and what they do not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from twofold.evaluation import bradley_terry as module
from twofold.evaluation.bradley_terry import Match, bradley_terry


def matches(wins: dict[tuple[int, int], tuple[float, ...]]) -> list[Match]:
    return [Match(a, b, i, share) for (a, b), shares in wins.items() for i, share in enumerate(shares)]


def test_two_players_have_the_odds_of_their_win_rate() -> None:
    """30 wins and 20 ties of 80 are 50%; the penalty moves 60 : 20 by less than a thousandth."""
    even = bradley_terry(matches({(0, 1): (1.0,) * 30 + (0.5,) * 20 + (0.0,) * 30}), 2)
    assert [e.value for e in even.estimates] == pytest.approx([0, 0], abs=1e-12)
    a, b = bradley_terry(matches({(0, 1): (1.0,) * 60 + (0.0,) * 20}), 2).estimates
    assert a.value == pytest.approx(math.log(3) / 2, abs=1e-3)
    assert (a.value + b.value, a.low + b.high) == pytest.approx((0, 0), abs=1e-9)
    assert 0 < a.low < a.value < a.high
    assert (a.n, b.n) == (80, 80)


def test_scores_are_those_of_a_minimizer() -> None:
    rng = np.random.default_rng(0)
    played = [Match(int(a), int(b), i, rng.choice([0.0, 0.5, 1.0], p=[0.2, 0.2, 0.6]))
              for i, (a, b) in enumerate([rng.choice(5, 2, replace=False) for _ in range(200)])]  # fmt: skip

    def loss(score: np.ndarray) -> float:
        gaps = [score[m.a] - score[m.b] for m in played]
        like = sum(m.share * math.log1p(math.exp(-g)) + (1 - m.share) * math.log1p(math.exp(g))
                   for m, g in zip(played, gaps, strict=True))  # fmt: skip
        return like + (score**2).sum() / 200

    best = minimize(loss, np.zeros(5), tol=1e-12).x
    assert [e.value for e in bradley_terry(played, 5, resamples=2).estimates] == pytest.approx(best, abs=1e-4)


def test_sides_and_the_order_of_players_do_not_matter() -> None:
    played = matches({(0, 1): (1.0, 0.5, 0.0, 1.0), (1, 2): (1.0, 1.0, 0.0, 0.5), (0, 2): (1.0,) * 4})
    first = bradley_terry(played, 3)
    turned = bradley_terry([Match(m.b, m.a, m.prompt, 1 - m.share) for m in played], 3)
    renamed = bradley_terry([Match(2 - m.a, 2 - m.b, m.prompt, m.share) for m in played], 3)
    for other in (turned.estimates, renamed.estimates[::-1]):
        for a, b in zip(first.estimates, other, strict=True):
            assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-7)
    assert math.fsum(e.value for e in first.estimates) == pytest.approx(0, abs=1e-9)
    assert all(math.isfinite(e.high) for e in first.estimates)  # one of them never loses
    assert first.is_connected


def test_the_bootstrap_draws_prompts_and_not_matches() -> None:
    """Ten copies of each prompt's match say no more than one."""
    shares = tuple(float(i % 3 > 0) for i in range(30))
    once, often = matches({(0, 1): shares}), matches({(0, 1): shares}) * 10
    a, b = (bradley_terry(played, 2).estimates[0] for played in (once, often))
    assert (b.high - b.low) == pytest.approx(a.high - a.low, rel=0.02)
    assert (a.n, b.n) == (30, 300)


def test_groups_that_never_meet_have_scores_of_their_own() -> None:
    found = bradley_terry(matches({(0, 3): (1.0, 0.0, 1.0), (1, 2): (1.0, 1.0)}), 5)
    assert found.groups == (0, 1, 1, 0, 2)
    assert not found.is_connected
    values = [e.value for e in found.estimates]
    assert (values[0] + values[3], values[1] + values[2], values[4]) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("held", [1, 8, 16, 1000])
def test_as_many_resamples_as_asked_for_in_blocks_of_any_size(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws, whatever the size of a block."""
    won_PX = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    whole = module._drawn(won_PX, 2, np.random.default_rng(0), 7)
    monkeypatch.setattr(module, "HELD", held)
    found = module._drawn(won_PX, 2, np.random.default_rng(0), 7)
    assert found.shape == (7, 2)
    np.testing.assert_allclose(found, whole, rtol=1e-12)
