"""Values of both sides of pairs, and the scores that methods compare, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.objectives.pair_scores import log1mexp, log_odds, mean, tail_weighted
from twofold.objectives.pairs import Pairs, Sides, sides, sums

LENGTHS = ((1, 3), (4, 2), (2, 2))


def made(margin: bool = False) -> Batch:
    """Three pairs; references are −1, −2, −3 … over the tokens of a completion."""
    groups = [
        Group(
            f"row {i}",
            torch.tensor([1]),
            tuple(
                Branch(
                    torch.arange(n),
                    role,
                    {"ref_logp": -1.0 - torch.arange(n).double()},
                    {"margin": 10.0 * i + (0.0 if role is Role.CHOSEN else 5.0)} if margin else {},
                )
                for n, role in zip(lengths, (Role.CHOSEN, Role.REJECTED), strict=True)
            ),
        )
        for i, lengths in enumerate(LENGTHS)
    ]
    return Batch.of(groups)


def both(value: Sides) -> tuple[list[float], list[float]]:
    return value.chosen.tolist(), value.rejected.tolist()


def test_sides_by_hand() -> None:
    one, other = Sides(torch.tensor([6.0]), torch.tensor([2.0])), Sides(torch.tensor([3.0]), torch.tensor([4.0]))
    assert one.margin.tolist() == [4.0]
    assert both(3.0 * one) == ([18.0], [6.0])
    assert both(one / other) == ([2.0], [0.5])
    assert both(one.map(torch.neg)) == ([-6.0], [-2.0])
    batch = made()
    assert both(sides(torch.arange(6), batch)) == ([0, 2, 4], [1, 3, 5])
    assert both(sums(torch.ones(14), batch)) == ([1.0, 4.0, 2.0], [3.0, 2.0, 2.0])


def test_pairs_have_log_ratios_unless_the_reference_is_uniform() -> None:
    batch, said = made(), Outputs(torch.zeros(14))
    pairs = Pairs.of(said, batch)
    assert both(pairs.logp) == ([0.0] * 3, [0.0] * 3)
    assert both(pairs.logratio) == ([1.0, 10.0, 3.0], [6.0, 3.0, 3.0])
    assert both(pairs.length) == ([1.0, 4.0, 2.0], [3.0, 2.0, 2.0])
    assert pairs.length.chosen.dtype == torch.float32
    assert both(Pairs.of(said, batch, reference=False).logratio) == ([0.0] * 3, [0.0] * 3)
    assert both(mean(pairs.logratio, pairs)) == ([1.0, 2.5, 1.5], [2.0, 1.5, 1.5])


def test_the_margin_wanted_is_one_for_all_or_that_of_chosen() -> None:
    pairs = Pairs.of(Outputs(torch.zeros(14)), made(margin=True))
    assert pairs.wanted(0.5) == 0.5
    wanted = pairs.wanted("data")
    assert isinstance(wanted, torch.Tensor)
    assert (wanted.tolist(), wanted.dtype) == ([0.0, 10.0, 20.0], torch.float32)


def test_metrics_of_rewards_by_hand() -> None:
    """A margin of 0 is not right, and weighs ½."""
    pairs = Pairs.of(Outputs(torch.zeros(14, requires_grad=True)), made())
    told = pairs.metrics(pairs.logratio)
    assert told["margin"].value.tolist() == [-5.0, 7.0, 0.0]
    assert told["accuracy"].value.tolist() == [0.0, 1.0, 0.0]
    assert told["gradient_weight"].value.tolist() == pytest.approx([1 / (1 + math.exp(m)) for m in (-5, 7, 0)])
    assert told["chosen_reward"].value.tolist() == [1.0, 10.0, 3.0]
    assert told["rejected_reward"].value.tolist() == [6.0, 3.0, 3.0]
    assert {name for name, term in told.items() if term.spread} == {"gradient_weight"}
    assert {term.unit for term in told.values()} == {"pair"}
    assert not any(term.value.requires_grad for term in told.values())


def test_only_tokens_beyond_the_shorter_are_weighted() -> None:
    """Of 1 and 3 tokens the second and third of rejected; of 4 and 2 the last two of chosen; of 2 and 2 none."""
    pairs = Pairs.of(Outputs(torch.zeros(14)), made())
    assert both(tail_weighted(pairs, 0.5)) == ([1.0, 1 + 2 + 0.5 * (3 + 4), 3.0], [1 + 0.5 * (2 + 3), 3.0, 3.0])
    assert both(tail_weighted(pairs, 0.0)) == ([1.0, 3.0, 3.0], [1.0, 3.0, 3.0])


def test_odds_near_either_end() -> None:
    logp = torch.tensor([-1e-12, -0.1, -math.log(2), -3.0, -40.0], dtype=torch.float64, requires_grad=True)
    expected = [math.log(-math.expm1(p)) if p > -0.5 else math.log1p(-math.exp(p)) for p in logp.tolist()]
    assert log1mexp(logp).tolist() == pytest.approx(expected, rel=1e-14)
    assert log_odds(logp).tolist() == pytest.approx(
        [p - e for p, e in zip(logp.tolist(), expected, strict=True)], rel=1e-13, abs=1e-15
    )
    (grad,) = torch.autograd.grad(log1mexp(logp).sum(), logp)
    assert grad.tolist() == pytest.approx([-1 / math.expm1(-p) for p in logp.tolist()], rel=1e-12)
    assert log1mexp(torch.zeros(1)).item() == -math.inf


def test_a_pair_of_one_side_is_refused() -> None:
    lone = Branch(torch.arange(1), Role.CHOSEN, {"ref_logp": torch.zeros(1)})
    batch = Batch.of([Group("a", torch.tensor([1]), (lone,))])
    with pytest.raises(ValueError, match=r"^every group needs one chosen and one rejected branch$"):
        Pairs.of(Outputs(torch.zeros(1)), batch)
