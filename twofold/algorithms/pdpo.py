"""Proximal DPO (Hepan 2024): one model, discriminator on preference pairs and generator of drafts, L = L_D + γ·L_G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isnan
from typing import Any, Literal

import torch

from twofold.algorithms.base import Algorithm, AlgorithmSettings, FixedRows, Run, Sections
from twofold.algorithms.draft_serialization import Drafts, dump_drafts, load_drafts
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.algorithms.schedules import Ramp
from twofold.batch import Branch, Group, Role
from twofold.data.order import Order
from twofold.judges.gates import GateSettings
from twofold.objectives.dpo import DPO
from twofold.objectives.pdpo import Baseline, Direction, Form, Gate, GradientTo, PDPOGenerator
from twofold.rewards.base import Reward
from twofold.rewards.verifier import Metric
from twofold.sampling.base import Draft, Sampler, sampler_metrics
from twofold.settings import require, settings
from twofold.training.step import Part, Round


@settings
class PDPO(AlgorithmSettings):
    """How discriminator and generator share the steps. The source leaves γ and the schedule open."""

    kind: Literal["pdpo"] = "pdpo"
    gamma: float = 0.1
    """Weight of the generator; from about σ(−margin) on it outweighs the discriminator per sequence. Under `balance`
    its gradient's norm as a share of the discriminator's."""
    gamma_ramp: float = 0.0
    """Steps (≥ 1) or fraction of all steps (< 1) after the warm-up in which γ grows linearly from 0."""
    form: Form = "hinge"
    """unhinged, the source's first form, is an ablation: it has no stop; square pulls both ways, as a KL does."""
    per_token: bool = False
    """Compare log-ratios per token instead of per completion."""
    margin: float = 0.0
    """Added to the gap: drafts are pulled until they are this much beyond the truth."""
    direction: Direction = "up"
    """down pushes drafts below the truth's reward, as SPIN does: the gap changes its sign."""
    gradient_to: GradientTo = "drafts"
    """truth pulls the truth up where it lies below a draft, both pull it and the drafts: with direction down, SPIN."""
    gate: Gate = "none"
    """verifier, judge: drafts that it finds right alone are pulled up (the others alone pushed down)."""
    verdict: Metric = "strict"
    """What the verifier calls right: `#### N` as GSM8K has it, or (flexible) the right last number."""
    judge: GateSettings | None = None
    """Who judges under gate judge, and from where on a draft is good enough."""
    gate_average: Literal["drawn", "passed"] = "drawn"
    """Average over all drafts, or over those that the gate lets through (the others are then left out)."""
    baseline: Baseline = "none"
    """leave_one_out takes from each draft's pull the mean pull of the other drafts of its prompt."""
    clip: float | None = None
    """Stop where a stale draft has become 1 + this times as likely as when it was drawn."""
    kl: float = 0.0
    """Weight, within the generator, of an on-policy KL to the reference: Σ ½(log π/π_ref)² over a draft's tokens."""
    balance: Literal["none", "gradient_norm"] = "none"
    """gradient_norm sets the generator's weight in each step so that its gradient is γ times as long as the
    discriminator's (VQGAN, arXiv:2012.09841)."""
    balance_decay: float = 0.0
    """Take running means of both norms, with this share of the old; 0 takes each step's own."""
    balance_most: float = 1e4
    """The greatest ratio of the two norms that is believed."""
    prompts: int = 8
    """Generator prompts per step (6000 : 1473 pairs to problems at 32 pairs a step)."""
    samples: int = 1
    """Drafts per prompt."""
    reuse_steps: int = 1
    """Generator steps that use the same drafts; from the second on they are stale."""
    warmup: float = 0.1
    """Steps (≥ 1) or fraction of all steps (< 1) with the discriminator alone: implicit rewards say nothing yet."""
    schedule: Literal["joint", "alternate"] = "joint"
    """joint plays both parts in every step; alternate plays one after the other."""
    turns: tuple[int, int] = (4, 1)
    """Steps of discriminator and generator in turn, under alternate."""
    drop_truncated: bool = True
    """Leave out drafts that never stopped: pulling them up would teach rambling."""
    ramp: Mapping[str, Ramp] = field(default_factory=dict[str, Ramp])
    """Settings of the discriminator that change during the run; the generator's β is always the discriminator's."""

    def __post_init__(self) -> None:
        require(self.gamma >= 0, "gamma must be ≥ 0")
        require(self.prompts > 0 and self.samples > 0, "prompts and samples must be ≥ 1")
        require(self.reuse_steps > 0, "reuse_steps must be ≥ 1")
        require(self.warmup >= 0 and self.gamma_ramp >= 0, "warmup and gamma_ramp must be ≥ 0")
        require(min(self.turns) > 0, "both turns must be ≥ 1")
        alone = self.baseline == "none"
        require(alone or self.samples > 1, "baseline leave_one_out needs samples ≥ 2: others of the same prompt")
        require(alone or self.gate_average == "drawn", "baseline leave_one_out compares all drafts: gate_average drawn")
        self._refuse_gates()
        require(0 <= self.balance_decay < 1 and self.balance_most > 0, "balance_decay in [0, 1), balance_most > 0")
        joint = self.schedule == "joint" or self.balance == "none"
        require(joint, "balance compares the two gradients of one step: schedule joint")
        require(self.clip is None or self.reuse_steps > 1, "clip needs reuse_steps ≥ 2: fresh drafts have not moved")
        self.objective(1.0)

    def _refuse_gates(self) -> None:
        """Gates that could not open, and judges that nobody asks."""
        require(self.gate != "none" or self.gate_average == "drawn", "gate_average passed needs a gate")
        drawn = self.gradient_to == "drafts" or self.gate_average == "drawn"
        require(drawn, "gradient_to truth and both need right and wrong drafts: gate_average drawn")
        require(self.gate != "judge" or self.judge is not None, "gate judge needs judge: {source: …}")
        require(self.gate == "judge" or self.judge is None, "judge is asked under gate judge alone")

    draws_drafts = True

    @property
    def needs_reference(self) -> bool:
        return True

    def refuse_misfit(self, recipe: Sections) -> None:
        compared = isinstance(recipe.objective, DPO) and not recipe.objective.reference_free
        require(compared, "algorithm pdpo needs objective dpo, with its reference, as its discriminator")
        require(recipe.data.generator is not None, "algorithm pdpo needs data.generator: its problems")

    def build(self, run: Run) -> PDPOAlgorithm:
        assert isinstance(run.objective, DPO), "the recipe has checked it"
        return PDPOAlgorithm(
            settings=self,
            pairs=OfflineAlgorithm.of(run, self.ramp),
            tasks=run.groups["generator"],
            generator=self.objective(run.objective.beta),
            sampler=run.sampler(),
            seed=run.seed,
            steps=run.steps,
            gate=run.gate(),
        )

    def warm_steps(self, steps: int) -> int:
        """Steps of `steps` with the discriminator alone."""
        return _share(self.warmup, steps)

    def gamma_at(self, step: int, steps: int) -> float:
        """γ in `step` of `steps`."""
        rising = _share(self.gamma_ramp, steps)
        return self.gamma * min(1.0, (step - self.warm_steps(steps) + 1) / (rising + 1))

    def objective(self, beta: float) -> PDPOGenerator:
        """The generator's objective, with the discriminator's β."""
        mine = {f.name: getattr(self, f.name) for f in fields(PDPOGenerator) if f.name not in ("kind", "beta")}
        return PDPOGenerator(beta=beta, **mine)


