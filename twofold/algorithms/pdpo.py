"""Proximal DPO (Hepan 2024): one model, discriminator on preference pairs and generator of drafts, L = L_D + γ·L_G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from twofold.algorithms.offline import OfflineAlgorithm
from twofold.batch import Branch, Group, Role
from twofold.data.order import Order
from twofold.objectives.pdpo import Form, PDPOGenerator
from twofold.sampling.base import Sampler
from twofold.settings import require, settings
from twofold.training.step import Part, Round


@settings
class PDPO:
    """How discriminator and generator share the steps. The source leaves γ and the schedule open."""

    kind: Literal["pdpo"] = "pdpo"
    gamma: float = 0.1
    """Weight of the generator; from about σ(−margin) on it outweighs the discriminator per sequence."""
    form: Form = "hinge"
    """unhinged is the source's first form, kept as an ablation."""
    per_token: bool = False
    """Compare log-ratios per token instead of per completion."""
    prompts: int = 8
    """Generator prompts per step (6000 : 1473 pairs to problems at 32 pairs a step)."""
    samples: int = 1
    """Drafts per prompt."""
    warmup: float = 0.1
    """Steps (≥ 1) or fraction of all steps (< 1) with the discriminator alone: implicit rewards say nothing yet."""
    schedule: Literal["joint", "alternate"] = "joint"
    """joint plays both parts in every step; alternate plays one after the other."""
    turns: tuple[int, int] = (4, 1)
    """Steps of discriminator and generator in turn, under alternate."""
    drop_truncated: bool = True
    """Leave out drafts that never stopped: pulling them up would teach rambling."""

    def __post_init__(self) -> None:
        require(self.gamma >= 0, "gamma must be ≥ 0")
        require(self.prompts > 0 and self.samples > 0, "prompts and samples must be ≥ 1")
        require(self.warmup >= 0, "warmup must be ≥ 0")
        require(min(self.turns) > 0, "both turns must be ≥ 1")

    def warm_steps(self, steps: int) -> int:
        """Steps of `steps` with the discriminator alone."""
        return round(self.warmup if self.warmup >= 1 else self.warmup * steps)

    def objective(self, beta: float) -> PDPOGenerator:
        """The generator's objective, with the discriminator's β."""
        return PDPOGenerator(beta=beta, form=self.form, per_token=self.per_token)


@dataclass(frozen=True)
class Turns:
    """Who plays in which step; pure functions of the step, so that resuming needs no state."""

    warm: int
    cycle: tuple[int, int] | None = None
    """Discriminator's and generator's steps in turn; none for both in every step."""

    def at(self, step: int) -> tuple[bool, bool]:
        """Whether discriminator and generator play in `step`."""
        if step < self.warm:
            return True, False
        if self.cycle is None:
            return True, True
        discriminates = (step - self.warm) % sum(self.cycle) < self.cycle[0]
        return discriminates, not discriminates

    def before(self, step: int) -> tuple[int, int]:
        """How many steps each has played before `step`."""
        later = max(0, step - self.warm)
        early = min(step, self.warm)
        if self.cycle is None:
            return early + later, later
        rounds, rest = divmod(later, sum(self.cycle))
        mine = rounds * self.cycle[0] + min(rest, self.cycle[0])
        return early + mine, later - mine


@dataclass(kw_only=True)
class PDPOAlgorithm:
    """`pairs` is the discriminator's part; `tasks` are groups without branches whose ground truth is `truth`."""

    settings: PDPO
    pairs: OfflineAlgorithm
    tasks: Sequence[Group]
    generator: PDPOGenerator
    sampler: Sampler
    seed: int
    steps: int

    def __post_init__(self) -> None:
        cycle = self.settings.turns if self.settings.schedule == "alternate" else None
        self.turns = Turns(self.settings.warm_steps(self.steps), cycle)
        self.order = Order(len(self.tasks), self.seed + 1)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """One model, two parts: discriminate pairs, generate drafts."""
        parts: list[Part] = []
        figures: dict[str, float] = {}
        discriminates, generates = self.turns.at(step)
        discriminated, generated = self.turns.before(step)
        if discriminates:
            parts += self.pairs.round(discriminated, state).parts
        if generates:
            tasks = [self.tasks[i] for i in self.order.at(generated, self.settings.prompts)]
            drafts, figures = self.draft(tasks, step)
            parts.append(
                Part(drafts, self.generator, self.settings.gamma)
            )  # the ground truth's reward: a column, provided
        return Round(step, parts, figures)

    def draft(self, tasks: Sequence[Group], step: int) -> tuple[list[Group], dict[str, float]]:
        """The tasks with drafts of the current policy as branches, and how many were drawn, cut off and kept."""
        rows = self.sampler.sample([t.prompt for t in tasks], samples=self.settings.samples, seed=(self.seed, step))
        groups: list[Group] = []
        for task, drafts in zip(tasks, rows, strict=True):
            kept = [d for d in drafts if not (d.truncated and self.settings.drop_truncated)]
            if kept:
                groups.append(replace(task, branches=tuple(Branch(d.tokens, Role.DRAFT) for d in kept)))
        drawn = [d for drafts in rows for d in drafts]
        kept_drafts = sum(len(g.branches) for g in groups)
        truncated = sum(d.truncated for d in drawn) / len(drawn)
        return groups, {"drafts": float(len(drawn)), "kept": float(kept_drafts), "truncated": truncated}

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """Drafts are drawn anew by the current policy in every step: nothing is carried over."""
