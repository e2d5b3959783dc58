"""PDPO on tiny models: scripted and sampled drafts, a policy that has left its reference, a world to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from support import tiny
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.algorithms.pdpo import PDPO, PDPOAlgorithm
from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import DPO, SFT
from twofold.sampling.base import Sample, Sampler, Sampling
from twofold.sampling.local import LocalSampler
from twofold.training.column_providers import providers
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

PACKING = Packing(tokens=60)

STOP = frozenset({0})


@dataclass
class Scripted:
    """A sampler that says what it is told to, and remembers what it was asked."""

    drafts: list[list[Sample]]
    asked: list[tuple[list[Tensor], int, tuple[int, int]]] = field(default_factory=list)

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        self.asked.append((list(prompts), samples, seed))
        return [self.drafts[i % len(self.drafts)] for i in range(len(prompts))]


def draft(*tokens: int, truncated: bool = False) -> Sample:
    return Sample(torch.tensor(tokens), torch.zeros(len(tokens)), truncated)


def tasks(count: int, seed: int = 7) -> list[Group]:
    """Problems with a ground truth of three tokens and no branches."""
    made = tiny.groups(*[(3 + i % 3, 3) for i in range(count)], seed=seed)
    return [Group(f"task {i}", g.prompt, (), truth=g.branches[0].tokens) for i, g in enumerate(made)]


def local(policy: Policy, **sampling: Any) -> LocalSampler:
    settings = Sampling(**{"max_new_tokens": 12, **sampling})
    return LocalSampler(policy.model, tiny.tokenizer(), STOP, settings)


def algorithm(settings: PDPO, sampler: Sampler, *, steps: int = 20, count: int = 12) -> PDPOAlgorithm:
    pairs = OfflineAlgorithm(tiny.pairs(10), DPO(beta=0.5), batch_size=4, seed=3, steps=steps, ramps=settings.ramp)
    return PDPOAlgorithm(
        settings=settings,
        pairs=pairs,
        tasks=tasks(count),
        generator=settings.objective(0.5),
        sampler=sampler,
        seed=3,
        steps=steps,
    )


def stepper(policy: Policy, rate: float = 1e-3) -> Step:
    columns = providers(policy, live_reference(policy), PACKING)
    return Step(
        [Trainable(POLICY, policy, make_optimizer(AdamW(learning_rate=rate), policy.trainable()))],
        providers=columns,
        packing=PACKING,
    )


def moved(*, rate: float = 0.0) -> tuple[Policy, Step]:
    """A policy that has left its reference towards some ground truths: some gaps are open. Plain SGD from here on."""
    policy = tiny.policy()
    step = stepper(policy, rate=3e-3)
    truths = [replace(t, branches=(Branch(t.truth, Role.DEMONSTRATION),)) for t in tasks(12)[:4]]
    for s in range(2):
        step(Round(s, [Part(truths, SFT())]))
    step.policy.optimizer, step.clip = torch.optim.SGD(policy.trainable().values(), lr=rate), None
    return policy, step


def answer(question: int) -> int:
    return 1 + question % 5


def world() -> tuple[list[Group], list[Group]]:
    """Questions 10 … 39, each answered by one of five tokens and a stop; pairs for two thirds, tasks for the others.

    What is right depends on the question modulo 5, which a table of embeddings can only learn question by question."""
    pairs, problems = [], []
    for q in range(10, 40):
        prompt, right = torch.tensor([50, q]), torch.tensor([answer(q), 0])
        wrong = torch.tensor([answer(q + 1 + q % 3), 0])
        if q % 3:
            pairs.append(Group(f"q{q}", prompt, (Branch(right, Role.CHOSEN), Branch(wrong, Role.REJECTED))))
        else:
            problems.append(Group(f"q{q}", prompt, (), truth=right))
    return pairs, problems


def certainty(policy: Policy, groups: list[Group]) -> float:
    """Mean probability of the first branch, the right answer."""
    return sum(row[0].sum().exp().item() for row in policy.logps(groups)) / len(groups)
