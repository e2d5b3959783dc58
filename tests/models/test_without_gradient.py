"""What is computed without gradient, what has one derivative only, and wrappers that show what they wrap."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from support.architectures import EXPERTS
from support.families import build
from twofold.models import agreement, inline_attention, packed_model, quantized
from twofold.models.attention import Scores
from twofold.models.bema import Bema, BemaReference
from twofold.models.dora import WideDora
from twofold.models.logprob import token_entropies, token_logps, token_statistics
from twofold.models.packing import Packing, pack
from twofold.models.policy import Policy
from twofold.models.tiled_attention import tiled_attention


def leaves(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=noise).requires_grad_() for shape in shapes]


def twice(loss: torch.Tensor, leaf: torch.Tensor) -> None:
    """A derivative, which is finite, and the derivative of that."""
    (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert first.isfinite().all()
    first.square().sum().backward()


def test_the_head_and_tiled_attention_have_one_derivative() -> None:
    """Their backward passes are written by hand; a second derivative would be silently wrong."""
    hidden, weight = leaves((3, 4), (9, 4))
    refusal = "trying to differentiate twice a function that was marked with @once_differentiable"
    for values in (token_logps(hidden, weight, torch.arange(3)), token_entropies(hidden, weight)):
        with pytest.raises(RuntimeError) as refused:
            twice(values.square().sum(), hidden)
        assert str(refused.value) == refusal
    layout = pack(tiny.groups((3, 2, 2))).layout
    (q,) = leaves((5, 2, 4))
    narrow = q.bfloat16()
    out = tiled_attention(narrow, narrow.detach(), narrow.detach(), layout, Scores(0.5, None, None))
    with pytest.raises(RuntimeError) as refused:
        twice(out.float().square().sum(), q)
    assert str(refused.value) == refusal


@pytest.mark.parametrize(("kind", "method"), [(k, m) for k, own in inline_attention._KINDS.items() for m in own])
def test_wrappers_show_what_they_wrap(kind: str, method: str) -> None:
    """A model's arguments are read from the signatures of its methods."""

    def original(self: Any, some: int, *, other: str = "x") -> None:
        """Its text."""

    wrapper = inline_attention._KINDS[kind][method](original)
    assert wrapper is not original
    assert (wrapper.__name__, wrapper.__doc__) == ("original", "Its text.")
    assert list(inspect.signature(wrapper).parameters) == ["self", "some", "other"]


def test_statistics_have_no_gradient() -> None:
    hidden, weight = leaves((3, 4), (9, 4))
    found = token_statistics(hidden, weight, top=True)
    assert found
    assert not any(value.requires_grad for value in found.values())


def test_what_a_policy_reads_of_itself_has_no_gradient() -> None:
    mixtral = pytest.importorskip("transformers").MixtralForCausalLM
    policy = Policy(build(mixtral, mixtral.config_class, **EXPERTS))
    groups = tiny.groups((3, 2, 2), (2, 1))
    values = [row for several in policy.per_branch(groups, None) for row in several]
    assert [len(row) for row in values] == [2, 2, 1]
    assert not any(row.requires_grad for row in values)
    assert not any(row.requires_grad for of_pack in policy.per_pack([groups]) for rows in of_pack for row in rows)
    assert not any(row.requires_grad for row in policy.distributions(groups[0]))
    routing = policy.routing(groups, Packing())
    assert routing is not None
    assert not routing.probability_LE.requires_grad


def test_trials_on_a_device_and_of_exports_have_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    grads: list[Any] = []
    policy = Policy(tiny.llama())
    nn.Module.to(policy.model, "meta")
    monkeypatch.setattr(packed_model, "pack_hidden", lambda *given, **how: grads.append(torch.is_grad_enabled()))
    monkeypatch.setattr(policy, "_precision", lambda model=None: nullcontext())
    assert policy._device_note() == ""

    def read(model: Any) -> Any:
        grads.append((model, torch.is_grad_enabled()))
        return SimpleNamespace(logps=lambda groups: [[torch.ones(2)], [torch.zeros(1)]])

    monkeypatch.setattr(agreement, "Policy", read)
    model: Any = "model"
    assert agreement._logps(model, []).tolist() == [1.0, 1.0, 0.0]
    assert grads == [False, ("model", False)]


def test_weights_change_without_gradient() -> None:
    """Those of a policy, the norms of DoRA, and those of a quantized layer."""
    policy = Policy(tiny.llama())
    before = {name: weight.detach().clone() for name, weight in policy.trainable().items()}
    policy.take({name: value + 1 for name, value in before.items()})
    assert all(torch.equal(weight, before[name] + 1) for name, weight in policy.trainable().items())
    assert all(weight.is_leaf and weight.requires_grad for weight in policy.trainable().values())
    base = nn.Linear(2, 2)
    a, b = leaves((1, 2), (2, 1))
    assert not WideDora(False)._norm(base, a, b, 1.0).requires_grad


def test_a_layer_is_dequantized_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    grads: list[bool] = []

    class Coded(nn.Linear):
        def dequantized(self) -> torch.Tensor:
            grads.append(torch.is_grad_enabled())
            return torch.full((3, 2), 2.0)

    monkeypatch.setattr(quantized, "is_quantized", lambda model: True)
    model: Any = tiny.llama()
    model.lm_head = Coded(2, 3, bias=False)
    quantized.dequantize(model, torch.float64)
    assert type(model.lm_head) is nn.Linear
    assert model.lm_head.weight.tolist() == [[2.0, 2.0]] * 3
    assert (model.dtype, model.lm_head.weight.requires_grad, grads) == (torch.float64, False, [False])


def test_an_average_and_what_is_restored_take_no_gradient() -> None:
    """From 1, with a policy at 3. After two steps β and α are ⅓: the mean is 1 + ⅔, and the average ⅔ more."""
    reference, policy = (torch.full((2,), value, requires_grad=True) for value in (1.0, 3.0))
    follower: Any = SimpleNamespace(moves=lambda: {"w": (reference, policy)}, copies=[])
    moving = BemaReference(follower, Bema(ema_power=1.0, bias_power=1.0, lag=1.0, multiplier=1.0), 2)
    assert sorted(moving.tensors()) == ["mean.w", "reference.w", "start.w"]
    moving.on_step_end(3)  # between two updates
    assert reference.tolist() == [1.0, 1.0]
    moving.on_step_end(2)
    assert moving.tensors()["mean.w"].tolist() == pytest.approx([1 + 2 / 3] * 2)
    assert reference.tolist() == pytest.approx([1 + 4 / 3] * 2)
    assert moving.tensors()["start.w"].tolist() == [1.0, 1.0]
    moving.restore({"mean.w": torch.zeros(2), "reference.w": torch.ones(2), "start.w": torch.full((2,), 5.0)}, {})
    assert {name: value.tolist() for name, value in moving.tensors().items()} == {
        "mean.w": [0.0, 0.0], "reference.w": [1.0, 1.0], "start.w": [5.0, 5.0],
    }  # fmt: skip
    assert reference.is_leaf
