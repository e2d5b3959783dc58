"""What each method costs as it comes: on two pairs, by its paper's formula and the settings that a newcomer gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import get_args

import pytest
import torch

from support.reward_scenes import scored
from support.scenes import branch, evaluate, even, group, near, outputs, pairs, total, whole
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import (
    AOT,
    BCO,
    CPO,
    DPO,
    DPOP,
    EXO,
    FDPO,
    GRPO,
    IPO,
    KTO,
    LDDPO,
    LNDPO,
    NCA,
    NCAK,
    ORPO,
    PPO,
    RLOO,
    RPO,
    RSO,
    SFT,
    SPPO,
    TPO,
    WPO,
    AlphaPO,
    AnchoredPO,
    BCOPair,
    BradleyTerry,
    CalDPO,
    DiscoPOP,
    DPOShift,
    InfoNCA,
    OnPairs,
    PDPOGenerator,
    PlackettLuce,
    Reinforce,
    RewardPlackettLuce,
    RobustDPO,
    SimPO,
    SLiC,
    Unlikelihood,
)
from twofold.objectives.base import Objective
from twofold.objectives.ppo import ValueRegression


@dataclass(frozen=True)
class Pair:
    """log π and the log-ratio of chosen (w) and rejected (l), and their lengths."""

    w: float
    l: float  # noqa: E741  # the papers' name
    w_ratio: float
    l_ratio: float
    w_len: int
    l_len: int

    @property
    def h(self) -> float:
        return self.w_ratio - self.l_ratio

    @property
    def w_mean(self) -> float:
        return self.w / self.w_len

    @property
    def l_mean(self) -> float:
        return self.l / self.l_len


TWO = [Pair(-3.0, -8.0, 1.0, -2.0, 2, 4), Pair(-4.0, -4.5, -0.25, 0.5, 4, 2)]
"""One that is in order, and one that is not, whose chosen has fallen and which is close."""


def ls(margin: float) -> float:
    """−log σ."""
    return math.log1p(exp(-margin))


def odds(logp: float) -> float:
    return logp - log(1 - exp(logp))


def alpha_reward(mean: float) -> float:
    return 2.0 * (1 - exp(mean) ** -0.25) / 0.25


def exo(p: float) -> float:
    return p * log(p / 0.999) + (1 - p) * log((1 - p) / 0.001)


def disco(margin: float) -> float:
    share = 1 / (1 + exp(-margin / 0.05))
    return (1 - share) * ls(margin) + share * exp(-margin)


COSTS: dict[type, Callable[[Pair], float]] = {
    DPO: lambda p: ls(0.1 * p.h),
    RobustDPO: lambda p: (0.9 * ls(0.1 * p.h) - 0.1 * ls(-0.1 * p.h)) / 0.8,
    RSO: lambda p: max(0.0, 1 - 0.05 * p.h),
    IPO: lambda p: (p.h - 5) ** 2,
    FDPO: lambda p: ls(0.1 * (ls(p.l_ratio) - ls(p.w_ratio))),
    LNDPO: lambda p: ls(5 * (p.w_ratio / p.w_len - p.l_ratio / p.l_len)),
    LDDPO: lambda p: ls(0.1 * (p.w_ratio * (1 if p.w_len == 2 else 0.75) - p.l_ratio * (1 if p.l_len == 2 else 0.75))),
    DPOShift: lambda p: ls(0.1 * p.w_ratio - 0.9 * 0.1 * p.l_ratio),
    DPOP: lambda p: ls(0.3 * (p.h - 50 * max(0.0, -p.w_ratio))),
    CalDPO: lambda p: ls(p.h) + 0.5 * ((p.w_ratio - 500) ** 2 + (p.l_ratio + 500) ** 2),
    RPO: lambda p: ls(0.01 * p.h) - 0.005 * p.w,
    EXO: lambda p: exo(1 / (1 + exp(-0.1 * p.h))),
    NCA: lambda p: ls(0.01 * p.w_ratio) + ls(-0.01 * p.w_ratio) / 2 + ls(-0.01 * p.l_ratio) / 2,
    BCOPair: lambda p: ls(0.1 * p.w_ratio) + ls(-0.1 * p.l_ratio),
    AnchoredPO: lambda p: 1 / (1 + exp(0.1 * p.w_ratio)) + 1 / (1 + exp(-0.1 * p.l_ratio)),
    SPPO: lambda p: (p.w_ratio - 500) ** 2 + (p.l_ratio + 500) ** 2,
    DiscoPOP: lambda p: disco(0.05 * p.h),
    WPO: lambda p: exp(p.w_mean / 2 + p.l_mean / 2) * ls(0.1 * p.h),  # log Σ π² is half of log π here
    SLiC: lambda p: max(0.0, 1 - p.w + p.l) - 0.5 * p.w,
    SimPO: lambda p: ls(2 * (p.w_mean - p.l_mean) - 1),
    AlphaPO: lambda p: ls(alpha_reward(p.w_mean) - alpha_reward(p.l_mean) - 1),
    ORPO: lambda p: -p.w_mean + 0.1 * ls(odds(p.w_mean) - odds(p.l_mean)),
    CPO: lambda p: ls(0.1 * (p.w - p.l)) - p.w_mean,
    Unlikelihood: lambda p: -p.w + 0.1 * p.l,
}


def scene(rows: list[Pair]) -> tuple[list, list]:
    """Equal tokens, so that half of a completion is half of its log-ratio."""
    groups = [
        group(
            f"{i}",
            branch(Role.CHOSEN, even(p.w - p.w_ratio, p.w_len)),
            branch(Role.REJECTED, even(p.l - p.l_ratio, p.l_len)),
        )
        for i, p in enumerate(rows)
    ]
    return groups, [[even(p.w, p.w_len), even(p.l, p.l_len)] for p in rows]


@pytest.mark.parametrize("member", COSTS)
def test_what_a_pair_costs(member: type[Objective]) -> None:
    loss = member()(outputs(scene(TWO)[1]), Batch.of(scene(TWO)[0]))
    assert whole(loss).tolist() == pytest.approx([COSTS[member](p) for p in TWO], rel=1e-12)


def test_every_method_on_pairs_has_its_cost_here() -> None:
    """AOT compares quantiles: each pair's own costs are not its own."""
    assert set(COSTS) == {*get_args(OnPairs)} - {AOT}


