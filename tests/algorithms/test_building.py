"""Each algorithm is built of the parts of its run, and of no others."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support import tiny
from support.pdpo_toy import Scripted, draft, tasks
from twofold.algorithms.gae import ValueModelSettings
from twofold.algorithms.offline import Offline, OfflineAlgorithm
from twofold.algorithms.online import Online
from twofold.algorithms.pdpo import PDPO
from twofold.algorithms.policy_gradient import PolicyGradient, RewardKL
from twofold.algorithms.schedules import Ramp
from twofold.batch import Group
from twofold.data.order import Mixture, Order
from twofold.judges.gates import GateSettings
from twofold.models.packing import Packing
from twofold.objectives import DPO, GRPO, PPO, PDPOGenerator, Reinforce
from twofold.objectives.pdpo import GeneratorSettings
from twofold.rewards.rollouts import Rewards
from twofold.training.column_providers import OLD, VALUE

MIXED = Mixture(((0, 1, 2), (3, 4, 5)), (1.0, 3.0), 0)


class Always:
    """Rates every draft alike."""

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[1.0] * len(g.branches) for g in groups]


def a_run(objective: Any, rows: Sequence[Group], **changes: Any) -> Any:
    """What a run offers; each part is one of its kind, so that it can be told apart."""
    parts = {
        "objective": objective, "groups": {"train": rows, "generator": tasks(6), "heldout": tiny.pairs(1)},
        "providers": {"ref_logp": lambda groups: groups}, "batch_size": 2, "seed": 5, "steps": 9,
        "packing": Packing(tokens=60), "policy": tiny.policy(), "value_model": None,
        "rewards": Rewards([("always", 1.0, Always())]), "mixture": lambda: None,
        "sampler": lambda: OWN, "reference_sampler": lambda: OTHER,
        "server_judge": lambda kind, rubric: (kind.name, kind.argument, rubric), "gate": lambda how: ("gate", how),
    }  # fmt: skip
    return SimpleNamespace(**{**parts, **changes})


OWN, OTHER = Scripted([[draft(1, 0)]]), Scripted([[draft(2, 0)]])
RAMP = {"beta": Ramp(to=0.9)}


def test_offline() -> None:
    rows = tiny.pairs(6)
    made = Offline(ramp=RAMP).build(a_run(DPO(beta=0.3), rows))
    assert (made.groups, made.objective, made.batch_size, made.seed, made.steps) == (rows, DPO(beta=0.3), 2, 5, 9)
    assert (made.ramps, made.order, made.fixed_rows) == (RAMP, Order(6, 5), (rows, Order(6, 5)))
    part = made.round(3, {}).parts[0]
    assert [g.name for g in part.groups] == [rows[i].name for i in Order(6, 5).at(3, 2)]
    assert part.objective.beta == pytest.approx(0.3 + 3 / 8 * 0.6)  # type: ignore[attr-defined]  # DPO's
    mixed = Offline().build(a_run(DPO(), rows, mixture=lambda: MIXED))
    assert mixed.order == MIXED
    assert [g.name for g in mixed.round(1, {}).parts[0].groups] == [rows[i].name for i in MIXED.at(1, 2)]


def test_a_turn_and_a_step_are_not_the_same() -> None:
    """PDPO's discriminator takes its own rows in turn, under the objective as it is in the run's step."""
    rows = tiny.pairs(6)
    made = OfflineAlgorithm(rows, DPO(beta=0.1), batch_size=2, seed=5, steps=9, ramps=RAMP)
    part = made.part(1, 8)
    assert [g.name for g in part.groups] == [rows[i].name for i in Order(6, 5).at(1, 2)]
    assert (part.objective.beta, made.figures(8), made.figures(0)) == (0.9, {"beta": 0.9}, {"beta": 0.1})  # type: ignore[attr-defined]  # DPO's


def test_pdpo() -> None:
    rows = tiny.pairs(6)
    how = PDPO(ramp={**RAMP, "gamma": Ramp(to=0.5)}, generator=GeneratorSettings(form="softplus"), prompts=2)
    run = a_run(DPO(beta=0.3), rows)
    made = how.build(run)
    assert (made.settings, made.tasks, made.seed, made.steps, made.gate) == (how, run.groups["generator"], 5, 9, None)
    assert made.generator == PDPOGenerator(beta=0.3, form="softplus")
    assert made.sampler is OWN
    assert (made.pairs.groups, made.pairs.ramps, made.fixed_rows) == (rows, RAMP, (rows, Order(6, 5)))
    assert made.order == Order(6, 6)
    judge = GateSettings(source="reward:folder")
    gated = PDPO(generator=GeneratorSettings(gate="judge"), judge=judge).build(run)
    assert gated.gate == ("gate", judge)


def test_online() -> None:
    rows = tasks(6)
    run = a_run(DPO(beta=0.3), rows)
    how = Online(samples=1, reference_samples=1, prompts=4)
    made = how.build(run)
    assert (made.settings, made.tasks, made.objective, made.batch_size) == (how, rows, DPO(beta=0.3), 2)
    assert (made.seed, made.steps, made.size, made.steps_per_round, made.order) == (5, 9, 4, 2, Order(6, 5))
    assert (made.sampler is OWN, made.reference_sampler is OTHER, made.judge is run.rewards) == (True, True, True)
    alone = Online(judge="truth", samples=1).build(run)
    assert (alone.judge, alone.reference_sampler) == (None, None)
    served = Online(judge="llm:http://127.0.0.1:9/v1#m", rubric="mine").build(run)
    assert served.judge == ("llm", "http://127.0.0.1:9/v1#m", "mine")


def test_policy_gradient() -> None:
    """Old log-probabilities and old values come from the run's own policy and value model."""
    rows = tasks(6)
    run = a_run(GRPO(), rows)
    how = PolicyGradient(samples=2, rollouts=4)
    made = how.build(run)
    assert (made.settings, made.tasks, made.objective, made.batch_size) == (how, rows, GRPO(), 2)
    assert (made.seed, made.steps, made.size, made.steps_per_rollout, made.order) == (5, 9, 4, 2, Order(6, 5))
    assert (made.sampler is OWN, made.rewards is run.rewards, set(made.columns)) == (True, True, {"ref_logp", OLD})
    group = tiny.groups((3, 2, 4))[0]
    (told,) = made.columns[OLD]([group])
    for branch, logp in zip(told.branches, run.policy.logps([group])[0], strict=True):
        torch.testing.assert_close(branch.token_columns[OLD], logp)
    held = SimpleNamespace(
        values=lambda groups, packing: [[torch.full((len(b.tokens),), 7.0) for b in g.branches] for g in groups]
    )
    valued = PolicyGradient(value=ValueModelSettings()).build(a_run(PPO(), rows, value_model=held))
    (told,) = valued.columns[VALUE]([group])
    assert [b.token_columns[VALUE].tolist() for b in told.branches] == [[7.0] * 2, [7.0] * 4]


def test_the_columns_of_a_rollout_are_those_that_somebody_reads() -> None:
    def asked(how: dict[str, Any], objective: Any) -> list[str]:
        made = PolicyGradient(**how).build(a_run(objective, tasks(6)))
        return made.rollout_columns()

    assert asked({}, PPO()) == [OLD]
    assert asked({}, GRPO()) == [OLD, "ref_logp"]
    assert asked({}, GRPO(beta=0.0)) == [OLD]
    assert asked({"kl": RewardKL(coefficient=0.1)}, Reinforce()) == [OLD, "ref_logp"]
    assert asked({}, Reinforce()) == []
    assert asked({"value": ValueModelSettings()}, PPO()) == [OLD, VALUE]