def _share(amount: float, steps: int) -> int:
    """Steps: `amount` itself from 1 on, a fraction of `steps` below."""
    return round(amount if amount >= 1 else amount * steps)


@dataclass(frozen=True)
class PartSchedule:
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
class PDPOAlgorithm(Algorithm):
    """`pairs` is the discriminator's part; `tasks` are groups without branches whose ground truth is `truth`."""

    settings: PDPO
    pairs: OfflineAlgorithm
    tasks: Sequence[Group]
    generator: PDPOGenerator
    sampler: Sampler
    seed: int
    steps: int
    gate: Reward | None = None
    """Judges every draft, whether the settings have a gate or not: 1 for right, 0 for wrong, NaN for no verdict."""

    def __post_init__(self) -> None:
        require(self.settings.gate == "none" or self.gate is not None, "a gate needs who judges")
        cycle = self.settings.turns if self.settings.schedule == "alternate" else None
        self.turns = PartSchedule(self.settings.warm_steps(self.steps), cycle)
        self.order = Order(len(self.tasks), self.seed + 1)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """One model, two parts: discriminate pairs, generate drafts."""
        parts: list[Part] = []
        figures: dict[str, float] = {}
        discriminates, generates = self.turns.at(step)
        discriminated, generated = self.turns.before(step)
        if discriminates:
            parts.append(self.pairs.part(discriminated, step))
        if generates:
            drafts, figures = self.drafts(generated, step, state)
            gamma, balanced = self.settings.gamma_at(step, self.steps), self.settings.balance != "none"
            parts.append(Part(drafts, self.generator_at(step), gamma, balanced))
        return Round(step, parts, {**figures, **self.pairs.figures(step)})

    def generator_at(self, step: int) -> PDPOGenerator:
        """The generator with the discriminator's β in `step`."""
        return replace(self.generator, **{k: v for k, v in self.pairs.figures(step).items() if k == "beta"})

    def drafts(self, generated: int, step: int, state: dict[str, Any]) -> tuple[list[Group], dict[str, float]]:
        """The drafts of the generator's `generated`-th step: drawn now, or those of an earlier step out of `state`."""
        block, age = divmod(generated, self.settings.reuse_steps)
        tasks = [self.tasks[i] for i in self.order.at(block, self.settings.prompts)]
        if age:
            branches, figures = load_drafts(state["drafts"]), {"age": float(age)}
        else:
            branches, figures = self.draft(tasks, step)
        if self.settings.reuse_steps > 1 and not age:
            state["drafts"], figures["age"] = dump_drafts(branches), 0.0
        return [self._group(task, kept) for task, kept in zip(tasks, branches, strict=True) if kept], figures

    def draft(self, tasks: Sequence[Group], step: int) -> tuple[Drafts, dict[str, float]]:
        """What the current policy says to each task, and how much was drawn, cut off, kept and right."""
        rows = self.sampler.sample([t.prompt for t in tasks], samples=self.settings.samples, seed=(self.seed, step))
        drawn = [d for drafts in rows for d in drafts]
        whole = [[d for d in drafts if not (d.truncated and self.settings.drop_truncated)] for drafts in rows]
        branches = self._judged(tasks, [[_branch(d) for d in drafts] for drafts in whole])
        judged = [b.columns["correct"] for kept in branches for b in kept if "correct" in b.columns]
        right = {"right": sum(judged) / len(judged)} if judged else {}
        kept = [tuple(b for b in row if self._passes(b)) for row in branches]
        figures = {"drafts": len(drawn), "drafts_kept": sum(map(len, kept))}
        truncated = sum(d.truncated for d in drawn) / len(drawn)
        return kept, {
            **{k: float(v) for k, v in figures.items()},
            "truncated": truncated,
            **right,
            **sampler_metrics(self.sampler),
        }

    def _judged(self, tasks: Sequence[Group], drafts: Sequence[Sequence[Branch]]) -> Drafts:
        """Drafts with the gate's verdict; those on which there is none are left out."""
        if self.gate is None:
            return [tuple(row) for row in drafts]
        said = [replace(task, branches=tuple(row)) for task, row in zip(tasks, drafts, strict=True)]
        rated = iter(self.gate.rate([group for group in said if group.branches]))
        verdicts = [next(rated) if group.branches else [] for group in said]
        return [
            tuple(b.with_columns({"correct": v}) for b, v in zip(row, found, strict=True) if not isnan(v))
            for row, found in zip(drafts, verdicts, strict=True)
        ]

    def _group(self, task: Group, drafts: Sequence[Branch]) -> Group:
        """The drafts of one problem. The ground truth's reward is a column, provided; where it is to move, it is the
        last branch, right and never stale, since a column is one of all branches or none."""
        if self.settings.gradient_to == "drafts":
            return replace(task, branches=tuple(drafts))
        assert task.truth is not None, "checked before step 0"
        truth = Branch(task.truth, Role.TRUTH, {"old_logp": torch.zeros(len(task.truth), dtype=torch.float64)})
        return replace(task, branches=(*drafts, truth.with_columns({"correct": 1.0} if self.gate else {})))

    def _passes(self, branch: Branch) -> bool:
        """Whether a draft stays: unless only those stay that the gate lets through, all do."""
        every = self.settings.gate_average == "drawn"
        return every or branch.columns["correct"] == float(self.settings.direction == "up")

    @property
    def fixed_rows(self) -> FixedRows:
        return self.pairs.fixed_rows


def _branch(draft: Draft) -> Branch:
    """A draft with its log-probabilities as they were when it was drawn."""
    return Branch(draft.tokens, Role.DRAFT, {"old_logp": draft.logp.double()})