def test_optimal_transport_as_it_comes() -> None:
    """Paired: under the policy 5 and 0.5, under the reference 2 and 1.25; sorted they lead by 3 and by −0.75."""
    loss = AOT()(outputs(scene(TWO)[1]), Batch.of(scene(TWO)[0]))
    assert whole(loss).tolist() == near([ls(0.1 * 3.0), ls(0.1 * -0.75)])


def test_triples_as_they_come() -> None:
    logps = [even(-3.0, 2), even(-8.0, 4), even(-6.0, 3)]
    roles = Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION
    made = [group("0", *map(branch, roles, logps))], [logps]
    assert whole(TPO()(outputs(made[1]), Batch.of(made[0]))).tolist() == near([ls(0.01 * 5.0) + 2.0])


def test_rankings_as_they_come() -> None:
    """Log-ratios of 2, 1 and 0, scores of 0.4, 0.3 and −1: temperature 1, β 0.1 or 0.01."""
    ratios, scores = [2.0, 1.0, 0.0], [0.4, 0.3, -1.0]
    made = [group("0", *(branch(Role.RANKED, even(-3.0, 2), {"score": s}) for s in scores))]
    said, batch = outputs([[even(x - 3.0, 2) for x in ratios]]), Batch.of(made)
    share = [exp(s) / sum(map(exp, scores)) for s in scores]
    contest = [-log(exp(0.1 * r) / sum(exp(0.1 * x) for x in ratios[i:])) for i, r in enumerate(ratios)]
    soft = [exp(0.01 * r) / sum(exp(0.01 * x) for x in ratios) for r in ratios]
    noise = [p * ls(0.01 * r) + ls(-0.01 * r) / 3 for p, r in zip(share, ratios, strict=True)]
    assert whole(PlackettLuce()(said, batch)).tolist() == near([sum(contest)])
    assert whole(InfoNCA()(said, batch)).tolist() == near([-sum(p * log(q) for p, q in zip(share, soft, strict=True))])
    assert whole(NCAK()(said, batch)).tolist() == near([sum(noise)])


def test_labels_as_they_come() -> None:
    """Log-ratios of 2 and −1 beside a point of reference of ½."""
    labels = Role.DESIRABLE, Role.UNDESIRABLE
    made = [group(f"{i}", branch(role, even(-3.0, 2), {"z0": 0.5, "delta": 0.5})) for i, role in enumerate(labels)]
    said, batch = outputs([[even(-1.0, 2)], [even(-4.0, 2)]]), Batch.of(made)
    gains = [0.1 * (2 - 0.5), 0.1 * (0.5 + 1)]
    assert whole(KTO()(said, batch)).tolist() == near([1 / (1 + exp(g)) for g in gains])
    assert whole(BCO()(said, batch)).tolist() == near([ls(g) for g in gains])
    assert BCO().shift_decay == 0.9  # read by its provider: `test_bco_shift.py` has what it does


def test_demonstrations_as_they_come() -> None:
    made = [group("0", branch(Role.DEMONSTRATION, even(0.0, 2))), group("1", branch(Role.DEMONSTRATION, even(0.0, 1)))]
    loss, _, batch = evaluate(SFT(), (made, [[even(-4.0, 2)], [even(-1.0, 1)]]))
    assert total(loss, batch).item() == near(5 / 3)  # over three tokens, not over two completions


