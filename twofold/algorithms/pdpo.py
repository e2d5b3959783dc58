"""Proximal DPO (Hepan 2024): one model is the discriminator on preference pairs and the generator of drafts, L = L_D +
γ·L_G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
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
from twofold.objectives.pdpo import GeneratorSettings, PDPOGenerator
from twofold.rewards.base import Reward
from twofold.rewards.verifier import Metric
from twofold.sampling.base import Sample, Sampler, SampleRequest, sampler_metrics
from twofold.settings import require, settings
from twofold.training.step import Part, Round


@settings
class PDPO(AlgorithmSettings):
    """PDPO: how discriminator and generator share the steps. The source does not specify γ or the schedule."""

    kind: Literal["pdpo"] = "pdpo"
    gamma: float = 0.1
    """Weight of the generator loss. From about σ(−margin) it outweighs the discriminator per sequence."""
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    """The generator's loss. Its β is the discriminator's."""
    verdict: Metric = "strict"
    """What the verifier accepts: `#### N` as in GSM8K (strict), or the right last number (flexible)."""
    judge: GateSettings | None = None
    """The judge for `generator.gate: judge`, and the rating a draft needs to pass."""
    gate_average: Literal["drawn", "passed"] = "drawn"
    """Average over all drafts, or only over those that pass the gate (the others are then left out)."""
    prompts: int = 8
    """Generator prompts per step. The default matches 6000 pairs : 1473 problems at 32 pairs per step."""
    samples: int = 1
    """Drafts per prompt."""
    reuse_steps: int = 1
    """Generator steps that use the same drafts. From the second step the drafts are stale."""
    warmup: float = 0.1
    """Steps (≥ 1) or fraction of all steps (< 1) with only the discriminator, because implicit rewards are not yet
    informative."""
    schedule: Literal["joint", "alternate"] = "joint"
    """joint trains both in every step. alternate trains one after the other."""
    turns: tuple[int, int] = (4, 1)
    """For alternate: consecutive steps of the discriminator and of the generator."""
    drop_truncated: bool = True
    """Leave out drafts that did not stop. Pulling them up would teach the model not to stop."""
    ramp: Mapping[str, Ramp] = field(default_factory=dict[str, Ramp])
    """Schedules for gamma (from the end of the warmup) and for settings of the discriminator, whose β is also the
    generator's."""

    def __post_init__(self) -> None:
        require(self.gamma >= 0, "gamma must be ≥ 0")
        require("gamma" not in self.ramp or self.ramp["gamma"].to >= 0, "ramp.gamma.to must be ≥ 0")
        require(self.prompts > 0 and self.samples > 0, "prompts and samples must be ≥ 1")
        require(self.reuse_steps > 0, "reuse_steps must be ≥ 1")
        require(self.warmup >= 0, "warmup must be ≥ 0")
        require(min(self.turns) > 0, "both turns must be ≥ 1")
        how = self.generator
        alone = how.baseline == "none"
        require(alone or self.samples > 1, "baseline leave_one_out needs samples ≥ 2: others of the same prompt")
        require(alone or self.gate_average == "drawn", "baseline leave_one_out compares all drafts: gate_average drawn")
        require(how.clip is None or self.reuse_steps > 1, "clip needs reuse_steps ≥ 2: fresh drafts have not moved")
        require(how.gate != "none" or self.gate_average == "drawn", "gate_average passed needs a gate")
        drawn = how.gradient_to == "drafts" or self.gate_average == "drawn"
        require(drawn, "`gradient_to: truth` and `both` need correct and wrong drafts: gate_average drawn")
        require(how.gate != "judge" or self.judge is not None, "gate judge needs judge: {source: …}")
        require(how.gate == "judge" or self.judge is None, "judge requires `generator.gate: judge`")

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
            pairs=OfflineAlgorithm.of(run, self.discriminator_ramp),
            tasks=run.groups["generator"],
            generator=self.objective(run.objective.beta),
            sampler=run.sampler(),
            seed=run.seed,
            steps=run.steps,
            gate=None if self.gate is None else run.gate(self.gate),
        )

    @property
    def gate(self) -> GateSettings | None:
        """The gate for drafts: the verifier, or the judge."""
        if self.generator.gate == "verifier":
            return GateSettings(source=f"verifier:{self.verdict}", at_least=1.0)
        return self.judge

    @property
    def discriminator_ramp(self) -> dict[str, Ramp]:
        """The entries of `ramp` for the discriminator."""
        return {name: ramp for name, ramp in self.ramp.items() if name != "gamma"}

    def warm_steps(self, steps: int) -> int:
        """Warmup steps of `steps`, with only the discriminator."""
        return round(self.warmup if self.warmup >= 1 else self.warmup * steps)

    def gamma_at(self, step: int, steps: int) -> float:
        """γ in `step` of `steps`. Its ramp starts after the warmup."""
        ramp = self.ramp.get("gamma")
        return ramp.at(self.gamma, step - self.warm_steps(steps), steps) if ramp else self.gamma

    def objective(self, beta: float) -> PDPOGenerator:
        """The generator's objective, with the discriminator's β."""
        return PDPOGenerator(beta=beta, **vars(self.generator))


