"""What only a CUDA device can show: variable-length attention, bfloat16 products with float32 sums."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from support import tiny
from twofold.models.logprob import token_logps
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import DPO
from twofold.training.column_providers import providers
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

pytestmark = pytest.mark.gpu


def model(**changes: int) -> Qwen2ForCausalLM:
    sizes = {**tiny.DECODER, "hidden_size": 128, "intermediate_size": 192, **changes}
    return tiny.sharp(Qwen2ForCausalLM(Qwen2Config(**sizes))).cuda()  # type: ignore[return-value]  # the same model


def test_shared_packs_equal_separate_rows_under_autocast() -> None:
    """bfloat16 differs by its rounding only: an order of magnitude less than one wrong key would cost."""
    shared = Policy(model(), autocast=torch.bfloat16)
    rows = Policy(copy.deepcopy(shared.model), autocast=torch.bfloat16, sharing="rows")
    assert shared.shared, shared.sharing_note
    groups = tiny.pairs(8)
    a, b = shared(groups)[0].logp_S, rows(groups)[0].logp_S
    assert a.dtype == torch.float32
    assert (a - b).abs().mean() < 0.05


def test_float32_on_the_gpu_equals_the_cpu() -> None:
    gpu = Policy(model())
    cpu = Policy(copy.deepcopy(gpu.model).cpu())
    groups = tiny.pairs(8)
    assert torch.allclose(gpu(groups)[0].logp_S.cpu(), cpu(groups)[0].logp_S, atol=1e-3)


def test_token_logps_sum_in_float32() -> None:
    noise = torch.Generator("cuda").manual_seed(0)
    hidden = torch.randn(512, 256, device="cuda", generator=noise)
    weight = torch.randn(32000, 256, device="cuda", generator=noise) / 16
    target = torch.randint(32000, (512,), device="cuda", generator=noise)
    exact = token_logps(hidden.double(), weight.double(), target)
    with torch.autocast("cuda", torch.bfloat16):
        found = token_logps(hidden, weight, target)
    assert found.dtype == torch.float32
    assert (found.double() - exact).sum().abs() < 0.5


def test_the_first_dpo_loss_is_ln_2_and_a_step_lowers_it() -> None:
    policy = Policy(model(), autocast=torch.bfloat16)
    packing = Packing(tokens=256)
    step = Step(
        [Trainable(POLICY, policy, make_optimizer(AdamW(learning_rate=1e-3), policy.trainable()))],
        providers=providers(policy, live_reference(policy), packing),
        packing=packing,
    )
    part = Part(tiny.pairs(8), DPO())
    before = step.measure([part])["loss"]
    assert before == pytest.approx(0.6931471805599453, abs=1e-6)
    for k in range(3):
        step(Round(k, [part]))
    assert step.measure([part])["loss"] < before
