"""Online preferences on the bandit: the algorithm on a table of logits, and where its expectation stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from support.bandit import REFERENCE, REWARD, Table, vector
from twofold.algorithms.online import Online, OnlineAlgorithm
from twofold.batch import Batch, Group
from twofold.objectives.base import Objective
from twofold.objectives.checks import total
from twofold.rewards.rollouts import Rewards
from twofold.training.step import Round

PROMPT = torch.zeros(1, dtype=torch.int64)


@dataclass
class Play:
    """A table that learns by an online algorithm; `reference_V` is log π_ref as it is now."""

    objective: Objective
    settings: Online
    table: Table = field(default_factory=Table)
    truths: Sequence[int] = ()
    prompts: int = 12
    steps: int = 100
    rate: float = 1.5
    reference_V: Tensor = field(default_factory=lambda: vector(REFERENCE).log())
    rounds: list[Round] = field(default_factory=list[Round])

    def learn(self) -> Tensor:
        """The policy after plain gradient descent at a rate that falls to 0."""
        truth = [torch.tensor([t]) for t in self.truths] or [None] * self.prompts
        play = OnlineAlgorithm(
            settings=self.settings,
            tasks=[Group(f"{i}", PROMPT, (), truth=t) for i, t in enumerate(truth)],
            objective=self.objective,
            sampler=self.table,
            judge=None if self.truths else Rewards([("bandit", 1.0, self.table)]),
            reference_sampler=Table(self.reference_V) if self.settings.reference_samples else None,
            batch_size=self.prompts,
            seed=1,
            steps=self.steps,
        )
        state: dict[str, Any] = {}
        provide = self.table.column("ref_logp", lambda: self.reference_V)
        for step in range(self.steps):
            if self.settings.reference == "fresh" and step % play.steps_per_round == 0:
                self.reference_V = self.table.theta.detach().log_softmax(0)
            round = play.round(step, state)
            self.rounds.append(round)
            (part,) = round.parts
            if not part.groups:
                continue
            groups = provide(part.groups)
            loss = total(part.objective(self.table.outputs(groups), Batch.of(groups)), Batch.of(groups))
            (grad,) = torch.autograd.grad(loss, self.table.theta)
            with torch.no_grad():
                self.table.theta -= self.rate * (1 - step / self.steps) * grad
        return self.table.theta.detach().softmax(0)


def standstill(pull: Callable[[Tensor], Tensor], steps: int = 20_000) -> Tensor:
    """Where the expected gradient of a loss on two answers drawn from the policy is 0. `pull` gives minus its slope by
    the better answer's lead in log-ratio; the worse one's is the opposite, and drawing has no gradient."""
    better = [(i, j) for i in range(3) for j in range(3) if REWARD[i] > REWARD[j]]
    theta_V, reference_V = vector(REFERENCE).log(), vector(REFERENCE).log()

    def force(theta_V: Tensor) -> Tensor:
        policy_V = theta_V.softmax(0)
        away_V, push_V, drawn = theta_V.log_softmax(0) - reference_V, torch.zeros_like(theta_V), 0.0
        for i, j in better:
            chance = 2 * policy_V[i] * policy_V[j]
            gain = chance * pull(away_V[i] - away_V[j])
            push_V[i], push_V[j], drawn = push_V[i] + gain, push_V[j] - gain, drawn + chance
        return push_V / drawn

    for _ in range(steps):
        push_V = force(theta_V)
        if push_V.abs().max() < 1e-9:
            break
        theta_V = theta_V + 0.5 * push_V
    standing = force(theta_V).abs().max()
    assert standing < 1e-9, standing
    return theta_V.softmax(0)
