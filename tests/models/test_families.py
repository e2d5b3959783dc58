"""Every family, prompts shared against separate rows, exact in float64; and those that cannot share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from support import tiny
from support.families import FAMILIES, GEMMA, ROUNDED, UNSHARED, build
from twofold.batch import Group
from twofold.errors import ModelError
from twofold.models.policy import Policy
from twofold.models.trial import know_float64

NORM_CLASSES = ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm")

# Three branches and one; one-token branches first, later, everywhere; a prompt of one token; more than the window.
GROUPS = tiny.groups((5, 4, 6), (12, 7, 1, 9), (1, 1, 3), (3, 1, 1, 1), (10, 11), (2, 1))


def norm(self: Any, hidden: Tensor) -> Tensor:
    """Root-mean-square norm in the input's own precision; Gemma's weight is an offset from 1."""
    gemma = type(self).__name__.startswith("Gemma")
    scaled = hidden * torch.rsqrt(
        hidden.square().mean(-1, keepdim=True) + (self.eps if gemma else self.variance_epsilon)
    )
    return scaled * (1 + self.weight) if gemma else scaled * self.weight


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Replaces what transformers computes in float32 at any precision: norms, and the softmax of eager attention."""
    softmax = nn.functional.softmax

    def wide(x: Tensor, dim: int = -1, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        return softmax(x, dim=dim, dtype=torch.promote_types(x.dtype, dtype or x.dtype))

    def patch(model: nn.Module) -> None:
        for cls in {type(m) for m in model.modules() if type(m).__name__ in NORM_CLASSES}:
            monkeypatch.setattr(cls, "forward", norm)
        monkeypatch.setattr(nn.functional, "softmax", wide)

    return patch


def differentiated(policy: Policy, groups: list[Group]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities, and gradients of a sum in which every token has a weight of its own."""
    policy.zero_grad()
    logp_S = policy(groups)[0].logp_S
    (logp_S * torch.linspace(-1, 2, len(logp_S), dtype=logp_S.dtype)).sum().backward()
    return logp_S.detach(), tiny.gradients(policy)


def relative(a: Tensor, b: Tensor, floor: float = 0.0) -> float:
    return ((a - b).norm() / b.norm().clamp(min=max(floor, 1e-300))).item()


def disagreement(
    model: tr.PreTrainedModel, *, checkpointing: bool = False, groups: list[Group] = GROUPS
) -> tuple[float, float]:
    """Largest relative differences of log-probabilities and, parameter by parameter, of gradients; shared against rows.

    A gradient below a thousandth of the whole is measured against that: keys' biases have none but rounding.
    """
    rows = Policy(copy.deepcopy(model), sharing="rows", activation_checkpointing=checkpointing)
    shared = Policy(model, activation_checkpointing=checkpointing)
    assert (shared.shared, shared.sharing_note) == (True, "")
    (a, da), (b, db) = differentiated(shared, groups), differentiated(rows, groups)
    assert da.keys() == db.keys() == shared.trainable().keys()
    whole = torch.stack([g.norm() for g in db.values()]).norm().item()
    assert whole > 1
    return ((a - b) / b).abs().max().item(), max(relative(da[n], db[n], 1e-3 * whole) for n in db)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prompts_equal_separate_rows(
    family: str, adapted: bool, checkpointing: bool, exact: Callable[[nn.Module], None]
) -> None:
    model = FAMILIES[family]()
    if adapted:
        tiny.lora(model)
    exact(model.double())
    logps, gradients = disagreement(model, checkpointing=checkpointing)
    assert logps <= 1e-12
    assert gradients <= 1e-12


@pytest.mark.parametrize("family", [*FAMILIES, *ROUNDED])
def test_shared_prompts_equal_separate_rows_with_stock_norms(family: str) -> None:
    model = {**FAMILIES, **ROUNDED}[family]().double()
    know_float64(model)
    logps, gradients = disagreement(model)
    assert logps <= 1e-6
    assert gradients <= 1e-6


@pytest.mark.parametrize("window", [1, 2, 3, 5, 17, 100])
def test_any_window_is_exact(window: int, exact: Callable[[nn.Module], None]) -> None:
    """Smaller than prompts and branches, as long as a segment of the groups (12 + 6), larger than all."""
    model = build(tr.MistralForCausalLM, tr.MistralConfig, sliding_window=window).double()
    exact(model)
    logps, gradients = disagreement(model)
    assert logps <= 1e-12
    assert gradients <= 1e-12


def test_a_window_is_felt() -> None:
    """Were windows ignored by both ways, the tests above would pass as well."""
    narrow, wide = (
        Policy(build(tr.MistralForCausalLM, tr.MistralConfig, sliding_window=w).double())(GROUPS)[0].logp_S
        for w in (4, 64)
    )
    assert (narrow - wide).abs().max() > 0.1


def test_sinks_are_felt_and_learn() -> None:
    """Without them the same weights say something else; their gradient is that of separate rows (above)."""
    with_sinks, without = ROUNDED["gpt_oss"]().double(), ROUNDED["gpt_oss"]().double()
    with torch.no_grad():
        for name, weight in without.named_parameters():
            if "sinks" in name:
                weight.fill_(-1e4)
    policies = [Policy(model) for model in (with_sinks, without)]
    sunk, plain = (policy(GROUPS)[0].logp_S for policy in policies)
    assert (sunk - plain).abs().max() > 0.01
    sunk.sum().backward()
    learned = [gradient for name, gradient in tiny.gradients(policies[0]).items() if "sinks" in name]
    assert len(learned) == 2
    assert all(gradient.abs().min() > 0 for gradient in learned)


def test_soft_caps_are_felt() -> None:
    caps = (
        {"attn_logit_softcapping": a, "final_logit_softcapping": f} for a, f in ((0.5, 3.0), (50.0, 3.0), (0.5, 30.0))
    )
    capped, plain, loose = (
        Policy(build(tr.Gemma2ForCausalLM, tr.Gemma2Config, **GEMMA, **c).double())(GROUPS)[0].logp_S for c in caps
    )
    assert (capped - plain).abs().max() > 0.01
    assert (capped - loose).abs().max() > 0.1


@pytest.mark.parametrize("family", [*FAMILIES, *ROUNDED, *UNSHARED])
def test_log_probabilities_are_those_of_transformers(family: str) -> None:
    model = {**FAMILIES, **ROUNDED, **UNSHARED}[family]().double()
    know_float64(model)
    expected = [alone for g in GROUPS for alone in tiny.alone(model, g)]
    found = [logp for group in Policy(model).logps(GROUPS) for logp in group]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", UNSHARED)
def test_a_family_that_cannot_share_says_why(family: str) -> None:
    policy = Policy(UNSHARED[family]())
    why = "only 0 of its layers"
    assert not policy.shared
    assert policy.sharing_note
    assert why in policy.sharing_note
    with pytest.raises(ModelError, match="cannot share prompts") as caught:
        Policy(UNSHARED[family](), sharing="shared")
    assert policy.sharing_note in str(caught.value)
    assert "auto or rows" in caught.value.remedy


def test_rows_can_be_asked_for() -> None:
    policy = Policy(tiny.llama(), sharing="rows")
    assert not policy.shared
    assert policy.model.config._attn_implementation == "sdpa"
