"""TPO: a value by hand, TRL's record (tests/parity/trl_tpo.json, written by record_tpo.py), a table that learns.

beta is β, tpo_alpha our nll, tpo_l_gamma γ, tpo-l our logp=mean. TRL averages the likelihood of gold over the tokens of
a batch, where here each completion's mean counts once, as in every method that adds a likelihood.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.scenes import TRIPLE, Scene, branch, evaluate, gradient, group, near, preferences, spread, whole
from twofold.batch import Batch, Outputs
from twofold.objectives import CPO, IPO, TPO, SimPO, SLiC
from twofold.objectives.base import Objective

RECORD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "parity" / "trl_tpo.json").read_text(encoding="utf-8"))


def scene(logps: list[list[Tensor]]) -> Scene:
    return [group(f"{i}", *map(branch, TRIPLE, row)) for i, row in enumerate(logps)], logps


def recorded() -> Scene:
    return scene([[torch.tensor(x, dtype=torch.float64) for x in row] for row in RECORD["inputs"]["policy"]])


def test_tpo_by_hand() -> None:
    """β = ½. log π of −4 and −4 − 2·ln 3 make a margin of ln 3: −log σ(ln 3) = ln(4/3); gold of −6 over three tokens
    adds 0.7·2 = 1.4. A nat more of either side is worth σ(−ln 3)/2 = 1/8, a token of gold 0.7/3."""
    made = scene([[spread(-4.0, 2), spread(-4.0 - 2 * math.log(3), 4), spread(-6.0, 3)]])
    loss, grad_B, _ = evaluate(TPO(beta=0.5, nll=0.7), made)
    assert whole(loss).tolist() == near([math.log(4 / 3) + 1.4])
    assert grad_B.tolist() == near([-1 / 8, 1 / 8, -0.7 / 3])


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (TPO(beta=0.1, nll=0.7), "sigmoid"),
        (TPO(beta=2.0, nll=0.7, logp="mean", gamma=0.5), "tpo-l"),
    ],
)
def test_losses_and_gradients_are_trls_but_for_whose_mean_gold_is(objective: TPO, name: str) -> None:
    assert RECORD["versions"]["trl"] == "1.16.0"
    made = recorded()
    gold = [row[2] for row in made[1]]
    theirs, ours = -torch.cat(gold).mean().item(), -sum(x.mean().item() for x in gold) / len(gold)
    assert abs(theirs - ours) > 0.01
    value = whole(evaluate(objective, made, even=False)[0]).mean().item()
    assert value + 0.7 * (theirs - ours) == pytest.approx(RECORD["runs"][name]["loss"], rel=1e-9)
    found = gradient(objective, made).split([len(x) for row in made[1] for x in row])
    want = [torch.tensor(x, dtype=torch.float64) for row in RECORD["runs"][name]["gradient"] for x in row]
    total = sum(len(x) for x in gold)
    for i, (mine, its) in enumerate(zip(found, want, strict=True)):
        undone = mine * (len(gold) * len(mine) / total) if i % 3 == 2 else mine
        torch.testing.assert_close(undone, its, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "objective", "scale"),
    [
        ("hinge", SLiC(delta=10.0, lam=0.0), 0.1),
        ("ipo", IPO(tau=0.1, logratio="mean", reference_free=True), 1.0),
    ],
)
def test_its_other_losses_are_those_of_other_papers_beside_gold(name: str, objective: Objective, scale: float) -> None:
    groups, logps = recorded()
    gold = torch.cat([row[2] for row in logps])
    pairs = [group(g.name, *g.branches[:2]) for g in groups], [row[:2] for row in logps]
    value = scale * whole(evaluate(objective, pairs, even=False)[0]).mean().item()
    assert value - 0.7 * gold.mean().item() == pytest.approx(RECORD["runs"][name]["loss"], rel=1e-9)


def test_with_chosen_as_gold_it_is_cpo_and_per_token_simpo() -> None:
    groups, logps = preferences(5, torch.Generator().manual_seed(0))
    made = scene([[a, b, a] for a, b in logps])
    value = whole(evaluate(TPO(beta=0.3, nll=0.7), made, even=False)[0])
    torch.testing.assert_close(value, whole(evaluate(CPO(beta=0.3, nll=0.7), (groups, logps), even=False)[0]))
    of_means = evaluate(TPO(beta=2.0, logp="mean", gamma=0.5), made, even=False)[0].terms["tpo"].value
    torch.testing.assert_close(of_means, whole(evaluate(SimPO(beta=2.0, gamma=0.5), (groups, logps), even=False)[0]))


def test_what_is_told_of_gold() -> None:
    loss, _, batch = evaluate(TPO(), recorded(), even=False)
    assert loss.metrics["gold_length"].value.tolist() == [3, 4, 1, 2]
    gold = [row[2].sum().item() for row in recorded()[1]]
    assert loss.metrics["gold_logp"].value.tolist() == near(gold)
    assert batch.count("pair") == 4


def test_what_it_cannot_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="needs one gold branch"):
        evaluate(TPO(), preferences(2, torch.Generator().manual_seed(0)), even=False)
    for wrong, message in (({"beta": 0.0}, "beta"), ({"nll": 0.0}, "without gold"), ({"gamma": -1.0}, "gamma")):
        with pytest.raises(ValueError, match=message):
            TPO(**wrong)


def test_a_table_learns_gold_and_chosen_over_rejected() -> None:
    """Of four answers the first is chosen, the second rejected, the third gold."""
    theta = torch.tensor([0.0, 0.5, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    start_Y = theta.detach().log_softmax(0)
    batch = Batch.of([group("0", *(branch(role, start_Y[i : i + 1]) for i, role in enumerate(TRIPLE)))])
    optimizer = torch.optim.SGD([theta], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        whole(TPO(beta=1.0)(Outputs(theta.log_softmax(0)[:3]), batch)).sum().backward()
        optimizer.step()
    gain_Y = (theta.log_softmax(0) - start_Y).detach()
    assert gain_Y[2] > 0.7
    assert gain_Y[0] - gain_Y[1] > 2
