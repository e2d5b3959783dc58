"""InfoNCA and NCA on K scored completions: golden vectors, DPO and NCA at two, and a table that learns from scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from support.scenes import Scene, branch, even, gradient, group, near, outputs, preferences, rankings
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import DPO, NCA, NCAK, InfoNCA
from twofold.objectives.base import Objective

BOTH = pytest.mark.parametrize("member", [InfoNCA, NCAK])


def scored(*rows: Sequence[tuple[float, float]]) -> Scene:
    """Rankings by the score and the log-ratio of their completions, best first."""
    groups = [
        group(f"{i}", *(branch(Role.RANKED, even(-3.0, 2), {"score": s}) for s, _ in row)) for i, row in enumerate(rows)
    ]
    return groups, [[even(x - 3.0, 2) for _, x in row] for row in rows]


def values(objective: Objective, scene: Scene) -> list[float]:
    (term,) = objective(outputs(scene[1]), Batch.of(scene[0])).terms.values()
    return term.value.tolist()


@pytest.mark.parametrize(("name", "member"), [("dpo.infonca_k3", InfoNCA), ("dpo.nca_k3", NCAK)])
def test_of_three(name: str, member: type[InfoNCA | NCAK]) -> None:
    case, want = given(name), expected(name)
    row = sorted(zip(case["rewards"], case["logratios"], strict=True), reverse=True)
    assert values(member(beta=case["beta"], alpha=case["alpha"]), scored(row)) == near([want["loss"]])


def test_infonca_by_hand() -> None:
    """Scores of ln 3, ln 2 and 0 at α = 1 make labels of 3/6, 2/6 and 1/6; rewards of ln 2, ln 2 and 0 say 2/5, 2/5 and
    1/5: the loss is −(5/6)·ln(2/5) − (1/6)·ln(1/5) = ln 5 − (5/6)·ln 2, its gradient by the best reward 2/5 − 3/6. At
    α = 0 the best alone is the label: ln(5/2)."""
    scene = scored([(math.log(3), math.log(2)), (math.log(2), math.log(2)), (0.0, 0.0)])
    assert values(InfoNCA(beta=1.0), scene) == near([math.log(5) - 5 / 6 * math.log(2)])
    assert gradient(InfoNCA(beta=1.0), scene)[0::2].tolist() == near([-0.1, 2 / 5 - 2 / 6, 1 / 5 - 1 / 6])
    assert values(InfoNCA(beta=1.0, alpha=0.0), scene) == near([math.log(5 / 2)])


def test_nca_k_by_hand() -> None:
    """Scores of ln 3 and 0 make labels of 3/4 and 1/4; rewards of ln 2 and 0 have σ of 2/3 and 1/2: the loss is
    ¾·ln(3/2) + ¼·ln 2 + ½·ln 3 + ½·ln 2 = (5/4)·ln 3, its gradient by the best reward −¾·⅓ + ½·⅔ = 1/12: noise is
    pushed back harder than this label pulls."""
    scene = scored([(math.log(3), math.log(2)), (0.0, 0.0)])
    assert values(NCAK(beta=1.0), scene) == near([5 / 4 * math.log(3)])
    assert gradient(NCAK(beta=1.0), scene)[0].item() == near(1 / 12)


@pytest.mark.parametrize(("member", "on_pairs"), [(InfoNCA, DPO), (NCAK, NCA)])
def test_two_completions_and_a_sure_label_are_the_loss_on_pairs(
    member: type[InfoNCA | NCAK], on_pairs: type[DPO | NCA]
) -> None:
    """At α = 0, and as α goes there with scores that differ by 1."""
    pairs = preferences(20, torch.Generator().manual_seed(3))
    both = [
        group(
            g.name,
            *(branch(Role.RANKED, b.token_columns["ref_logp"], {"score": 1.0 - i}) for i, b in enumerate(g.branches)),
        )
        for g in pairs[0]
    ]
    for alpha in (0.0, 0.01):
        one, other = member(beta=0.7, alpha=alpha), on_pairs(beta=0.7)
        assert values(one, (both, pairs[1])) == pytest.approx(values(other, pairs), rel=1e-12)
        torch.testing.assert_close(gradient(one, (both, pairs[1])), gradient(other, pairs), rtol=1e-12, atol=1e-15)


def test_a_constant_of_the_prompt_is_seen_by_nca_alone() -> None:
    groups, logps = rankings(6, torch.Generator().manual_seed(0))
    raised = [[x - 1.5 / len(x) for x in row] for row in logps]
    for member, seen in ((InfoNCA, False), (NCAK, True)):
        before, after = (torch.tensor(values(member(beta=1.0), (groups, x))) for x in (logps, raised))
        assert ((before - after).abs().max().item() > 1e-3) == seen


@BOTH
def test_scores_are_asked_for_where_they_count(member: type[InfoNCA | NCAK]) -> None:
    assert member().requires == ("ref_logp", "score")
    assert member(alpha=0.0).requires == ("ref_logp",)
    for wrong, message in (({"beta": 0.0}, "beta must be > 0"), ({"alpha": -1.0}, "alpha must be ≥ 0")):
        with pytest.raises(ValueError, match=message):
            member(**wrong)
    with pytest.raises(ValueError, match="two or more"):
        values(member(), scored([(0.0, 0.0)]))


@BOTH
def test_a_table_learns_the_scores(member: type[InfoNCA | NCAK]) -> None:
    """Four answers, all of them scored. InfoNCA ends at π ∝ π_ref·e^{s/αβ}: rewards less their mean are scores less
    theirs. NCA raises the best and lowers the worst."""
    theta = torch.tensor([0.0, 0.5, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    ref_Y, order, scores = theta.detach().log_softmax(0), [3, 1, 0, 2], [2.0, 1.0, 1.0, 0.0]
    branches = (branch(Role.RANKED, ref_Y[i : i + 1], {"score": s}) for i, s in zip(order, scores, strict=True))
    batch, optimizer = Batch.of([group("0", *branches)]), torch.optim.Adam([theta], lr=0.05)

    def loss() -> Tensor:
        (term,) = member(beta=1.0)(Outputs(theta.log_softmax(0)[order]), batch).terms.values()
        return term.value.sum()

    for _ in range(400):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    gain = (theta.log_softmax(0) - ref_Y).detach()[order]
    if member is InfoNCA:
        assert (gain - gain.mean()).tolist() == pytest.approx([1.0, 0.0, 0.0, -1.0], abs=1e-3)
    assert gain.argmax().item() == 0
    assert gain[0] > 0.3
    assert gain.argmin().item() == 3
    assert gain[3] < -0.3
