"""Routers, and where they send tokens, by hand; of several processes too."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.architectures import EXPERTS
from support.families import build
from twofold.batch import Routing
from twofold.errors import ModelError
from twofold.models import experts
from twofold.models.experts import balance, recorded, routers, routing, whole_routing

LOGITS = torch.tensor([[0.0, math.log(3), -100.0], [math.log(4), 0.0, -100.0]])


def mixtral(**changes: Any) -> tr.PreTrainedModel:
    return build(tr.MixtralForCausalLM, tr.MixtralConfig, **{**EXPERTS, **changes})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_probabilities_and_choices_are_weighted_by_token(dtype: torch.dtype) -> None:
    """π = (¼, ¾, 0) counts twice and (⅘, ⅕, 0) once; each token goes to its likelier expert."""
    found = routing([LOGITS.to(dtype), LOGITS.to(dtype)], torch.tensor([2.0, 1.0]), 1)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert (found.probability_LE.dtype, found.chosen_LE.dtype) == (wide, wide)
    torch.testing.assert_close(found.probability_LE, torch.tensor([[1.3, 1.7, 0.0]] * 2).to(wide), atol=1e-2, rtol=0)
    assert found.chosen_LE.tolist() == [[1.0, 2.0, 0.0]] * 2
    assert found.rows == 6.0
    both = routing([LOGITS.to(dtype)], torch.tensor([2.0, 1.0]), 2)
    assert (both.chosen_LE.tolist(), both.rows) == ([[3.0, 3.0, 0.0]], 3.0)


def test_gradients_reach_probabilities_and_not_choices() -> None:
    logits = LOGITS.clone().requires_grad_()
    found = routing([logits], torch.ones(2), 1)
    assert (found.probability_LE.requires_grad, found.chosen_LE.requires_grad) == (True, False)


def part(first: float, rows: float) -> Routing:
    return Routing(torch.tensor([[first, 1.0]]), torch.tensor([[2 * first, 2.0]]), rows)


@pytest.mark.parametrize("mine", [[part(1.0, 2.0), part(3.0, 4.0)], []])
def test_the_routing_of_all_processes_is_their_sum(mine: list[Routing], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has sent its own in float32."""
    sent: list[Any] = []

    def gather(value: Any) -> list[Any]:
        sent.append(value)
        return [value, [[[[10.0, 1.0]], [[20.0, 2.0]], "float32", 5.0]]]

    monkeypatch.setattr(experts, "world", lambda: SimpleNamespace(size=2, gather=gather))
    whole = whole_routing(mine, torch.device("cpu"))
    assert sent == [[[[[4.0, 2.0]], [[8.0, 4.0]], "float32", 6.0]] if mine else []]
    first = 14.0 if mine else 10.0
    assert whole.probability_LE.tolist() == [[first, 3.0 if mine else 1.0]]
    assert whole.chosen_LE.tolist() == [[2 * first, 6.0 if mine else 2.0]]
    assert (whole.rows, whole.chosen_LE.dtype) == (11.0 if mine else 5.0, torch.float32)


def test_one_process_sums_its_own() -> None:
    whole = whole_routing([part(1.0, 2.0), part(3.0, 4.0)], torch.device("meta"))
    assert (whole.probability_LE.tolist(), whole.rows) == ([[4.0, 2.0]], 6.0)


def test_routers_are_those_whose_outputs_the_class_records(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = mixtral()
    gates = [layer.mlp.gate for layer in model.model.layers]
    assert [(module, type(index)) for module, index in routers(model)] == [(gate, int) for gate in gates]
    assert routers(tiny.llama()) == []
    monkeypatch.setattr(experts, "top_k", lambda model: None)
    assert routers(model) == []


def test_what_is_recorded_is_flat_and_at_the_index_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x + 1

    model: Any = torch.nn.Sequential(torch.nn.Identity(), Two())
    monkeypatch.setattr(experts, "routers", lambda module: [(module[0], 0), (module[1], 1)])
    with recorded(model) as logits:
        model(torch.zeros(2, 3, 4))
    assert [(tuple(z.shape), z.unique().tolist()) for z in logits] == [((6, 4), [0.0]), ((6, 4), [1.0])]
    with pytest.raises(KeyError), recorded(model) as logits:
        raise KeyError
    model(torch.zeros(1, 4))
    assert logits == []


def test_the_weight_of_the_loss_is_asked_for_or_the_configs() -> None:
    dense, sparse = tiny.llama(), mixtral()
    assert (balance(dense, None), balance(dense, 0.0), balance(sparse, 0.25), balance(sparse, None)) == (0, 0, 0.25, 0)
    sparse.config.output_router_logits, sparse.config.router_aux_loss_coef = True, 0.5
    assert (balance(sparse, None), balance(sparse, 0.0)) == (0.5, 0.0)
    config = SimpleNamespace(output_router_logits=True)
    config.get_text_config = lambda: config
    assert balance(SimpleNamespace(config=config), None) == 0.0  # type: ignore[arg-type]  # as much as is read
    with pytest.raises(ModelError) as error:
        balance(dense, 0.1)
    assert str(error.value) == (
        "model.router_aux_loss_coef: a LlamaForCausalLM has no routers that a load-balancing loss could be made of\n"
        "  → leave it out, or set it to 0"
    )
