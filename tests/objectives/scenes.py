"""Batches and outputs for objectives, built directly: of given sums, or at random for any member of the union."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.objectives import DPO, SFT, PDPOGenerator
from twofold.objectives.base import Loss, Objective

Scene = tuple[list[Group], list[list[Tensor]]]
"""Groups with every column, and per group and branch the log-probabilities [n]."""


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
    """A leaf that holds every branch's log-probabilities."""
    return Outputs(torch.cat([x for row in logps for x in row]).to(dtype).requires_grad_())


def total(loss: Loss, whole: Batch) -> Tensor:
    """What the step minimises: each term's sum over the count of its unit in the whole round, weighted."""
    return torch.stack([t.value.sum() * (t.weight / whole.count(t.unit)) for t in loss.terms.values()]).sum()


def gradient(
    objective: Objective, scene: Scene, whole: Batch | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """d total / d log π [S]."""
    said, batch = outputs(scene[1], dtype), Batch.of(scene[0])
    total(objective(said, batch), whole or batch).backward()
    assert said.logp_S.grad is not None
    return said.logp_S.grad


def _random(role: Role, noise: torch.Generator, columns: Mapping[str, float] | None = None) -> tuple[Branch, Tensor]:
    n = int(torch.randint(1, 6, (), generator=noise))
    logp, ref = (-3 * torch.rand(n, generator=noise, dtype=torch.float64) for _ in range(2))
    return branch(role, ref, columns), logp


def demonstrations(count: int, noise: torch.Generator) -> Scene:
    made = [[_random(Role.DEMONSTRATION, noise)] for _ in range(count)]
    return _scene(made)


def preferences(count: int, noise: torch.Generator) -> Scene:
    made = [[_random(Role.CHOSEN, noise), _random(Role.REJECTED, noise)] for _ in range(count)]
    return _scene(made)


def drafts(count: int, noise: torch.Generator) -> Scene:
    """One to three drafts per problem, about half of them below the ground truth's reward."""
    made = []
    for _ in range(count):
        truth = {"truth_logratio": float(torch.randn((), generator=noise)), "truth_length": 4.0}
        made.append([_random(Role.DRAFT, noise, truth) for _ in range(int(torch.randint(1, 4, (), generator=noise)))])
    return _scene(made)


def _scene(made: list[list[tuple[Branch, Tensor]]]) -> Scene:
    groups = [group(f"row {i}", *(b for b, _ in row)) for i, row in enumerate(made)]
    return groups, [[logp for _, logp in row] for row in made]


SCENES: dict[type, Callable[[int, torch.Generator], Scene]] = {
    SFT: demonstrations,
    DPO: preferences,
    PDPOGenerator: drafts,
}

VARIANTS: dict[type, list[Objective]] = {
    SFT: [SFT(), SFT(average="completion")],
    DPO: [DPO(), DPO(beta=1.5)],
    PDPOGenerator: [
        PDPOGenerator(),
        PDPOGenerator(form="unhinged"),
        PDPOGenerator(form="softplus"),
        PDPOGenerator(form="squared_hinge", per_token=True, beta=2.0),
    ],
}
"""The settings of each objective that tests over the union go through."""