def test_scores_as_they_come() -> None:
    """Neither a margin nor a pull to 0."""
    made = scored([3.0, 1.0])
    said, batch = Outputs(score_B=torch.tensor([3.0, 1.0]).double()), Batch.of(made[0])
    for objective in (BradleyTerry(), RewardPlackettLuce()):
        loss = objective(said, batch)
        assert whole(loss).tolist() == near([ls(2.0)])
        assert len(loss.terms) == 1


def rollout(*rows: tuple[float, float, float, int]) -> tuple[list, list]:
    """Completions of a prompt by their log π, log-ratios to the old policy and the reference, and their tokens; the
    first is worth 1, the second −1."""
    branches, logps = [], []
    for i, (logp, moved, apart, length) in enumerate(rows):
        drawn = branch(Role.DRAFT, even(logp - apart, length), {"advantage": 1.0 - 2.0 * i})
        branches.append(drawn.with_columns({"old_logp": even(logp - moved, length)}))
        logps.append(even(logp, length))
    return [group("0", *branches)], [logps]


def test_rollouts_as_they_come() -> None:
    """Two tokens whose ratio is e^½ against a clip of 1.2, and one whose ratio is e^−½ against 0.8."""
    made = rollout((-4.0, 1.0, 2.0, 2), (-1.0, -0.5, 1.0, 1))
    ppo, _, batch = evaluate(PPO(), made)
    assert ppo.terms["ppo"].value.tolist() == near([-1.2, -1.2, 0.8])
    assert total(ppo, batch).item() == near(-1.6 / 3)
    grpo, _, _ = evaluate(GRPO(), made)
    assert grpo.terms["grpo"].value.tolist() == near([-1.2, 0.8])
    assert grpo.terms["kl"].value.tolist() == near([exp(-1.0)] * 2)  # k3 of 1 a token: 1/e − 1 + 1
    assert (grpo.terms["grpo"].unit, grpo.terms["kl"].weight) == ("branch", 0.04)
    assert whole(evaluate(RLOO(), made)[0]).tolist() == near([4.0, -1.0])
    assert whole(evaluate(Reinforce(), made)[0]).tolist() == near([4.0, -1.0])
    shapes = [o.comparison for o in (PPO(), GRPO(), RLOO(), Reinforce())]
    assert shapes == [(None, "rollout"), ("group", "group"), ("leave_one_out", "none"), ("rollout", "none")]


def test_drafts_as_they_come() -> None:
    """Gaps 0.1·(5 − 1) and 0.1·(5 − 7), no gate, no margin, no KL, per completion."""
    truth = {"truth_logratio": 5.0}
    made = [group("0", branch(Role.DRAFT, even(-21.0, 2), truth), branch(Role.DRAFT, even(-27.0, 4), truth))]
    loss, _, _ = evaluate(PDPOGenerator(), (made, [[even(-20.0, 2), even(-20.0, 4)]]))
    assert (list(loss.terms), loss.terms["pdpo"].value.tolist()) == (["pdpo"], near([0.4, 0.0]))


def test_a_value_model_as_it_comes() -> None:
    """½·max((v − R)², (v_old ± 0.2 − R)²): from 0 to 1 towards 3 it is 0.2 that counts, ½·2.8²; away from it 1 does."""
    branches = branch(Role.DRAFT, even(0.0, 2)).with_columns(
        {"old_value": torch.zeros(2), "return": torch.tensor([3.0, -3.0])}
    )
    said, batch = Outputs(value_S=torch.tensor([1.0, 1.0])), Batch.of([group("0", branches)])
    loss = ValueRegression()(said, batch)
    assert loss.terms["value"].value.tolist() == pytest.approx([0.5 * 2.8**2, 0.5 * 16])
    assert loss.metrics["value_clipped"].value.tolist() == [1.0, 0.0]
    assert ValueRegression(clip=None)(said, batch).terms["value"].value.tolist() == [2.0, 8.0]
    assert ValueRegression(clip=2.0)(said, batch).metrics["value_clipped"].value.tolist() == [0.0, 0.0]


def test_a_rejected_token_of_probability_1_costs_the_floor() -> None:
    made = pairs({"logp_w": [-2.0], "logp_l": [0.0], "len_w": [1], "len_l": [1]})
    assert whole(evaluate(Unlikelihood(form="token"), made)[0]).tolist() == near([2.0 - 0.1 * log(1e-5)])
    assert whole(evaluate(Unlikelihood(form="token", floor=0.5), made)[0]).tolist() == near([2.0 + 0.1 * log(2)])


def test_a_divergence_as_it_comes() -> None:
    """Between forward and reverse KL, α is ½: f' is −2·u^(−½)."""
    made = scene(TWO[:1])
    margin = 0.1 * (-2 * exp(-0.5) + 2 * exp(1.0))
    assert whole(evaluate(FDPO(divergence="alpha"), made)[0]).tolist() == near([ls(margin)])
