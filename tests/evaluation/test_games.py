"""Win rates by hand, beside scipy, and by simulation: do intervals hold what they say, and does length come out?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import minimize

from support.frozen import refuse_changes
from twofold.evaluation import games as room
from twofold.evaluation.games import (
    Game,
    LengthControlled,
    Shares,
    agreement,
    length_controlled,
    order_agreement,
    summary,
)
from twofold.statistics import bca_bounds, bootstrap_ratio, clustered_share, cohens_kappa, sign_flips, wilson


def games(
    shares: Sequence[float], gaps: Sequence[int] | None = None, prompts: Sequence[int] | None = None
) -> list[Game]:
    lengths = gaps if gaps is not None else [0] * len(shares)
    of = prompts if prompts is not None else range(len(shares))
    return [Game(i, p, s, 500 + g, 500) for i, (p, s, g) in enumerate(zip(of, shares, lengths, strict=True))]


def test_a_tie_is_half_a_win_and_no_two_games() -> None:
    """3 wins, 2 ties, 1 loss: 4 of 6; the interval is that of 8 halves of 12, each prompt's two alike."""
    found = Shares(games([1, 1, 1, 0.5, 0.5, 0])).estimate()
    assert (found.value, found.n, found.count) == (pytest.approx(4 / 6), 6, None)
    halves = clustered_share([2, 2, 2, 1, 1, 0], [2] * 6)
    assert (found.low, found.high) == (halves.low, halves.high)
    decided = Shares(games([1.0] * 30 + [0.0] * 10)).estimate()
    assert (decided.low, decided.high) == pytest.approx((wilson(30, 40).low, wilson(30, 40).high), abs=0.01)
    assert found.method == "Wilson, clustered, 95%, ties ½"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Games of 60 prompts, two alike on each, a third of them ties: of 400 samples about 95%."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        shares = rng.choice([1.0, 0.5, 0.0], size=60, p=[0.5, 1 / 3, 1 / 6])
        found = Shares(games([s for s in shares for _ in range(2)], prompts=[i for i in range(60) for _ in "ab"]))
        estimate = found.estimate()
        held += estimate.low <= 2 / 3 <= estimate.high
    assert 0.92 < held / 400 < 0.985


def test_two_models_are_tested_on_the_items_that_both_played() -> None:
    """b is better on 5 prompts, by a whole game or half of one, and worse on none: signs as even as 2 of 32."""
    a = [Game(i, i, 0.0, 9, 9) for i in range(7)]
    b = [Game(i, i, (1.0, 0.5, 1.0, 1.0, 0.5, 0.0)[i], 9, 9) for i in range(6)]
    found = Shares(a).against(Shares(b))
    assert found is not None
    assert found.difference.value == pytest.approx(4 / 6)
    assert (found.test.only_a, found.test.only_b, found.test.n) == (0, 5, 6)
    assert found.test.p_value == pytest.approx(2 / 2**5)
    assert found.difference == bootstrap_ratio([1.0, 0.5, 1.0, 1.0, 0.5, 0.0], [1.0] * 6)
    assert Shares(a).against(Shares([Game("other", 0, 1.0, 9, 9)])) is None