@dataclass(frozen=True)
class PartSchedule:
    """Which parts train in which step: pure functions of the step, so that a resumed run needs no state."""

    warm: int
    cycle: tuple[int, int] | None = None
    """Consecutive steps of discriminator and generator; None if both train in every step."""

    def at(self, step: int) -> tuple[bool, bool]:
        """Whether discriminator and generator train in `step`."""
        if step < self.warm:
            return True, False
        if self.cycle is None:
            return True, True
        discriminates = (step - self.warm) % sum(self.cycle) < self.cycle[0]
        return discriminates, not discriminates

    def before(self, step: int) -> tuple[int, int]:
        """Number of steps that each has trained before `step`."""
        later = max(0, step - self.warm)
        early = min(step, self.warm)
        if self.cycle is None:
            return early + later, later
        rounds, rest = divmod(later, sum(self.cycle))
        mine = rounds * self.cycle[0] + min(rest, self.cycle[0])
        return early + mine, later - mine


@dataclass(kw_only=True)
class PDPOAlgorithm(Algorithm):
    """`pairs` is the discriminator's part. `tasks` are groups without branches, with the ground truth in `truth`."""

    settings: PDPO
    pairs: OfflineAlgorithm
    tasks: Sequence[Group]
    generator: PDPOGenerator
    sampler: Sampler
    seed: int
    steps: int
    gate: Reward | None = None
    """Judges every draft, with or without a gate: 1 for correct, 0 for wrong, NaN for no verdict."""

    def __post_init__(self) -> None:
        require(self.settings.generator.gate == "none" or self.gate is not None, "a gate needs a judge")
        cycle = self.settings.turns if self.settings.schedule == "alternate" else None
        self.turns = PartSchedule(self.settings.warm_steps(self.steps), cycle)
        self.order = Order(len(self.tasks), self.seed + 1)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """The algorithm: one model, trained on pairs (discriminator) and on its own drafts (generator)."""
        parts: list[Part] = []
        figures: dict[str, float] = {}
        discriminates, generates = self.turns.at(step)
        discriminated, generated = self.turns.before(step)
        if discriminates:
            parts.append(self.pairs.part(discriminated, step))
        if generates:
            drafts, figures = self.drafts(generated, step, state)
            gamma = self.settings.gamma_at(step, self.steps)
            parts.append(Part(drafts, self.generator_at(step), gamma))
            figures |= {"gamma": gamma} if "gamma" in self.settings.ramp else {}
        return Round(step, parts, {**figures, **self.pairs.figures(step)})

    def request(self, step: int) -> SampleRequest | None:
        block, age = divmod(self.turns.before(step)[1], self.settings.reuse_steps)
        return self._request(self._tasks(block), step) if self.turns.at(step)[1] and not age else None

    def generator_at(self, step: int) -> PDPOGenerator:
        """The generator objective with the discriminator's β in `step`."""
        return replace(self.generator, **{k: v for k, v in self.pairs.figures(step).items() if k == "beta"})

    def drafts(self, generated: int, step: int, state: dict[str, Any]) -> tuple[list[Group], dict[str, float]]:
        """The drafts of the generator's step `generated`: sampled now, or reused from an earlier step in `state`."""
        block, age = divmod(generated, self.settings.reuse_steps)
        tasks = self._tasks(block)
        if age:
            branches, figures = load_drafts(state["drafts"]), {"age": float(age)}
        else:
            branches, figures = self.draft(tasks, step)
        if self.settings.reuse_steps > 1 and not age:
            state["drafts"], figures["age"] = dump_drafts(branches), 0.0
        return [self._group(task, kept) for task, kept in zip(tasks, branches, strict=True) if kept], figures

    def draft(self, tasks: Sequence[Group], step: int) -> tuple[Drafts, dict[str, float]]:
        """The current policy's drafts of each task, and metrics: how many were sampled, truncated, used and correct."""
        rows = self._request(tasks, step).drawn_by(self.sampler)
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

    def _tasks(self, block: int) -> list[Group]:
        """The problems of block `block` of drafts."""
        return [self.tasks[i] for i in self.order.at(block, self.settings.prompts)]

    def _request(self, tasks: Sequence[Group], step: int) -> SampleRequest:
        return SampleRequest([t.prompt for t in tasks], self.settings.samples, (self.seed, step))

    def _judged(self, tasks: Sequence[Group], drafts: Sequence[Sequence[Branch]]) -> Drafts:
        """Drafts with the gate's verdict. Drafts without a verdict are left out."""
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
        """The drafts of one problem. The ground truth's reward is a column that the step provides. If the ground truth
        is trained, it is the last branch, and the columns of drafts are NaN there."""
        if self.settings.generator.gradient_to == "drafts":
            return replace(task, branches=tuple(drafts))
        assert task.truth is not None, "checked before step 0"
        unknown = torch.full((len(task.truth),), nan, dtype=torch.float64)
        tokens, numbers = dict.fromkeys(drafts[0].token_columns, unknown), dict.fromkeys(drafts[0].columns, nan)
        return replace(task, branches=(*drafts, Branch(task.truth, Role.TRUTH, tokens, numbers)))

    def _passes(self, branch: Branch) -> bool:
        """Whether a draft is used. All are, unless `gate_average` keeps only those that pass the gate."""
        every = self.settings.gate_average == "drawn"
        return every or branch.columns["correct"] == float(self.settings.generator.direction == "up")

    @property
    def fixed_rows(self) -> FixedRows:
        return self.pairs.fixed_rows


def _branch(draft: Sample) -> Branch:
    """A draft with its log-probabilities under the policy that first used it, and its columns."""
    return Branch(draft.tokens, Role.DRAFT, {"old_logp": draft.logp.double()}).with_columns(draft.columns)
