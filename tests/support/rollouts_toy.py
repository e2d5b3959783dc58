"""Policy gradient on tiny models: tasks, text and rewards that count tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from support import tiny
from twofold.algorithms.policy_gradient import PolicyGradient, PolicyGradientAlgorithm
from twofold.batch import Group
from twofold.judges.completions import CompletionJudge
from twofold.judges.drafts import JudgedDrafts
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives.base import Objective
from twofold.rewards.base import RewardFunction
from twofold.rewards.rollouts import Rewards
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler
from twofold.training.column_providers import OLD, old_logps, providers

STOP = frozenset({0})

WANTED = 7


def tasks(count: int) -> list[Group]:
    made = tiny.groups(*[(3 + i % 3, 2) for i in range(count)], seed=5)
    return [Group(f"task {i}", g.prompt, ()) for i, g in enumerate(made)]


def text(tokens: Tensor) -> str:
    return " ".join(map(str, tokens.tolist()))


def share(prompt: str, completion: str, truth: str | None) -> float:
    """How much of a completion is the wanted token."""
    words = completion.split()
    return words.count(str(WANTED)) / len(words)


def length(prompt: str, completion: str, truth: str | None) -> float:
    return float(len(completion.split()))


def rated_by(function: RewardFunction) -> JudgedDrafts:
    return JudgedDrafts(CompletionJudge(function), text)


def algorithm(
    policy: Policy, objective: Objective, packing: Packing | None = None, *, batch_size: int = 4, **settings: Any
) -> PolicyGradientAlgorithm:
    packing = packing or Packing(tokens=60)
    functions: dict[str, RewardFunction] = {"python:share": share, "python:length": length}
    made = PolicyGradient(**{"reward": "python:share", **settings})
    return PolicyGradientAlgorithm(
        settings=made,
        tasks=tasks(12),
        objective=objective,
        sampler=LocalSampler(policy.model, tiny.tokenizer(), STOP, Sampling(max_new_tokens=6)),
        rewards=Rewards([(w.source, w.weight, rated_by(functions[w.source])) for w in made.rewards]),
        columns={**providers(policy, live_reference(policy), packing), OLD: old_logps(policy, packing)},
        batch_size=batch_size,
        seed=3,
        steps=20,
    )
