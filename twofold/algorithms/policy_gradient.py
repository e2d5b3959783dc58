"""Policy gradients: sample completions, reward them, compute advantages, and train on them for one or more steps.

PPO, GRPO, RLOO and REINFORCE differ in the objective, its baseline and its scale; these are settings of the objective.
A value model, if any, is a second part of every round (`gae.py`). Samples, old log-probabilities, values, advantages
and returns are columns, computed once per rollout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from twofold.algorithms.base import Algorithm, AlgorithmSettings, Run, Sections, refuse_fixed_rows
from twofold.algorithms.draft_serialization import dump_drafts, load_drafts
from twofold.algorithms.gae import VALUE_MODEL, ValueModelSettings, value_metrics, whitened_tokens, with_gae
from twofold.algorithms.schedules import Ramp, refuse_bad_ramps, scheduled
from twofold.batch import Branch, Group, Role
from twofold.data.order import Order
from twofold.errors import RecipeError
from twofold.judges.registry import RewardSource, parse_sources
from twofold.objectives.advantages import Moments, adapted, advantages_of, kl_shaped, without_stop
from twofold.objectives.base import Objective
from twofold.objectives.kl import ESTIMATORS, Estimator, k1
from twofold.objectives.ppo import ValueRegression
from twofold.rewards.execution import Execution
from twofold.rewards.rollouts import Rewards
from twofold.sampling.base import Sampler, SampleRequest, sampler_metrics
from twofold.settings import require, settings
from twofold.training.column_providers import OLD, VALUE, old_logps, old_values
from twofold.training.step import Part, Provider, Round


@settings
class RewardKL:
    """The KL penalty in the reward. A KL term in the loss is a setting of the objective (`grpo`: beta)."""

    coefficient: float = 0.0
    """Penalty per nat. With 0 no reference model is needed."""
    estimator: Estimator = "k1"
    """KL estimator. k1 gives ∇KL(π ‖ π_ref). k2 and k3 in a reward have little effect near the reference
    (docs/policy-gradient.md)."""
    target: float | None = None
    """Target KL in nats per completion: the coefficient is adapted after every rollout. By default it is constant."""
    horizon: float = 10_000.0
    """Number of completions over which a KL that is 20% off changes the coefficient by 20%."""

    def __post_init__(self) -> None:
        require(self.coefficient >= 0, "coefficient must be ≥ 0")
        require(self.target is None or self.target > 0, "target must be > 0")
        require(self.target is None or self.coefficient > 0, "target needs a coefficient > 0 to begin with")
        require(self.horizon > 0, "horizon must be > 0")


@settings
class PolicyGradient(AlgorithmSettings):
    """Policy gradients: how completions are sampled and rewarded, and how long a rollout is used. The objective (ppo,
    grpo, rloo, reinforce) is the method. training.batch_size counts prompts."""

    kind: Literal["policy_gradient"] = "policy_gradient"
    reward: str | tuple[RewardSource, ...] = "verifier"
    """A scoring judge, KIND[:ARGUMENT] (docs/judges.md): verifier (GSM8K's `#### N`), verifier:flexible (the right last
    number), reward:FOLDER, code (the program passes its tests; see execution) …, or a list of these with weights. In
    Python also a function of (prompt, completion, reference answer)."""
    rollouts: int | None = None
    """Prompts per rollout, a multiple of training.batch_size. The default is training.batch_size: one step per pass."""
    samples: int = 4
    """Completions per prompt."""
    epochs: int = 1
    """Passes over a rollout before the next rollout."""
    kl: RewardKL = field(default_factory=RewardKL)
    stop_penalty: float = 0.0
    """Subtracted from the reward of a completion that did not stop."""
    normalize: bool = False
    """Normalize rewards by the mean and standard deviation of all rewards of the run so far."""
    value: ValueModelSettings | None = None
    """A value model, as in InstructGPT's PPO. Each token then has its own advantage."""
    execution: Execution = field(default_factory=Execution)
    """Limits for a reward that runs the model's programs. By default running them is not allowed."""
    ramp: Mapping[str, Ramp] = field(default_factory=dict[str, Ramp])
    """Schedules for settings of the objective."""

    def __post_init__(self) -> None:
        require(self.rollouts is None or self.rollouts > 0, "rollouts must be ≥ 1")
        require(self.samples > 0 and self.epochs > 0, "samples and epochs must be ≥ 1")
        require(self.stop_penalty >= 0, "stop_penalty must be ≥ 0")
        parse_sources(self.rewards, "reward", self.judge_place)

    @property
    def rewards(self) -> tuple[RewardSource, ...]:
        """The sources of the reward, with their weights."""
        return (RewardSource(source=self.reward),) if isinstance(self.reward, str) else self.reward

    def steps_per_rollout(self, batch_size: int) -> int:
        """Optimizer steps per rollout. Raises ValueError if steps do not divide it evenly."""
        size = self.rollouts or batch_size
        even = size % batch_size == 0
        require(even, f"algorithm.rollouts must be a multiple of training.batch_size ({batch_size})")
        return self.epochs * size // batch_size

    draws_drafts = True
    answers_rows = True

    @property
    def is_rewarded(self) -> bool:
        return True

    @property
    def passes(self) -> int:
        return self.epochs

    @property
    def needs_reference(self) -> bool:
        return bool(self.kl.coefficient)

    @property
    def value_model(self) -> ValueModelSettings | None:
        return self.value

    def refuse_misfit(self, recipe: Sections) -> None:
        rolled_out = recipe.objective.data_kind == "prompts"
        require(rolled_out, "algorithm policy_gradient needs objective ppo, grpo, rloo or reinforce")
        self.refuse_objective(recipe.objective, recipe.training.batch_size)
        drawn, how = (1.0, 1.0, 0, False), recipe.sampling
        own = (how.temperature, how.top_p, how.top_k, how.use_generation_config) == drawn
        require(own, "sampling must draw from the policy itself: temperature 1, top_p 1, top_k 0")
        refuse_fixed_rows(recipe, "policy_gradient")

    def build(self, run: Run) -> PolicyGradientAlgorithm:
        columns = {**run.providers, OLD: old_logps(run.policy, run.packing)}
        if run.value_model is not None:
            columns[VALUE] = old_values(run.value_model, run.packing)
        return PolicyGradientAlgorithm(
            settings=self,
            tasks=run.groups["train"],
            objective=run.objective,
            sampler=run.sampler(),
            rewards=run.rewards,
            columns=columns,
            batch_size=run.batch_size,
            seed=run.seed,
            steps=run.steps,
        )

    def refuse_objective(self, objective: Objective, batch_size: int) -> None:
        """Raise ValueError for an objective that cannot use such rollouts."""
        stale = self.steps_per_rollout(batch_size) > 1
        fresh = "old_logp" in objective.requires
        lacking = "a rollout serves one step only: this objective has no ratio (clip)"
        require(fresh or not stale, f"algorithm.rollouts and epochs: {lacking}")
        baseline, scale = objective.comparison
        if self.value is not None:
            fine = "algorithm.value needs objective ppo: the others have one advantage for a whole completion"
            require(objective.token_advantages, fine)
            require(baseline is None, "objective.baseline: with algorithm.value the value model is the baseline")
            require(scale != "group", "objective.scale: with algorithm.value choose rollout or none")
            return
        compared = baseline in (None, "group", "leave_one_out") or scale == "group"
        require(
            self.samples > 1 or not compared,
            "algorithm.samples must be ≥ 2: rewards are compared with those of their prompt",
        )


