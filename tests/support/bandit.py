"""One prompt, a few answers of one token, a policy that is a table: where the regularized optimum has a closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Any

import torch
from torch import Tensor

from twofold.algorithms.policy_gradient import PolicyGradient, PolicyGradientAlgorithm, RewardKL
from twofold.batch import Batch, Group, Outputs
from twofold.models.logprob import entropies_of
from twofold.objectives.base import Objective
from twofold.objectives.checks import total
from twofold.rewards.rollouts import Rewards
from twofold.sampling.base import Sample
from twofold.training.step import Part
from twofold.training.trainable import POLICY

REFERENCE, REWARD, BETA = (0.5, 0.3, 0.2), (1.0, 0.0, 2.0), 0.5
"""Of golden.json's theory.optimal_policy."""


def vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def worth(policy_V: Tensor, reward_V: Tensor | None = None) -> float:
    """E[r] − β·KL(π ‖ π_ref), whose greatest value is β·log Σ π_ref·exp(r/β)."""
    reward_V = vector(REWARD) if reward_V is None else reward_V
    kl = (policy_V * (policy_V / vector(REFERENCE)).log()).sum()
    return ((policy_V * reward_V).sum() - BETA * kl).item()


def best(reward_V: Tensor | None = None) -> float:
    reward_V = vector(REWARD) if reward_V is None else reward_V
    return BETA * (vector(REFERENCE) * (reward_V / BETA).exp()).sum().log().item()


@dataclass
class Table:
    """The policy: sampler, provider of columns, reward and model in one."""

    theta: Tensor = field(default_factory=lambda: vector(REFERENCE).log().requires_grad_())
    value: Tensor = field(default_factory=lambda: vector([0.0]).requires_grad_())
    """What a value model says before the one token: of one prompt, a number."""
    reward: Tensor = field(default_factory=lambda: vector(REWARD))

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        noise = torch.Generator().manual_seed(1_000_003 * seed[0] + seed[1])
        policy_V = self.theta.detach().softmax(0)
        drawn = torch.multinomial(policy_V.expand(len(prompts), -1), samples, replacement=True, generator=noise)
        logp_V = policy_V.log()
        return [[Sample(token[None], logp_V[token][None], False) for token in row] for row in drawn]

    def column(self, name: str, logp_V: Callable[[], Tensor]) -> Callable[[Sequence[Group]], list[Group]]:
        def provide(groups: Sequence[Group]) -> list[Group]:
            now_V = logp_V()
            return [g.with_columns([{name: now_V[b.tokens]} for b in g.branches]) for g in groups]

        return provide

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[float(self.reward[int(b.tokens[0])]) for b in g.branches] for g in groups]

    def outputs(self, groups: Sequence[Group]) -> Outputs:
        tokens = torch.cat([b.tokens for g in groups for b in g.branches])
        entropy = entropies_of(self.theta[None]).expand(len(tokens))
        said = self.theta.log_softmax(0)[tokens]
        return Outputs(said, value_S=self.value.expand(len(tokens)), statistics={"entropy": entropy})

    def part(self, part: Part, rate: float) -> None:
        """A plain gradient step of whoever learns from `part`."""
        batch, learns = Batch.of(part.groups), self.theta if part.trainable == POLICY else self.value
        (grad,) = torch.autograd.grad(total(part.objective(self.outputs(part.groups), batch), batch), learns)
        with torch.no_grad():
            learns -= rate * grad


def learnt(
    objective: Objective, *, kl: float = 0.0, steps: int = 80, rate: float = 1.5, reward_V: Tensor | None = None,
    **settings: Any,
) -> Tensor:  # fmt: skip
    """The policy after `steps` of plain gradient descent at a rate that falls to 0."""
    table = Table() if reward_V is None else Table(reward=reward_V)
    made = PolicyGradient(kl=RewardKL(coefficient=kl), **{"samples": 8, **settings})
    play = PolicyGradientAlgorithm(
        settings=made,
        tasks=[Group(f"{i}", torch.zeros(1, dtype=torch.int64), ()) for i in range(12)],
        objective=objective,
        sampler=table,
        rewards=Rewards([("bandit", 1.0, table)]),
        columns={
            "old_logp": table.column("old_logp", lambda: table.theta.detach().log_softmax(0)),
            "ref_logp": table.column("ref_logp", lambda: vector(REFERENCE).log()),
            "old_value": table.column("old_value", lambda: table.value.detach().expand(len(REWARD))),
        },
        batch_size=12 if made.rollouts is None else 6,
        seed=1,
        steps=steps,
    )
    state: dict[str, Any] = {}
    for step in range(steps):
        for part in play.round(step, state).parts:
            table.part(part, rate * (1 - step / steps) if part.trainable == POLICY else 0.5)
    return table.theta.detach().softmax(0)


def fixed_point(
    advantage: Callable[[Tensor], Tensor],
    samples: int,
    pull: Callable[[Tensor], Tensor],
    reward_V: Tensor | None = None,
) -> Tensor:
    """Where E[Σ A·∇log π]/n over all groups of `samples`, each with its probability, balances `pull` by the logits;
    advantages sum to 0 in a group."""
    reward_V = vector(REWARD) if reward_V is None else reward_V
    drawn = [torch.tensor(c) for c in combinations_with_replacement(range(len(REWARD)), samples)]
    count_CV = torch.stack([torch.bincount(c, minlength=len(REWARD)).double() for c in drawn])
    ways_C = vector([factorial(samples) / prod(factorial(int(n)) for n in c) for c in count_CV])
    nothing_V = torch.zeros_like(reward_V)
    gain_CV = torch.stack([nothing_V.index_add(0, c, advantage(reward_V[c])) for c in drawn])

    def force(theta_V: Tensor) -> Tensor:
        policy_V = theta_V.softmax(0)
        chance_C = ways_C * policy_V.pow(count_CV).prod(1)
        return pull(policy_V) + chance_C @ gain_CV / samples

    theta_V = vector(REFERENCE).log()
    for _ in range(4000):
        theta_V = theta_V + 1.5 * force(theta_V)
    assert force(theta_V).abs().max() < 1e-9
    return theta_V.softmax(0)
