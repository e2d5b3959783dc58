"""Which decays, momenta and epsilons an optimizer takes, at their bounds and in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from twofold.training.optim import SGD, Adafactor, AdamW, AdamW8bit, Joint, Muon, OptimizerSettings, RMSprop, decayed

BETAS, MOMENTUM = "betas must be in [0, 1)", "momentum must be in [0, 1)"


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (AdamW, {"betas": (1.0, 0.9)}, BETAS), (AdamW, {"betas": (0.9, 1.0)}, BETAS),
        (AdamW, {"betas": (-1e-9, 0.9)}, BETAS), (AdamW8bit, {"betas": (0.9, -1e-9)}, BETAS),
        (Muon, {"betas": (0.9, 1.5)}, BETAS), (Muon, {"momentum": 1.0}, MOMENTUM),
        (SGD, {"learning_rate": 0.1, "momentum": 1.0}, MOMENTUM),
        (SGD, {"learning_rate": 0.1, "momentum": -0.1}, MOMENTUM),
        (RMSprop, {"decay": 1.0}, "decay must be in [0, 1)"), (RMSprop, {"decay": -0.1}, "decay must be in [0, 1)"),
        (AdamW, {"epsilon": -1e-12}, "epsilon must be ≥ 0"), (RMSprop, {"epsilon": -1.0}, "epsilon must be ≥ 0"),
        (Muon, {"epsilon": -1e-12}, "epsilon must be ≥ 0"), (AdamW8bit, {"epsilon": -1.0}, "epsilon must be ≥ 0"),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_in_words(
    kind: type[OptimizerSettings], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        kind(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (AdamW, {"betas": (0.0, 0.0), "epsilon": 0.0}), (AdamW, {"betas": (0.999999, 0.0)}),
        (SGD, {"learning_rate": 0.1, "momentum": 0.0}), (RMSprop, {"decay": 0.0, "epsilon": 0.0}),
        (Muon, {"momentum": 0.0, "betas": (0.0, 0.99), "epsilon": 0.0}), (AdamW8bit, {"betas": (0.0, 0.0)}),
    ],
)  # fmt: skip
def test_bounds_that_are_in_are_taken(kind: type[OptimizerSettings], settings: dict[str, Any]) -> None:
    made = vars(kind(**settings))
    assert {name: made[name] for name in settings} == settings


def test_which_updates_need_only_a_part_of_a_matrix() -> None:
    kinds = (AdamW, AdamW8bit, Adafactor, RMSprop, SGD, Muon)
    assert [kind.elementwise for kind in kinds] == [True, False, False, True, True, False]
    assert [kind.rates[False] for kind in kinds] == [1e-6, 1e-6, 3e-5, 1e-6, 1e-6, 1e-6]
    assert [kind.rates[True] for kind in kinds] == [1e-5, 1e-5, 3e-4, 1e-5, 1e-5, 1e-5]
    assert Adafactor().rate == 3e-5
    assert Adafactor().for_tuning(adapter=True).learning_rate == 3e-4


def test_a_joint_optimizer_steps_all_of_its_parts_on_one_state() -> None:
    """The second group follows a schedule that sets the joint's groups: they are those of the parts."""
    a, b = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    parts = [torch.optim.SGD([each], lr=0.5, momentum=0.5) for each in (a, b)]
    joint = Joint(parts)
    joint.param_groups[1]["lr"] = 0.25
    for _ in range(2):
        a.grad, b.grad = torch.ones(1), torch.ones(1)
        joint.step()
    assert (a.item(), b.item()) == (1 - 0.5 * 1 - 0.5 * 1.5, 1 - 0.25 * 1 - 0.25 * 1.5)
    assert [joint.state[each]["momentum_buffer"].item() for each in (a, b)] == [1.5, 1.5]
    joint.zero_grad()
    assert (a.grad, b.grad) == (None, None)


def test_a_stack_of_matrices_decays_too() -> None:
    stack, scalar = nn.Parameter(torch.ones(1, 1, 1)), nn.Parameter(torch.ones(()))
    groups = decayed([scalar, stack], 0.25)
    assert [(group["params"], group["weight_decay"]) for group in groups] == [([stack], 0.25), ([scalar], 0.0)]
