"""The use of experts and the load-balancing loss: those of transformers on separate rows, however tokens are packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.architectures import EXPERTS, IN_THE_MASK, SPARSE
from support.families import build
from twofold.batch import Group, Routing
from twofold.errors import ModelError
from twofold.models.attention import stock_attention
from twofold.models.experts import recorded
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.rows import padded
from twofold.objectives import AOT, DPO
from twofold.objectives.base import Objective
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

MIXTURES: Mapping[str, Callable[[], tr.PreTrainedModel]] = {
    "mixtral": lambda: build(tr.MixtralForCausalLM, tr.MixtralConfig, **EXPERTS),
    "qwen3_moe": lambda: build(tr.Qwen3MoeForCausalLM, tr.Qwen3MoeConfig, head_dim=8, **SPARSE),
    "gpt_oss": lambda: build(tr.GptOssForCausalLM, tr.GptOssConfig, head_dim=8, **EXPERTS),
    "granitemoe": lambda: build(tr.GraniteMoeForCausalLM, tr.GraniteMoeConfig, **EXPERTS),
    **IN_THE_MASK,
}
GROUPS = tiny.groups((5, 4, 6), (12, 7, 1, 9), (1, 1, 3), (3, 1))
PACKINGS = (Packing(), Packing(groups=1), Packing(tokens=30))


def rows(groups: list[Group]) -> list[Tensor]:
    return [torch.cat([g.prompt, b.tokens[:-1]]) for g in groups for b in g.branches]


def of_transformers(model: tr.PreTrainedModel, groups: list[Group]) -> Tensor:
    """Its own load-balancing loss on padded rows."""
    told = rows(groups)
    mask = padded([torch.ones_like(row) for row in told], model.device)
    return model(input_ids=padded(told, model.device), attention_mask=mask, output_router_logits=True).aux_loss


def whole(policy: Policy, packing: Packing) -> Routing:
    routed = policy.routing(GROUPS, packing)
    assert routed is not None
    return routed


@pytest.mark.parametrize("family", MIXTURES)
def test_the_loss_is_that_of_transformers_on_rows(family: str) -> None:
    model = MIXTURES[family]()
    expected = of_transformers(model, GROUPS)
    assert expected > 0.5
    for sharing in ("auto", "rows"):
        policy = Policy(model, sharing=sharing)  # type: ignore[arg-type]  # one of the three
        for packing in PACKINGS:
            routed = whole(policy, packing)
            torch.testing.assert_close(routed.imbalance(routed), expected.detach(), rtol=1e-6, atol=1e-6)


def test_choices_are_counted_by_layer_and_expert() -> None:
    model = MIXTURES["mixtral"]()
    routed = whole(Policy(model), Packing())
    with torch.no_grad(), stock_attention(model):
        logits = [model(input_ids=row[None], output_router_logits=True).router_logits for row in rows(GROUPS)]
    for layer in range(2):
        picked = torch.cat([z[layer].topk(2).indices.flatten() for z in logits])
        assert routed.chosen_LE[layer].tolist() == torch.bincount(picked, minlength=4).tolist()
    assert routed.rows == 2 * sum(map(len, rows(GROUPS)))
    torch.testing.assert_close(routed.shares().sum(1), torch.ones(2))


@pytest.mark.parametrize(
    ("chosen", "evenness"), [([[1.0, 1, 1, 1]], 1.0), ([[4.0, 0, 0, 0]], 0.0), ([[2.0, 2, 0, 0], [1, 1, 1, 1]], 0.75)]
)
def test_evenness(chosen: list[list[float]], evenness: float) -> None:
    chosen_LE = torch.tensor(chosen)
    assert Routing(chosen_LE, chosen_LE, 4.0).evenness() == pytest.approx(evenness)


def stepper(coefficient: float | None, packing: Packing, **options: Any) -> tuple[Step, Policy]:
    config = {**EXPERTS, **options}
    model = build(tr.MixtralForCausalLM, tr.MixtralConfig, **config).double()
    policy = Policy(model, router_aux_loss_coef=coefficient)
    optimizer = make_optimizer(AdamW(learning_rate=1e-3), policy.trainable())
    return Step([Trainable(POLICY, policy, optimizer)], providers={}, packing=packing, clip=None), policy


def reference_free(objective: Objective) -> list[Part]:
    groups = [
        g.with_columns([{"ref_logp": torch.full_like(b.tokens, -4.0).double()} for b in g.branches]) for g in PAIRS
    ]
    return [Part(groups[:3], objective), Part(groups[3:], objective, 0.5)]


PAIRS = tiny.pairs(6)


@pytest.mark.parametrize("objective", [DPO(beta=0.5), AOT(beta=0.5)], ids=["alone", "coupled"])
def test_no_packing_changes_its_gradient_and_it_is_that_of_transformers(objective: Objective) -> None:
    found: list[dict[str, Tensor]] = []
    for coefficient, packing in [(0.0, Packing()), *((0.7, packing) for packing in PACKINGS)]:
        step, policy = stepper(coefficient, packing)
        metrics = step(Round(0, reference_free(objective)))
        found.append(tiny.gradients(policy))
        assert ("loss/load_balancing" in metrics) == (coefficient > 0) == ("experts/evenness" in metrics)
    without, *others = found
    fresh = stepper(0.0, Packing())[1].model
    with stock_attention(fresh):
        of_transformers(fresh, PAIRS).mul(0.7).backward()
    aux = {n: p.grad for n, p in fresh.named_parameters() if p.grad is not None}
    assert max(g.abs().max().item() for g in aux.values()) > 1e-3
    for gradients in others:
        for name, gradient in gradients.items():
            expected = without[name] + aux.get(name, torch.zeros(()))
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "coefficient", "expected"),
    [
        ({}, None, 0.0),
        ({"output_router_logits": True, "router_aux_loss_coef": 0.02}, None, 0.02),
        ({"output_router_logits": True, "router_aux_loss_coef": 0.02}, 0.0, 0.0),
        ({}, 0.3, 0.3),
    ],
)
def test_it_is_there_where_the_config_or_the_setting_asks(
    config: dict[str, Any], coefficient: float | None, expected: float
) -> None:
    assert stepper(coefficient, Packing(), **config)[1].balance == expected


def test_what_has_no_router_has_no_such_loss() -> None:
    with pytest.raises(ModelError, match="no routers") as caught:
        Policy(tiny.llama(), router_aux_loss_coef=0.1)
    assert (caught.value.where, caught.value.remedy) == ("model.router_aux_loss_coef", "leave it out, or set it to 0")
    assert Policy(tiny.llama()).routing(GROUPS, Packing()) is None


def test_recomputed_activations_change_nothing() -> None:
    gradients = []
    for recompute in (False, True):
        policy = Policy(MIXTURES["mixtral"](), activation_checkpointing=recompute, router_aux_loss_coef=1.0)
        outputs, _ = policy(GROUPS, routing=True)
        assert outputs.routing is not None
        outputs.routing.imbalance(outputs.routing).backward()
        gradients.append(tiny.gradients(policy))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_recording_ends_with_its_context() -> None:
    model = MIXTURES["mixtral"]()
    inputs = torch.tensor([[1, 2, 3]])
    with recorded(model) as logits:
        model(input_ids=inputs)
        assert len(logits) == model.config.num_hidden_layers
    model(input_ids=inputs)
    assert len(logits) == model.config.num_hidden_layers, "a forward pass outside the context is not recorded"
