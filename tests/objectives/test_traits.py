"""Traits of objectives: defaults, those that settings decide, and a plain class that has none of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from support.scenes import preferences
from twofold.batch import Batch, Outputs
from twofold.objectives import DPO, GRPO, IPO, PPO, RLOO, WPO, PDPOGenerator, Reinforce
from twofold.objectives.base import Loss, Objective, PlainObjective, Term, as_objective
from twofold.objectives.checks import gradient
from twofold.objectives.xpo import XPO


class Mine:
    """As README.md has it."""

    requires = ("ref_logp",)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        assert outputs.logp_S is not None
        logratio = batch.sum(outputs.logp_S - batch.token_columns["ref_logp"])
        return Loss({"mine": Term((1 - 0.1 * (logratio[0::2] - logratio[1::2])).relu(), "pair")})


class Knowing(Mine):
    """It knows some traits, and keeps a setting."""

    couples = True
    remedy = "patience"

    def __init__(self, scale: float) -> None:
        self.scale = scale

    @property
    def statistics(self) -> tuple[str, ...]:
        return ("log_greedy",) if self.scale > 1 else ()


class Slim(Mine):
    __slots__ = ("scale",)

    def __init__(self, scale: float) -> None:
        self.scale = scale


@dataclass(frozen=True)
class Frozen(Mine):
    beta: float = 0.1


def test_a_plain_class_gets_the_defaults_of_what_it_leaves_out() -> None:
    made, mine = as_objective(Mine()), Mine()
    assert isinstance(made, Objective)
    assert not isinstance(mine, Objective)
    assert isinstance(mine, PlainObjective)
    assert (made.data_kind, made.reads, made.statistics, made.couples) == ("pairs", "logps", (), False)
    assert made.remedy == "objective.kind=dpo with objective.nll=1"
    scene = preferences(3, torch.Generator().manual_seed(0))
    assert torch.equal(gradient(made, scene), gradient(as_objective(mine), scene))


def test_what_a_plain_class_says_stays() -> None:
    made = as_objective(Knowing(2.0))
    assert (made.couples, made.remedy, made.statistics, made.requires) == (
        True,
        "patience",
        ("log_greedy",),
        ("ref_logp",),
    )
    assert as_objective(Knowing(1.0)).statistics == ()


def test_its_names_are_those_of_its_class_and_its_repr_has_no_address() -> None:
    made = as_objective(Mine())
    assert (type(made).__name__, type(made).__qualname__, type(made).__module__) == ("Mine", "Mine", __name__)
    assert repr(made) == "Mine()"
    assert repr(as_objective(Knowing(2.0))) == "Knowing({'scale': 2.0})"
    assert repr(as_objective(Slim(2.0))).startswith("Slim(")
    assert repr(as_objective(Frozen(beta=0.3))) == "Frozen(beta=0.3)"


def test_a_frozen_one_stays_a_dataclass() -> None:
    made = as_objective(Frozen(beta=0.3))
    assert made == as_objective(Frozen(beta=0.3)) != as_objective(Frozen(beta=0.2))
    assert isinstance(made, Frozen)
    assert replace(made, beta=0.4).beta == 0.4
    assert as_objective(made) is made


def test_members_are_taken_as_they_are() -> None:
    objective = DPO()
    assert as_objective(objective) is objective
    with pytest.raises(NotImplementedError):
        Objective()(Outputs(), Batch.of([]))


def test_traits_that_settings_decide() -> None:
    assert (DPO().requires, DPO(reference_free=True).requires, IPO(reference_free=True).requires) == (
        ("ref_logp",),
        (),
        (),
    )
    assert WPO(alignment="greedy").statistics == ("log_greedy",)
    assert PDPOGenerator().requires == ("ref_logp", "truth_logratio")
    assert PDPOGenerator(per_token=True, gate="judge").requires[1:] == ("truth_logratio", "truth_length", "correct")
    comparisons = [o.comparison for o in (PPO(), PPO(baseline="group"), GRPO(scale="none"), RLOO(), Reinforce())]
    assert comparisons == [
        (None, "rollout"), ("group", "rollout"), ("group", "none"), ("leave_one_out", "none"), ("rollout", "none"),
    ]  # fmt: skip


def test_xpo_has_the_traits_of_what_it_adds_to() -> None:
    made = XPO(WPO(), 0.1)
    assert made.requires == ("ref_logp", "from_reference")
    assert (made.statistics, made.margin_weighted, XPO(DPO(), 0.1).margin_weighted) == (("log_collision",), False, True)
    assert XPO(DPO(), 0.1).remedy == DPO().remedy
