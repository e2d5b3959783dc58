"""Objectives whose weights or β follow the model: values by hand, what they learn, and what leaves them alone."""

from __future__ import annotations

import math

import pytest
import torch

from support.scenes import branch, evaluate, even, group, preferences, whole
from twofold.batch import Batch, Outputs, Role
from twofold.models.logprob import TOP, statistics_of
from twofold.objectives import DFT, DPO, EAFT, SFT, BetaDPO
from twofold.objectives.checks import gradient
from twofold.objectives.eaft import TOP as PAPER


def shown(objective: DFT | EAFT, logits: torch.Tensor, token: int) -> tuple[float, torch.Tensor]:
    """The loss of one token, and its gradient by the logits."""
    logits = logits.clone().requires_grad_()
    batch = Batch.of([group("0", branch(Role.DEMONSTRATION, torch.zeros(1)))])
    logp_V = logits.log_softmax(0)
    statistics = statistics_of(logits.detach()[None])
    (term,) = objective(Outputs(logp_V[token, None], statistics=statistics), batch).terms.values()
    term.value.sum().backward()
    assert logits.grad is not None
    return term.value.item(), logits.grad


def test_dft_by_hand() -> None:
    """−π·log π at π = ¼: ln 4/4 = 0.34657359; with π held fixed the gradient by log π is −¼, so by the logits
    −¼·(onehot − π): −3/16 at the token and 1/16 at the three others."""
    value, grad = shown(DFT(), torch.zeros(4, dtype=torch.float64), 1)
    assert value == pytest.approx(math.log(4) / 4, abs=1e-12)
    assert grad.tolist() == pytest.approx([1 / 16, -3 / 16, 1 / 16, 1 / 16], abs=1e-12)


def test_eaft_by_hand() -> None:
    """Two likely tokens of ½ each (the others at −1000) have H = ln 2, so a weight of ln 2/ln 20 = 0.2313782 and a
    loss of (ln 2)²/ln 20 = 0.16037914; a certain one has H = 0 and no loss. Of 40 equal tokens the 20 likeliest have
    ln 20: weight 1, loss ln 40."""
    logits = torch.full((30,), -1000.0, dtype=torch.float64)
    logits[:2] = 0.0
    value, grad = shown(EAFT(), logits, 0)
    assert value == pytest.approx(math.log(2) ** 2 / math.log(20), abs=1e-12)
    assert grad[:2].tolist() == pytest.approx([-0.5 * math.log(2) / math.log(20), 0.5 * math.log(2) / math.log(20)])
    squared, _ = shown(EAFT(power=2.0), logits, 0)
    assert squared == pytest.approx(math.log(2) ** 3 / math.log(20) ** 2, abs=1e-12)
    logits[1] = -1000.0
    assert shown(EAFT(), logits, 5)[0] == pytest.approx(0.0, abs=1e-9)
    assert shown(EAFT(), torch.zeros(40, dtype=torch.float64), 3)[0] == pytest.approx(math.log(40), abs=1e-12)
    assert PAPER == TOP == 20


def test_eaft_of_power_0_is_sft() -> None:
    from support.scenes import demonstrations

    scene = demonstrations(4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(gradient(EAFT(power=0.0), scene), gradient(SFT(), scene), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("objective", [DFT(), EAFT()], ids=lambda o: o.kind)
def test_dft_and_eaft_learn_what_is_shown(objective: DFT | EAFT) -> None:
    logits = torch.zeros(4, dtype=torch.float64)
    for _ in range(200):
        logits = logits - 2.0 * shown(objective, logits, 2)[1]
    assert logits.softmax(0)[2] > 0.95
    assert DFT().data_kind == EAFT().data_kind == "demonstrations"


def test_beta_dpo_by_hand() -> None:
    """β_batch = 0.2 and h = 5: −log σ(1) = 0.31326169; reward of chosen 0.2·3, of rejected 0.2·(−2)."""
    sides = branch(Role.CHOSEN, even(-6.0, 2)), branch(Role.REJECTED, even(-4.0, 2))
    rows = [group("0", *(b.with_columns({"batch_beta": 0.2}) for b in sides))]
    loss, grad_B, _ = evaluate(BetaDPO(beta=0.1), (rows, [[even(-3.0, 2), even(-6.0, 2)]]))
    assert whole(loss).item() == pytest.approx(math.log1p(math.exp(-1.0)), abs=1e-12)
    slope = 0.2 / (1 + math.e)
    assert grad_B.tolist() == pytest.approx([-slope, slope])
    assert loss.metrics["chosen_reward"].value.item() == pytest.approx(0.6)
    assert loss.metrics["batch_beta"].value.item() == 0.2


def test_beta_dpo_with_one_beta_is_dpo() -> None:
    scene = preferences(4, torch.Generator().manual_seed(1))
    flat = [g.with_columns([{"batch_beta": 0.1}] * 2) for g in scene[0]], scene[1]
    assert torch.equal(gradient(BetaDPO(), flat), gradient(DPO(), scene))


def test_a_table_learns_by_beta_dpo() -> None:
    theta = torch.tensor([0.0, 0.5, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    ref_Y = theta.detach().log_softmax(0)
    sides = branch(Role.CHOSEN, ref_Y[:1], {"batch_beta": 0.3}), branch(Role.REJECTED, ref_Y[1:2], {"batch_beta": 0.3})
    batch = Batch.of([group("0", *sides)])
    optimizer = torch.optim.SGD([theta], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        BetaDPO()(Outputs(theta.log_softmax(0)[:2]), batch).terms["beta_dpo"].value.sum().backward()
        optimizer.step()
    gain_Y = (theta.log_softmax(0) - ref_Y).detach()
    assert gain_Y[0] - gain_Y[1] > 1.0
