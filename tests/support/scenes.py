"""Batches and outputs for objectives, built directly: of given sums, or at random for any member of the union."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from twofold.batch import STEP_LABEL, Batch, Branch, DataKind, Group, Outputs, Role
from twofold.objectives import (
    AOT,
    BCO,
    DPO,
    FDPO,
    GRPO,
    IPO,
    KTO,
    NCAK,
    PPO,
    RLOO,
    RPO,
    SFT,
    SPPO,
    TPO,
    WPO,
    AlphaPO,
    AnchoredPO,
    AnyObjective,
    BradleyTerry,
    InfoNCA,
    PDPOGenerator,
    PlackettLuce,
    SLiC,
    Unlikelihood,
)
from twofold.objectives.base import Loss, Objective
from twofold.objectives.checks import Scene as Scene
from twofold.objectives.checks import gradient as gradient
from twofold.objectives.checks import heard, leaf
from twofold.objectives.checks import total as total

TRIPLE = (Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION)


def spread(total: float, length: int = 3) -> Tensor:
    """`length` unequal parts of `total`."""
    part = torch.arange(1, length + 1, dtype=torch.float64)
    return part / part.sum() * total


def even(total: float, length: int) -> Tensor:
    """`length` equal parts of `total`; exact for lengths that are powers of two."""
    return torch.full((length,), total / length, dtype=torch.float64)


def branch(role: Role, ref_logp: Tensor, columns: Mapping[str, float] | None = None) -> Branch:
    return Branch(torch.zeros(len(ref_logp), dtype=torch.int64), role, {"ref_logp": ref_logp}, dict(columns or {}))


def group(name: str, *branches: Branch) -> Group:
    return Group(name, torch.zeros(1, dtype=torch.int64), branches)


def outputs(logps: Sequence[Sequence[Tensor]], dtype: torch.dtype = torch.float64) -> Outputs:
    """A leaf that holds every branch's log-probabilities, with statistics."""
    return heard(DPO(), leaf(logps, dtype))


def whole(loss: Loss) -> Tensor:
    """The weighted sum of a loss's terms, for each pair."""
    return torch.stack([t.weight * t.value for t in loss.terms.values()]).sum(0)


def evaluate(objective: Objective, scene: Scene, *, even: bool = True) -> tuple[Loss, Tensor, Batch]:
    """The loss, its gradient by each branch's log-probability (one and the same for all tokens of a branch: where not
    `even`, by each token's), and the batch."""
    batch = Batch.of(scene[0])
    grad_S = gradient(objective, scene)
    if even:
        first_B = torch.cumsum(batch.length_B, 0) - batch.length_B
        assert torch.equal(grad_S, grad_S[first_B][batch.branch_S])
        grad_S = grad_S[first_B]
    return objective(outputs(scene[1]), batch), grad_S, batch


def near(values: Sequence[float]) -> Any:
    return pytest.approx(values, abs=1e-9)