def test_games_of_one_prompt_are_one_sign() -> None:
    a = [Game(i, i // 2, 0.0, 9, 9) for i in range(8)]
    b = [Game(i, i // 2, 1.0, 9, 9) for i in range(8)]
    found = Shares(a).against(Shares(b))
    assert found is not None
    assert (found.test.n, found.test.p_value) == (4, pytest.approx(2 / 2**4))
    uneven = Shares([Game(0, "x", 1.0, 9, 9), Game(1, "x", 0.5, 9, 9), Game(2, "y", 0.0, 9, 9)])
    found = uneven.against(Shares([Game(0, "x", 0.5, 9, 9), Game(1, "x", 0.0, 9, 9), Game(2, "y", 0.5, 9, 9)]))
    assert found is not None
    assert found.difference == bootstrap_ratio([-1.0, 0.5], [2.0, 1.0])
    assert found.test == sign_flips([1.5, 0.0], [0.5, 0.5])


@pytest.mark.parametrize("seed", range(5))
def test_length_control_is_the_fit_that_scipy_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = rng.integers(-300, 500, size=50)
    shares = rng.choice([0.0, 0.5, 1.0], size=50, p=[0.2, 0.2, 0.6])
    x = np.tanh(gaps / gaps.std(ddof=1))

    def loss(at: np.ndarray) -> float:
        z = at[0] + at[1] * x
        return float((np.logaddexp(0, z) - shares * z).sum() + (at**2).sum() / 200)

    theta, phi = minimize(loss, np.zeros(2), tol=1e-12).x
    found = length_controlled(games(shares.tolist(), gaps.tolist()), resamples=20)
    assert found.rate.value == pytest.approx(1 / (1 + math.exp(-theta)), abs=1e-6)
    assert found.slope == pytest.approx(phi, abs=1e-5)
    assert (found.longer, found.shorter) == pytest.approx(((gaps > 0).mean(), (gaps < 0).mean()))


def test_where_lengths_are_equal_nothing_is_corrected() -> None:
    shares = [1.0] * 30 + [0.5] * 4 + [0.0] * 6
    found = length_controlled(games(shares))
    assert found.rate.value == pytest.approx(32 / 40, abs=1e-3)
    assert (found.slope, found.guessed) == (0.0, False)


def test_a_judge_that_loves_length_is_corrected() -> None:
    """The longer answer always wins and three in four of the model's are longer: 75% become 60% [32, 91], for
    nothing near equal lengths tells more. One that only ever writes at greater length cannot be told from a better one,
    which is said."""
    gaps = [*range(10, 310, 10)] + [-g for g in range(10, 310, 30)]
    shares = [float(g > 0) for g in gaps]
    assert Shares(games(shares, gaps)).estimate().value == 0.75
    found = length_controlled(games(shares, gaps))
    assert found.rate.low < 0.5 < found.rate.high
    assert found.rate.value < 0.65
    assert found.slope > 10
    assert not found.guessed
    assert length_controlled(games([1.0] * 40, [*range(100, 140)])).guessed


def test_length_control_finds_the_quality_beneath() -> None:
    """Wins drawn with θ = ½, φ = 2 from a model that is mostly longer: the interval holds σ(½) about as often as it
    says, and the raw rate never does."""
    rng, held, raw = np.random.default_rng(1), 0, 0
    truth = 1 / (1 + math.exp(-0.5))
    for _ in range(80):
        gaps = rng.normal(150, 120, size=200).round()
        p = 1 / (1 + np.exp(-(0.5 + 2 * np.tanh(gaps / gaps.std(ddof=1)))))
        shares = (rng.random(200) < p).astype(float)
        played = games(shares.tolist(), [int(g) for g in gaps])
        rate = length_controlled(played, resamples=200).rate
        held += rate.low <= truth <= rate.high
        estimate = Shares(played).estimate()
        raw += estimate.low <= truth <= estimate.high
    assert held >= 70
    assert raw <= 8


def test_the_bootstrap_draws_prompts() -> None:
    """Games told four times each are no more certain."""
    rng = np.random.default_rng(2)
    shares, gaps = rng.choice([0.0, 1.0], size=40).tolist(), rng.integers(-99, 99, size=40).tolist()
    once = length_controlled(games(shares, gaps)).rate
    often = length_controlled(games(shares * 4, gaps * 4, [*range(40)] * 4)).rate
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.1)


def test_orders_that_mean_the_same() -> None:
    said = [("A", "B"), ("B", "A"), ("tie", "tie"), ("A", "A"), ("A", "A"), ("B", "B"), ("A", "tie")]
    found = order_agreement([Game(i, i, 0.5, 1, 1, orders) for i, orders in enumerate(said)])
    assert found is not None
    assert found.agreement == wilson(3, 7)
    assert (found.first, found.second) == (2, 1)
    assert order_agreement(games([1.0])) is None


def test_a_judge_beside_people() -> None:
    judge, people = [1.0, 1.0, 0.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.5, 0.5]
    found = agreement(judge, people)
    assert found.same == wilson(3, 5)
    assert found.kappa == cohens_kappa(["w", "w", "l", "t", "l"], ["w", "l", "l", "t", "t"])


def test_a_summary_is_all_that_is_told_of_games() -> None:
    played = [
        Game(0, "x", 1.0, 10, 4, ("A", "B")), Game(1, "x", 0.5, 3, 3, ("A", "A")), Game(2, "y", 0.0, 2, 8, ("B", "A")),
        Game(3, "z", 1.0, 7, 6),
    ]  # fmt: skip
    orders = order_agreement(played)
    assert orders is not None
    assert summary(played) == {
        **Shares(played).estimate().as_dict(), "wins": 2, "ties": 1, "losses": 1, "length": 5.5, "other_length": 5.25,
        "length_controlled": length_controlled(played).as_dict(), "orders": orders.as_dict(),
    }  # fmt: skip
    assert orders.as_dict() == {**clustered_share([1, 1], [2, 1]).as_dict(), "first": 1, "second": 0}
    assert summary([]) == {**Shares([]).estimate().as_dict(), "wins": 0, "ties": 0, "losses": 0}
    judged = agreement([1.0, 0.0], [1.0, 0.5])
    assert judged.as_dict() == {"kappa": judged.kappa.as_dict(), "same": judged.same.as_dict()}


@pytest.mark.parametrize(
    ("longer", "shorter", "guessed"),
    [(0.96, 0.04, True), (0.04, 0.96, True), (0.95, 0.05, False), (0.05, 0.95, False), (0.0, 0.0, False),
     (0.5, 0.04, True), (0.05, 0.0, False), (0.04, 0.0, False), (0.06, 0.0, True)],
)  # fmt: skip
def test_equal_lengths_are_a_guess_where_almost_none_are_of_one_side(
    longer: float, shorter: float, guessed: bool
) -> None:
    found = LengthControlled(Shares(games([1.0])).estimate(), 0.5, longer, shorter, (0.1, 0.9))
    assert found.guessed == guessed
    assert found.as_dict() == {
        **found.rate.as_dict(), "slope": 0.5, "slope_low": 0.1, "slope_high": 0.9, "longer": longer, "shorter": shorter,
        "extrapolated": guessed,
    }  # fmt: skip


def test_the_interval_at_equal_lengths_is_of_a_thousand_draws_at_95_percent() -> None:
    """The bootstrap by hand: prompts drawn by default_rng(0), each draw and each prompt left out fitted by scipy."""
    shares, gaps = [1.0, 0.5, 0.0, 1.0, 1.0, 0.0], [5, -3, 2, 8, 0, -6]
    played = games(shares, gaps, prompts=[0, 0, 1, 2, 3, 4])
    found = length_controlled(played, resamples=20, level=0.8)
    x = np.tanh(np.array(gaps) / np.std(gaps, ddof=1))
    weights = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), size=20)[:, [0, 0, 1, 2, 3, 4]]

    def loss(at: np.ndarray, weight: np.ndarray) -> float:
        z = at[0] + at[1] * x
        return float((weight * (np.logaddexp(0, z) - np.array(shares) * z)).sum() + (at**2).sum() / 200)

    def theta(weight: np.ndarray) -> float:
        return float(minimize(loss, np.zeros(2), (weight,), tol=1e-12).x[0])

    left_out = [theta((np.array([0, 0, 1, 2, 3, 4]) != prompt).astype(float)) for prompt in range(5)]
    *ends, how = bca_bounds(theta(np.ones(6)), np.array([*map(theta, weights)]), np.array(left_out), 0.8)
    low, high = 1 / (1 + np.exp(-np.array(ends)))
    assert how == "BCa, 5 are too few for this level"
    assert (found.rate.low, found.rate.high) == pytest.approx((low, high), abs=1e-5)
    assert (found.rate.n, found.rate.count, found.rate.clusters) == (6, None, 5)
    assert found.rate.method == f"length-controlled, bootstrap over prompts 80%, {how}"
    assert length_controlled(played) == length_controlled(played, seed=0, resamples=1000, level=0.95)
    assert length_controlled(played) != length_controlled(played, seed=1)


def test_draws_in_portions_are_the_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    played = games([1.0, 0.5, 0.0], [5, -3, 2])
    whole = length_controlled(played, resamples=7)
    for most in (1, 6, 9, 10):  # entries at once: one row, two, three, three and a rest
        monkeypatch.setattr(room, "HELD", most)
        found = length_controlled(played, resamples=7).rate
        assert (found.low, found.high) == pytest.approx((whole.rate.low, whole.rate.high), abs=1e-6)


def test_one_game_has_no_spread_and_none_has_no_rate() -> None:
    alone = length_controlled(games([1.0], [7]), resamples=10)
    assert (alone.slope, alone.longer, alone.shorter) == (0.0, 1.0, 0.0)
    assert alone.rate.low == alone.rate.high == pytest.approx(alone.rate.value)
    with pytest.raises(ValueError, match="no games"):
        length_controlled([])


def test_what_was_played_stays() -> None:
    orders = order_agreement([Game(0, 0, 1.0, 1, 1, ("A", "B"))])
    refuse_changes(Game(0, 0, 1.0, 1, 1), slots=True)
    refuse_changes(Shares([]), length_controlled(games([1.0])), orders, agreement([1.0, 0.0], [1.0, 0.5]))
