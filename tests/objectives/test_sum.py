"""Sums of objectives: one part is that part to the bit, several are what they say, and misfits are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support.scenes import VARIANTS, painted, preferences, triples
from twofold.batch import Batch
from twofold.objectives import (
    AOT,
    BCO,
    DPO,
    KTO,
    PPO,
    SFT,
    SPPO,
    TPO,
    WPO,
    BCOPair,
    BradleyTerry,
    PlackettLuce,
    SimPO,
)
from twofold.objectives.base import Objective
from twofold.objectives.checks import gradient, heard, leaf, total
from twofold.objectives.sum import Sum, Summand, members

OBJECTIVES = [o for them in VARIANTS.values() for o in them if o.data_kind != "prompts"]


def summed(*parts: tuple[Any, ...]) -> Sum:
    return Sum(parts=tuple(Summand(objective=o, weight=w, on=on[0] if on else None) for o, w, *on in parts))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_a_sum_of_one_part_is_that_part_to_the_bit(objective: Objective) -> None:
    scene = painted(objective, 4, torch.Generator().manual_seed(5))
    alone = summed((objective, 1.0))
    mine, theirs = (o(heard(o, leaf(scene[1])), Batch.of(scene[0])) for o in (alone, objective))
    assert torch.equal(gradient(alone, scene), gradient(objective, scene))
    for one, other in ((mine.terms, theirs.terms), (mine.metrics, theirs.metrics)):
        assert list(one) == list(other)
        assert all(torch.equal(one[k].value, other[k].value) for k in one)
        shapes = [[(x.unit, x.weight, x.spread) for x in them.values()] for them in (one, other)]
        assert shapes[0] == shapes[1]
    for trait in ("requires", "data_kind", "reads", "statistics", "couples", "domain", "remedy", "margin_weighted"):
        assert getattr(alone, trait) == getattr(objective, trait), trait


def test_a_sum_is_the_weighted_sum_of_its_losses_and_names_each() -> None:
    """MPO's three: 0.8·DPO + 0.2·BCO + likelihood of chosen per token."""
    scene = preferences(5, torch.Generator().manual_seed(2))
    mixed = summed((DPO(beta=0.5, nll=0.3), 0.8), (BCOPair(), 0.2), (SFT(), 0.6, "chosen"), (DPO(beta=2.0), 0.1))
    batch, said = Batch.of(scene[0]), leaf(scene[1])
    loss = mixed(heard(mixed, said), batch)
    assert list(loss.terms) == ["dpo", "nll", "bco_pair", "sft", "dpo_2"]
    assert {"margin", "bco_pair/margin", "sft/demonstration_logp", "dpo_2/accuracy"} <= {*loss.metrics}
    pairs = sum(w * total(o(heard(o, said), batch), batch) for o, w in (
        (DPO(beta=0.5, nll=0.3), 0.8), (BCOPair(), 0.2), (DPO(beta=2.0), 0.1)))  # fmt: skip
    chosen_S = batch.role_B[batch.branch_S] == 1
    expected = pairs - 0.6 * said[chosen_S].mean()
    torch.testing.assert_close(total(loss, batch), expected, rtol=1e-14, atol=1e-14)
    assert loss.terms["sft"].unit == "token:chosen"
    assert mixed.requires == ("ref_logp",)
    assert [type(o) for o in members(mixed)] == [DPO, BCOPair, SFT, DPO]
    assert list(members(DPO())) == [DPO()]


def test_the_likelihood_of_gold_is_that_of_the_third_completion() -> None:
    scene = triples(3, torch.Generator().manual_seed(2))
    both = summed((TPO(), 1.0), (SFT(average="completion"), 2.0, "gold"))
    batch, said = Batch.of(scene[0]), leaf(scene[1])
    loss = both(heard(both, said), batch)
    gold = batch.sum(said)[2::3]
    torch.testing.assert_close(loss.terms["sft"].value, -gold)
    assert (loss.terms["sft"].unit, loss.terms["sft"].weight) == ("branch:demonstration", 2.0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts must name at least one objective"),
        ([(DPO(), 1.0), (KTO(), 1.0)], "dpo learns from pairs, kto from labels"),
        ([(DPO(), 1.0), (SFT(), 1.0)], "sft from demonstrations; give it a side, such as `on: chosen`"),
        ([(DPO(), 1.0), (SFT(), 1.0, "gold")], "pairs have no side 'gold'; they have chosen, rejected"),
        ([(DPO(), 1.0), (SimPO(), 1.0, "chosen")], "`on` is for sft, dft and eaft, and simpo learns from pairs"),
        ([(PlackettLuce(), 1.0), (SFT(), 1.0, "chosen")], "rankings have no side 'chosen'; they have none"),
        ([(PlackettLuce(), 1.0), (BradleyTerry(), 1.0)], "learns from rankings"),
        ([(SFT(), 1.0, "chosen")], "parts need one objective without `on`"),
        ([(PPO(), 1.0)], "ppo learns from rollouts"),
        ([(summed((DPO(), 1.0)), 1.0)], "parts must not be sums themselves"),
        ([(AOT(), 1.0), (WPO(), 1.0)], "aot compares a whole step, and log_collision of tokens"),
        ([(SPPO(probability="data"), 1.0), (DPO(), 1.0)], "sppo with probability=data"),
        ([(BCO(), 1.0), (BCO(beta=1.0), 1.0)], "two of them have running means"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_named(parts: list[tuple[Any, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=r"^parts") as error:
        summed(*parts)
    assert message in str(error.value)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_of_parts_are_positive(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be > 0 and finite"):
        summed((DPO(), weight))