def taught(objective: Objective, columns: Mapping[str, float]) -> Tensor:
    """What each of four answers gains in log-probability where the first is labelled good and the second bad."""
    theta = torch.tensor([0.0, 0.5, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    ref_Y = theta.detach().log_softmax(0)
    labels = [(Role.DESIRABLE, ref_Y[:1]), (Role.UNDESIRABLE, ref_Y[1:2])]
    batch = Batch.of([group(role.name, branch(role, ref, columns)) for role, ref in labels])
    optimizer = torch.optim.SGD([theta], lr=0.5)
    for _ in range(150):
        optimizer.zero_grad()
        (term,) = objective(Outputs(theta.log_softmax(0)[:2]), batch).terms.values()
        term.value.sum().backward()
        optimizer.step()
    return (theta.log_softmax(0) - ref_Y).detach()


def _random(role: Role, noise: torch.Generator, columns: Mapping[str, float] | None = None) -> tuple[Branch, Tensor]:
    n = int(torch.randint(1, 6, (), generator=noise))
    logp, ref = (-3 * torch.rand(n, generator=noise, dtype=torch.float64) for _ in range(2))
    return branch(role, ref, columns), logp


def demonstrations(count: int, noise: torch.Generator) -> Scene:
    made = [[_random(Role.DEMONSTRATION, noise)] for _ in range(count)]
    return _scene(made)


def preferences(count: int, noise: torch.Generator) -> Scene:
    """Every completion with its probability to win, which SPPO may ask for, and its row's margin."""
    roles = (Role.CHOSEN, 0.7), (Role.REJECTED, 0.3)
    margins = [0.25 * (1 + i % 3) for i in range(count)]
    return _scene(
        [
            [_random(role, noise, {"win_rate": rate, "margin": m, "batch_beta": 0.2}) for role, rate in roles]
            for m in margins
        ]
    )


def triples(count: int, noise: torch.Generator) -> Scene:
    """Pairs with a gold completion behind the same prompt."""
    return _scene([[_random(role, noise, {"margin": 0.5 + i % 2}) for role in TRIPLE] for i in range(count)])


def rankings(count: int, noise: torch.Generator) -> Scene:
    """Two to five completions each, with scores that fall by one."""
    sizes = torch.randint(2, 6, (count,), generator=noise).tolist()
    return _scene([[_random(Role.RANKED, noise, {"score": float(-i)}) for i in range(size)] for size in sizes])


def scored(count: int, noise: torch.Generator) -> Scene:
    """Two to five scores each, one number a completion, with ties among three or more, and a margin."""
    groups, logps = [], []
    for i, size in enumerate(torch.randint(2, 6, (count,), generator=noise).tolist()):
        margin = float(torch.rand((), generator=noise))
        levels = [0, 0, *range(1, size - 1)] if size > 2 else [0, 1]
        columns = [{"margin": margin, "level": float(level)} for level in levels]
        groups.append(group(f"row {i}", *(branch(Role.RANKED, torch.zeros(1).double(), c) for c in columns)))
        logps.append([torch.randn(1, generator=noise, dtype=torch.float64) for _ in range(size)])
    return groups, logps


def labelled(count: int, noise: torch.Generator) -> Scene:
    """Desirable and undesirable completions by chance, all with one z₀, which is δ as well."""
    z0 = dict.fromkeys(("z0", "delta"), float(torch.rand((), generator=noise)))
    roles = [Role.DESIRABLE if x else Role.UNDESIRABLE for x in torch.randint(2, (count,), generator=noise)]
    return _scene([[_random(role, noise, z0)] for role in roles])


def solutions(count: int, noise: torch.Generator) -> Scene:
    """One solution each, of which every token may end a step that is right, wrong or unrated; at least one is rated."""
    made = []
    for _ in range(count):
        found, values = _random(Role.STEPS, noise)
        label_N = torch.randint(-1, 2, (len(values),), generator=noise).double()
        label_N[0] = label_N[0].abs()
        made.append([(found.with_columns({STEP_LABEL: label_N}), values)])
    return _scene(made)


def drafts(count: int, noise: torch.Generator) -> Scene:
    """Two to four drafts per problem, about half of them below the ground truth's reward, about half of them right;
    each was drawn when the policy was a little different. The ground truth is the last branch."""
    made, apart = [], torch.Generator().manual_seed(noise.initial_seed() + 1)
    for _ in range(count):
        truth = {"truth_logratio": float(torch.randn((), generator=noise)), "truth_length": 4.0}
        row = [_random(Role.DRAFT, noise, truth) for _ in range(int(torch.randint(2, 5, (), generator=noise)))]
        row.append(_random(Role.TRUTH, apart, truth))
        verdicts = [*torch.randint(2, (len(row) - 1,), generator=noise).double().tolist(), 1.0]
        old = [x + 0.05 * torch.randn(len(x), generator=noise, dtype=torch.float64) for _, x in row[:-1]]
        old.append(row[-1][1])
        told = ({"correct": c, "old_logp": o} for c, o in zip(verdicts, old, strict=True))
        made.append([(b.with_columns(columns), x) for (b, x), columns in zip(row, told, strict=True)])
    return _scene(made)


def rollouts(count: int, noise: torch.Generator) -> Scene:
    """Two to four drafts per prompt with advantages of either sign, drawn when the policy was a little different."""
    made = []
    for _ in range(count):
        row = [_random(Role.DRAFT, noise) for _ in range(int(torch.randint(2, 5, (), generator=noise)))]
        advantages = torch.randn(len(row), generator=noise, dtype=torch.float64).tolist()
        old = [x + 0.1 * torch.randn(len(x), generator=noise, dtype=torch.float64) for _, x in row]
        told = ({"advantage": a, "old_logp": o} for a, o in zip(advantages, old, strict=True))
        made.append([(b.with_columns(columns), x) for (b, x), columns in zip(row, told, strict=True)])
    return _scene(made)


def _scene(made: list[list[tuple[Branch, Tensor]]]) -> Scene:
    groups = [group(f"row {i}", *(b for b, _ in row)) for i, row in enumerate(made)]
    return groups, [[logp for _, logp in row] for row in made]


def pairs(case: Mapping[str, Any]) -> Scene:
    """Of a golden vector's sums over completions; lengths are the vector's where it names them."""
    chosen = _numbers(case, "policy_chosen_logps", "logp_w")
    rejected = _numbers(case, "policy_rejected_logps", "logp_l")
    ref_chosen = _numbers(case, "ref_chosen_logps", default=[0.0] * len(chosen))
    ref_rejected = _numbers(case, "ref_rejected_logps", default=[0.0] * len(chosen))
    long = [int(n) for n in _numbers(case, "chosen_len", "len_w", default=[3] * len(chosen))]
    short = [int(n) for n in _numbers(case, "rejected_len", "len_l", default=[2] * len(chosen))]
    groups, logps = [], []
    for i, (n, m) in enumerate(zip(long, short, strict=True)):
        sides = branch(Role.CHOSEN, spread(ref_chosen[i], n)), branch(Role.REJECTED, spread(ref_rejected[i], m))
        groups.append(group(f"{i}", *sides))
        logps.append([spread(chosen[i], n), spread(rejected[i], m)])
    return groups, logps


def _numbers(case: Mapping[str, Any], *names: str, default: list[Any] | None = None) -> list[Any]:
    found = next((case[name] for name in names if name in case), default)
    assert found is not None
    return found if isinstance(found, list) else [found]


PAINTERS: dict[DataKind, Callable[[int, torch.Generator], Scene]] = {
    "demonstrations": demonstrations,
    "pairs": preferences,
    "triples": triples,
    "rankings": rankings,
    "labels": labelled,
    "steps": solutions,
    "prompts": rollouts,
}


def painted(objective: Objective, count: int, noise: torch.Generator) -> Scene:
    """A random scene of what `objective` learns from."""
    if isinstance(objective, PDPOGenerator):
        return drafts(count, noise)
    return (scored if objective.reads == "scores" else PAINTERS[objective.data_kind])(count, noise)


VARIANTS: dict[type, list[Objective]] = {
    **{member: [member()] for member in get_args(AnyObjective)},
    SFT: [SFT(), SFT(average="completion")],
    DPO: [DPO(), DPO(beta=1.5, label_smoothing=0.1, nll=1.0), DPO(reference_free=True), DPO(offset="data")],
    IPO: [IPO(), IPO(logratio="mean"), IPO(reference_free=True, nll=1.0)],
    FDPO: [FDPO(), FDPO(divergence="forward_kl"), FDPO(divergence="alpha", alpha=0.3)],
    RPO: [RPO(), RPO(eta=1.0, likelihood="mean")],
    AOT: [AOT(), AOT(beta=1.0, form="unpaired", label_smoothing=0.1)],
    SLiC: [SLiC(), SLiC(likelihood="mean")],
    AlphaPO: [AlphaPO(), AlphaPO(alpha=-0.5), AlphaPO(alpha=0.0, gamma=0.0)],
    AnchoredPO: [AnchoredPO(), AnchoredPO(anchor="down")],
    SPPO: [SPPO(), SPPO(eta=10.0, probability=0.8), SPPO(eta=10.0, probability="data")],
    WPO: [WPO(), WPO(alignment="greedy"), WPO(alignment="none")],
    Unlikelihood: [Unlikelihood(), Unlikelihood(form="token", alpha=1.0)],
    TPO: [TPO(beta=0.1), TPO(beta=2.0, logp="mean", gamma=0.5, nll=0.2)],
    PlackettLuce: [PlackettLuce(), PlackettLuce(beta=1.5)],
    InfoNCA: [InfoNCA(), InfoNCA(beta=1.0, alpha=0.5), InfoNCA(beta=1.0, alpha=0.0)],
    NCAK: [NCAK(), NCAK(beta=1.0, alpha=0.5), NCAK(beta=1.0, alpha=0.0)],
    BradleyTerry: [BradleyTerry(), BradleyTerry(margin=0.5, centring=0.1), BradleyTerry(margin="data")],
    KTO: [KTO(), KTO(beta=1.0, desirable_weight=1.5, undesirable_weight=0.5), KTO(z0="zero")],
    BCO: [BCO(), BCO(beta=1.0)],
    PPO: [PPO(), PPO(clip=0.05, average="completion"), PPO(entropy=0.3), PPO(entropy=0.1, average="completion")],
    GRPO: [
        GRPO(),
        GRPO(beta=1.0, estimator="k2", average="token", clip_high=0.28),
        GRPO(beta=0.0, average="constant", length=8, scale="none"),
        GRPO(beta=1.0, estimator="k1"),
    ],
    RLOO: [RLOO(), RLOO(clip=0.2)],
    PDPOGenerator: [
        PDPOGenerator(),
        PDPOGenerator(form="unhinged"),
        PDPOGenerator(form="softplus"),
        PDPOGenerator(per_token=True, beta=2.0),
        PDPOGenerator(form="square", margin=0.1),
        PDPOGenerator(direction="down", gate="verifier"),
        PDPOGenerator(clip=0.2),
        PDPOGenerator(baseline="leave_one_out"),
        PDPOGenerator(gate="verifier", baseline="leave_one_out", clip=0.2, beta=2.0),
        PDPOGenerator(gate="judge", kl=0.5),
        PDPOGenerator(gradient_to="truth", margin=0.1),
        PDPOGenerator(gradient_to="both", direction="down", form="softplus", per_token=True),
        PDPOGenerator(gradient_to="both", gate="judge", baseline="leave_one_out", clip=0.2, kl=0.5, beta=2.0),
    ],
}
"""The settings of each objective that tests over the union go through."""
