"""Plackett–Luce DPO: golden vectors, DPO at two completions, and a table of logits that learns an order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from support.scenes import Scene, branch, even, gradient, group, near, outputs, preferences, rankings
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import DPO, PlackettLuce
from twofold.objectives.base import Loss


def ranked(*rows: Sequence[float], length: int = 2) -> Scene:
    """Rankings by their completions' log-ratios, best first, over a reference of −3 nats."""
    groups = [group(f"{i}", *(branch(Role.RANKED, even(-3.0, length)) for _ in row)) for i, row in enumerate(rows)]
    return groups, [[even(x - 3.0, length) for x in row] for row in rows]


def evaluate(objective: PlackettLuce, scene: Scene) -> Loss:
    return objective(outputs(scene[1]), Batch.of(scene[0]))


def test_of_three() -> None:
    case, want = given("pl.dpo_k3"), expected("pl.dpo_k3")
    scene = ranked([case["logratios"][i] for i in case["ranking"]])
    loss = evaluate(PlackettLuce(beta=case["beta"]), scene)
    assert loss.terms["plackett_luce"].value.tolist() == near([want["loss"]])
    found = gradient(PlackettLuce(beta=case["beta"]), scene)[0::2]
    assert found.tolist() == near([want["grad_logp"][i] for i in case["ranking"]])
    assert found.sum().item() == pytest.approx(0, abs=1e-16)


def test_of_two() -> None:
    case, want = given("pl.k2_equals_dpo"), expected("pl.k2_equals_dpo")
    loss = evaluate(PlackettLuce(beta=case["beta"]), ranked([case["logratios"][i] for i in case["ranking"]]))
    assert loss.terms["plackett_luce"].value.tolist() == near([want["loss"]])


def test_plackett_luce_by_hand() -> None:
    """Rewards of ln 3, ln 2 and 0 at β = 1: e^r = 3, 2 and 1, so best first has probability 3/6 · 2/3 · 1 = 1/3, its
    reverse 1/6 · 2/5 · 1 = 1/15; the gradient by the best reward is 3/6 − 1 = −1/2."""
    r = [math.log(3), math.log(2), 0.0]
    loss = evaluate(PlackettLuce(beta=1.0), ranked(r, r[::-1]))
    assert loss.terms["plackett_luce"].value.tolist() == near([math.log(3), math.log(15)])
    assert gradient(PlackettLuce(beta=1.0), ranked(r))[0].item() == near(-0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_completions_are_dpo_to_the_bit(dtype: torch.dtype) -> None:
    pairs = preferences(20, torch.Generator().manual_seed(3))
    both = [group(g.name, *(branch(Role.RANKED, b.token_columns["ref_logp"]) for b in g.branches)) for g in pairs[0]]
    said = outputs(pairs[1], dtype)
    mine = PlackettLuce(beta=0.7)(said, Batch.of(both))
    theirs = DPO(beta=0.7)(said, Batch.of(pairs[0]))
    a, b = mine.terms["plackett_luce"].value, theirs.terms["dpo"].value
    assert torch.equal(a, b)
    assert torch.equal(*(torch.autograd.grad(x.sum(), said.logp_S, retain_graph=True)[0] for x in (a, b)))
    for ours, dpos in {"accuracy": "accuracy", "margin": "margin", "best_logp": "chosen_logp"}.items():
        assert torch.equal(mine.metrics[ours].value, theirs.metrics[dpos].value)


def test_a_constant_of_the_prompt_changes_nothing() -> None:
    groups, logps = rankings(6, torch.Generator().manual_seed(0))
    raised = [[x - 1.5 / len(x) for x in row] for row in logps]
    before, after = (evaluate(PlackettLuce(beta=1.0), (groups, x)).terms["plackett_luce"] for x in (logps, raised))
    torch.testing.assert_close(before.value, after.value, rtol=1e-12, atol=1e-13)


def test_metrics_compare_the_order_of_rewards_with_the_ranking() -> None:
    """Right throughout; one of three pairs wrong; all four tied, which is not right."""
    metrics = evaluate(PlackettLuce(beta=0.5), ranked([4.0, 2.0, 0.0], [4.0, 0.0, 2.0], [1.0] * 4)).metrics
    found = {name: term.value.tolist() for name, term in metrics.items()}
    assert found["accuracy"] == [1, 0, 0]
    assert found["kendall_tau"] == near([1, 1 / 3, 0])
    assert found["margin"] == near([2, 1, 0])
    assert (found["best_reward"], found["worst_reward"]) == (near([2, 2, 0.5]), near([0, 1, 0.5]))
    assert found["best_logp"] == near([1, 1, -2])
    assert found["worst_length"] == [2, 2, 2]


def test_a_ranking_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        evaluate(PlackettLuce(), ranked([1.0, 0.0], [1.0]))
    with pytest.raises(ValueError, match="beta must be > 0"):
        PlackettLuce(beta=0.0)


def test_a_table_learns_the_order() -> None:
    """Of five answers, four are ranked 3 > 1 > 0 > 2: in the end their rewards stand in that order."""
    theta = torch.tensor([0.0, 0.5, 1.0, -1.0, 0.3], dtype=torch.float64, requires_grad=True)
    ref_Y, order = theta.detach().log_softmax(0), [3, 1, 0, 2]
    batch = Batch.of([group("0", *(branch(Role.RANKED, ref_Y[i : i + 1]) for i in order))])
    optimizer = torch.optim.Adam([theta], lr=0.05)

    def loss() -> Tensor:
        return PlackettLuce(beta=1.0)(Outputs(theta.log_softmax(0)[order]), batch).terms["plackett_luce"].value.sum()

    begun = loss().item()
    for _ in range(100):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    gain_Y = (theta.log_softmax(0) - ref_Y).detach()[order]
    assert begun == near(math.log(24))
    assert (gain_Y[:-1] - gain_Y[1:]).min().item() > 1
    assert loss().item() < 0.5