@dataclass(kw_only=True)
class PolicyGradientAlgorithm(Algorithm):
    """`tasks` are groups without branches. `columns` provide `old_logp` (of the current policy), `ref_logp`, and
    `old_value` with a value model."""

    settings: PolicyGradient
    tasks: Sequence[Group]
    objective: Objective
    sampler: Sampler
    rewards: Rewards
    columns: Mapping[str, Provider]
    batch_size: int
    seed: int
    steps: int

    def __post_init__(self) -> None:
        refuse_bad_ramps(self.objective, self.settings.ramp)
        self.settings.refuse_objective(self.objective, self.batch_size)
        self.size = self.settings.rollouts or self.batch_size
        if self.size > len(self.tasks):
            raise RecipeError(
                f"a rollout of {self.size} prompts would ask some of the {len(self.tasks)} twice, and hear the same",
                where="training.batch_size" if self.settings.rollouts is None else "algorithm.rollouts",
                remedy="ask for fewer prompts and more samples",
            )
        self.steps_per_rollout = self.settings.steps_per_rollout(self.batch_size)
        self.order = Order(len(self.tasks), self.seed)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """Sample and rate once per rollout; train on one batch of the rollout per step."""
        rollout, age = divmod(step, self.steps_per_rollout)
        tasks = self._tasks(rollout)
        if age:
            said, figures = load_drafts(state["rollout"]), {}
            groups = [replace(task, branches=branches) for task, branches in zip(tasks, said, strict=True)]
        else:
            groups, figures = self.roll_out(tasks, step, state)
            if self.steps_per_rollout > 1:
                state["rollout"] = dump_drafts([g.branches for g in groups])
        batch = Order(self.size, self.seed + 1 + rollout).at(age, self.batch_size)
        objective = scheduled(self.objective, self.settings.ramp, step, self.steps)
        led = {name: getattr(objective, name) for name in self.settings.ramp}
        parts = [Part(chosen := [groups[i] for i in batch], objective)]
        if self.settings.value is not None:
            parts.append(Part(chosen, ValueRegression(self.settings.value.clip), trainable=VALUE_MODEL))
        return Round(step, parts, {**figures, "age": float(age), **led})

    def request(self, step: int) -> SampleRequest | None:
        rollout, age = divmod(step, self.steps_per_rollout)
        return None if age else self._request(self._tasks(rollout), step)

    def _tasks(self, rollout: int) -> list[Group]:
        return [self.tasks[i] for i in self.order.at(rollout, self.size)]

    def _request(self, tasks: Sequence[Group], step: int) -> SampleRequest:
        return SampleRequest([t.prompt for t in tasks], self.settings.samples, (self.seed, step))

    def roll_out(
        self, tasks: Sequence[Group], step: int, state: dict[str, Any]
    ) -> tuple[list[Group], dict[str, float]]:
        """The policy's samples of each task with all columns that the objective requires, and metrics."""
        rows = self._request(tasks, step).drawn_by(self.sampler)
        groups = [
            replace(task, branches=tuple(Branch(d.tokens, Role.DRAFT).with_columns(d.columns) for d in completions))
            for task, completions in zip(tasks, rows, strict=True)
        ]
        for column in self.rollout_columns():
            groups = self.columns[column](groups)
        said = self.rewards.rate(groups)
        rewards = _vectors(self.rewards.total(said))
        cut_off = _vectors([[float(d.truncated) for d in completions] for completions in rows])
        scores = [without_stop(r, c, self.settings.stop_penalty) for r, c in zip(rewards, cut_off, strict=True)]
        figures = _figures(rewards, cut_off) | sampler_metrics(self.sampler)
        if len(said) > 1:
            figures |= {f"reward/{name}": torch.cat(_vectors(rated)).mean().item() for name, rated in said.items()}
        if self.settings.normalize:
            seen = Moments(**state.get("rewards", {})).with_more(torch.cat(scores))
            scores, state["rewards"] = [seen.standard(s) for s in scores], vars(seen)
        if self.settings.kl.coefficient:
            away = [d.sum() for g in groups for d in map(_logratio, g.branches)]
            figures |= {"kl": torch.stack([k1(d) for d in away]).mean().item()}
            figures |= {"kl_coefficient": self.coefficient(state)}
        groups = self.with_advantages(groups, scores, self.coefficient(state))
        return groups, figures | (value_metrics(groups) if self.settings.value else {})

    def with_advantages(self, groups: list[Group], scores: list[Tensor], coefficient: float) -> list[Group]:
        """The column `advantage`. With a value model it is per token, with the column `return`; without one it is per
        completion, compared with others. `scores` are [n] per group."""
        baseline, scale = self.objective.comparison
        kls = [[self.kl(branch) for branch in group.branches] for group in groups]
        if self.settings.value is not None:
            groups = with_gae(groups, scores, kls, coefficient, self.settings.value)
            return whitened_tokens(groups) if scale == "rollout" else groups
        whole = [torch.stack([kl.sum() for kl in row]) for row in kls]
        shaped = [kl_shaped(s, kl, coefficient) for s, kl in zip(scores, whole, strict=True)]
        found = advantages_of(shaped, baseline or "leave_one_out", scale)
        return [g.with_columns([{"advantage": a} for a in row.tolist()]) for g, row in zip(groups, found, strict=True)]

    def rollout_columns(self) -> list[str]:
        """Token columns that a rollout needs."""
        kl = ("old_logp", "ref_logp") if self.settings.kl.coefficient else ()
        value = (VALUE,) if self.settings.value else ()
        return sorted({*kl, *value, *self.objective.requires} - {"advantage"})

    def kl(self, branch: Branch) -> Tensor:
        """The estimated KL [n] to the reference model at each token, in nats, at sampling time; 0 without a KL
        penalty."""
        if not self.settings.kl.coefficient:
            return torch.zeros(len(branch.tokens), dtype=torch.float64)
        return ESTIMATORS[self.settings.kl.estimator](_logratio(branch))

    def coefficient(self, state: Mapping[str, Any]) -> float:
        """The KL coefficient of this rollout."""
        return state.get("kl_coefficient", self.settings.kl.coefficient)

    def observe(self, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """Adapts the coefficient after a rollout, so that the KL approaches the target."""
        kl = self.settings.kl
        if kl.target is not None and not metrics["age"]:
            now = self.coefficient(state)
            state["kl_coefficient"] = adapted(now, metrics["kl"], kl.target, metrics["drafts"], kl.horizon)


def _vectors(rows: Sequence[Sequence[float]]) -> list[Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


def _logratio(branch: Branch) -> Tensor:
    """log π − log π_ref [n] of the tokens at sampling time. The subtraction is per token, so that equal tokens cancel
    exactly."""
    return (branch.token_columns["old_logp"] - branch.token_columns["ref_logp"]).double()


def _figures(rewards: Sequence[Tensor], cut_off: Sequence[Tensor]) -> dict[str, float]:
    """Metrics of a rollout: number of samples, mean reward and its standard deviation, truncated samples, and
    `zero_variance`, the share of prompts whose completions all have the same reward, so that their advantages are 0."""
    every, silent = torch.cat(list(rewards)), [float((r == r[0]).all()) for r in rewards]
    return {
        "drafts": float(len(every)),
        "reward": every.mean().item(),
        "reward_std": every.std(correction=0).item(),
        "truncated": torch.cat(list(cut_off)).mean().item(),
        "zero_variance": sum(silent) / len(silent),
    }
