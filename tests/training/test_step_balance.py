"""The load-balancing loss of a mixture of experts in a step: its share of the loss, whose it is, and what it counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.architectures import EXPERTS
from support.families import build
from twofold.batch import Batch, Group, Outputs, Role, Routing
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.objectives import AOT, SFT
from twofold.objectives.base import Loss, Objective, Term, logps
from twofold.training import step as steps
from twofold.training.step import Averages, Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

GROUPS = tiny.groups((3, 4), (5, 2), (2, 6), (4, 3))


def mixture(weight: float, seed: int = 0) -> Policy:
    model = build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS)
    return Policy(tiny.sharp(model, seed).double(), router_aux_loss_coef=weight)


def still(name: str, policy: Policy) -> Trainable:
    return Trainable(name, policy, torch.optim.SGD(policy.trainable().values(), lr=0.0))


def stepper(*members: Trainable, packing: Packing | None = None) -> Step:
    return Step(list(members), providers={}, packing=packing or Packing(), clip=None)


def routed(policy: Policy, groups: list[Group]) -> Routing:
    result = policy.routing(groups, Packing())
    assert result is not None
    return result


def fixed(groups: list[Group]) -> list[Group]:
    """With a reference of −4 nats a token."""
    return [
        g.with_columns([{"ref_logp": torch.full_like(b.tokens, -4.0).double()} for b in g.branches]) for g in groups
    ]


@pytest.mark.parametrize("packing", [Packing(), Packing(groups=1)], ids=["one pack", "several"])
@pytest.mark.parametrize("objective", [SFT(), AOT()], ids=["apart", "coupled"])
def test_its_value_is_that_of_all_tokens_of_the_step(objective: Objective, packing: Packing) -> None:
    """Two parts, of which the second weighs a half: neither changes how much the balance weighs."""
    groups = fixed(tiny.pairs(4)) if objective.couples else GROUPS
    parts = [Part(groups[:3], objective), Part(groups[3:], objective, 0.5)]
    plain = stepper(still(POLICY, mixture(0.0)), packing=packing)(Round(0, parts))
    policy = mixture(0.7)
    whole = routed(policy, groups)
    imbalance = whole.imbalance(whole).item()
    metrics = stepper(still(POLICY, policy), packing=packing)(Round(0, parts))
    assert metrics["loss/load_balancing"] == pytest.approx(imbalance, rel=1e-9)
    assert metrics["loss"] == pytest.approx(plain["loss"] + 0.7 * imbalance, rel=1e-9)
    assert metrics["experts/evenness"] == pytest.approx(whole.evenness(), rel=1e-12)
    assert set(metrics) - set(plain) == {
        "loss/load_balancing", "experts/evenness", "experts/largest_share", "experts/smallest_share",
    }  # fmt: skip
    assert metrics["experts/largest_share"] == pytest.approx(float(whole.shares().max()), rel=1e-12)


def test_measuring_asks_for_no_routing() -> None:
    policy = mixture(0.7)
    request: list[bool] = []
    forward = policy.forward

    def noted(*args: Any, routing: bool = False) -> Any:
        request.append(routing)
        return forward(*args, routing=routing)

    policy.forward = noted  # type: ignore[method-assign]  # to count its calls
    step = stepper(still(POLICY, policy))
    part = Part(GROUPS, SFT())
    assert set(step.measure([part])) == {"loss", "loss/sft", "demonstration_logp", "demonstration_length"}
    assert request == [False]
    step(Round(0, [part]))
    assert request == [False, True, True]  # a forward pass for the counts, another one for the gradient


class Nothing(Objective):
    """A term on chosen completions, of which demonstrations have none."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({"mine": Term(batch.sum(logps(outputs))[batch.of_role(Role.CHOSEN)], "branch:chosen")})


def test_a_part_without_a_loss_is_not_skipped_where_it_balances() -> None:
    policy = mixture(0.5)
    whole = routed(policy, GROUPS)
    metrics = stepper(still(POLICY, policy))(Round(0, [Part(GROUPS, Nothing())]))
    assert "skipped" not in metrics
    assert metrics["loss"] == pytest.approx(0.5 * whole.imbalance(whole).item(), rel=1e-9)
    assert metrics["grad_norm"] > 1e-4
    dense = stepper(still(POLICY, mixture(0.0)))(Round(0, [Part(GROUPS, Nothing())]))
    assert dense == {"grad_norm": 0.0, "skipped": 1.0}


def test_the_balance_of_another_model_is_not_in_the_loss() -> None:
    """Its figures are behind its name; those of the policy, which has no experts, are not there."""
    critic, policy = mixture(0.7, seed=1), tiny.policy()
    whole = routed(critic, GROUPS[2:])
    parts = [Part(GROUPS[:2], SFT()), Part(GROUPS[2:], SFT(), trainable="critic", name="value")]
    single = stepper(still(POLICY, policy))(Round(0, parts[:1]))
    metrics = stepper(still(POLICY, policy), still("critic", critic))(Round(0, parts))
    assert metrics["loss"] == pytest.approx(single["loss"], rel=1e-12)
    assert metrics["loss/load_balancing"] == pytest.approx(whole.imbalance(whole).item(), rel=1e-9)
    assert metrics["critic/experts/evenness"] == pytest.approx(whole.evenness(), rel=1e-12)
    assert not any(name.startswith("experts/") for name in metrics)


@pytest.mark.parametrize("name", [POLICY, "critic"])
def test_a_packs_share_of_the_balance_by_hand(name: str) -> None:
    """Two experts; of the whole 3 and 1 of 4 tokens. A pack of 2 tokens with probabilities 1.5 and 0.5:
    2 · (¾ · 1.5 + ¼ · 0.5)/4 = 0.625, times a weight of 0.2."""
    step = stepper(still(name, tiny.policy()))
    step.policy.model.balance = 0.2
    whole = Routing(torch.tensor([[2.5, 1.5]]), torch.tensor([[3.0, 1.0]]), 4.0)
    pack = Routing(torch.tensor([[1.5, 0.5]]), torch.tensor([[2.0, 0.0]]), 2.0)
    part, averages = Part(GROUPS, SFT(), 0.5, name), Averages()
    outputs = Outputs(torch.zeros(1), routing=pack)
    assert step._balanced(part, None, Outputs(torch.zeros(1)), whole, averages) is None
    loss = torch.tensor(9.0)
    assert step._balanced(part, loss, outputs, None, averages) is loss
    assert averages.figures() == {}
    single = step._balanced(part, None, outputs, whole, averages)
    both = step._balanced(part, loss, outputs, whole, averages)
    assert single is not None
    assert both is not None
    assert (single.item(), both.item()) == (pytest.approx(0.125), pytest.approx(9.125))
    shown = {"loss/load_balancing": 1.25} | ({"loss": 0.25} if name == steps.POLICY else {})
    assert averages.figures() == pytest.approx(shown)
