"""A round of drafts that are known, judged by numbers that are known: what is paired, weighed and told, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch

from support.pdpo_toy import Scripted, draft, tasks
from twofold.algorithms.online import Online, OnlineAlgorithm
from twofold.algorithms.policy_gradient import PolicyGradient, PolicyGradientAlgorithm, RewardKL
from twofold.algorithms.schedules import Ramp
from twofold.batch import Branch, Group, Role
from twofold.errors import RecipeError
from twofold.objectives import DPO, GRPO, PPO, RLOO, Reinforce
from twofold.objectives.xpo import XPO
from twofold.rewards.rollouts import DraftScores, Rewards

SCRIPT = [[draft(1, 0), draft(2, 3, 0), draft(5, truncated=True)], [draft(4, 0), draft(4, 0), draft(6, 0)]]
SCORES = [[0.2, 0.9, 0.5], [1.0, 0.0, 1.0]]


@dataclass(frozen=True)
class Judge:
    """Says these numbers, whatever it is shown."""

    scores: Sequence[Sequence[float] | None]
    shares: bool = False
    figures: Any = None

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        return DraftScores(list(self.scores)[: len(groups)], self.figures or {})


def online(by: Judge | None, **settings: Any) -> OnlineAlgorithm:
    made = Online(**{"samples": 3, **settings})
    return OnlineAlgorithm(
        settings=made, tasks=tasks(4), objective=DPO(beta=0.2), sampler=Scripted(SCRIPT), judge=by,
        reference_sampler=Scripted([[draft(9, 9, 0)]]) if made.reference_samples else None, batch_size=2, seed=3,
        steps=6,
    )  # fmt: skip


def pairs(groups: Sequence[Group]) -> list[tuple[list[int], list[int]]]:
    for group in groups:
        assert [b.role for b in group.branches] == [Role.CHOSEN, Role.REJECTED]
    return sorted(tuple(b.tokens.tolist() for b in g.branches) for g in groups)  # type: ignore[misc]  # of two


def test_the_best_with_the_worst() -> None:
    """Of the second prompt the best and the worst say the same: a tie. Chosen is a token longer than rejected."""
    round = online(Judge(SCORES, figures={"judged": 4.0})).round(0, {})
    (part,) = round.parts
    assert pairs(part.groups) == [([2, 3, 0], [1, 0])]
    assert [b.columns for b in part.groups[0].branches] == [
        {"truncated": 0.0, "from_reference": 0.0, "win_rate": rate, "margin": pytest.approx(0.7)} for rate in (1.0, 0.0)
    ]
    assert round.figures == {
        "drafts": 6.0, "truncated": pytest.approx(1 / 6), "reward": pytest.approx(3.6 / 6),
        "reward_std": pytest.approx(((0.16 + 0.09 + 0.01 + 0.16 + 0.36 + 0.16) / 6) ** 0.5), "judged": 4.0,
        "pairs": 1.0, "ties": 1.0, "no_pair": 0.5, "chosen_length_excess": 1.0, "age": 0.0,
    }  # fmt: skip


def test_every_two_and_some_of_them() -> None:
    """Of the first prompt three pairs; of the second the two that say different things, one of them no win."""
    play = online(Judge(SCORES), pairs="all")
    assert pairs(play.round(0, {}).parts[0].groups) == [
        ([2, 3, 0], [1, 0]), ([2, 3, 0], [5]), ([5], [1, 0]), ([6, 0], [4, 0]),
    ]  # fmt: skip
    assert [play.round(0, {}).figures[name] for name in ("pairs", "ties", "no_pair")] == [4.0, 2.0, 0.0]
    three = online(Judge(SCORES), pairs="all", most=3).round(0, {}).parts[0].groups
    assert pairs(three) == pairs(play.round(0, {}).parts[0].groups)
    one = online(Judge(SCORES), pairs="all", most=1).round(0, {}).parts[0].groups
    assert len(one) == len({g.name for g in one}) == 2
    assert set(map(str, pairs(one))) < set(map(str, pairs(three)))


def test_a_penalty_and_a_judge_without_a_verdict() -> None:
    """0.5 less for the draft that never stopped: 0.2 is no longer the worst."""
    round = online(Judge([SCORES[0], None]), stop_penalty=0.5).round(0, {})
    assert pairs(round.parts[0].groups) == [([2, 3, 0], [5])]
    assert round.parts[0].groups[0].branches[0].columns["margin"] == pytest.approx(0.9)
    figures = {name: round.figures[name] for name in ("unjudged", "no_pair", "ties", "reward")}
    assert figures == {"unjudged": 0.5, "no_pair": 0.5, "ties": 0.0, "reward": pytest.approx(1.6 / 3)}
    silent = online(Judge([None, None])).round(0, {})
    assert (silent.figures["unjudged"], silent.figures["no_pair"], "reward" in silent.figures) == (1.0, 1.0, False)
    assert "chosen_length_excess" not in silent.figures


def test_a_judge_of_shares_says_win_rates_itself() -> None:
    round = online(Judge(SCORES, shares=True)).round(0, {})
    assert [b.columns["win_rate"] for b in round.parts[0].groups[0].branches] == [0.9, 0.2]
    assert "reward" not in round.figures


def test_the_ground_truth_as_judge() -> None:
    """Every draft loses to it, but the one that says the same."""
    play = online(None, judge="truth", samples=3)
    first = play.tasks[play.order.at(0, 2)[0]]
    play.tasks = [replace(t, truth=torch.tensor([5])) if t is first else t for t in play.tasks]
    round = play.round(0, {})
    rejected = sorted(g.branches[1].tokens.tolist() for g in round.parts[0].groups)
    assert rejected == [[1, 0], [2, 3, 0], [4, 0], [4, 0], [6, 0]]
    assert [g.branches[0].columns for g in round.parts[0].groups] == [{}] * 5
    assert (round.figures["pairs"], round.figures["ties"]) == (5.0, 1.0)


def test_who_is_asked_and_what_with() -> None:
    """The policy with the run's seed, the reference with the next one; optimism weighs what the reference drew."""
    play = online(Judge([[0.0, 1.0, 2.0, 3.0]] * 2), reference_samples=1, alpha=0.25, ramp={"beta": Ramp(to=0.7)})
    (part,) = play.round(5, {}).parts
    for sampler, samples, seed in ((play.sampler, 3, (3, 5)), (play.reference_sampler, 1, (4, 5))):
        ((prompts, number, noise),) = sampler.asked  # type: ignore[union-attr]  # Scripted
        assert (number, noise) == (samples, seed)
        asked = [play.tasks[i].prompt for i in play.order.at(5, 2)]
        assert all(torch.equal(a, b) for a, b in zip(prompts, asked, strict=True))
    assert part.objective == XPO(DPO(beta=0.7), 0.25)
    assert [b.columns["from_reference"] for b in part.groups[0].branches] == [1.0, 0.0]
    figures = play.round(0, {}).figures
    assert (figures["alpha"], figures["beta"]) == (0.25, pytest.approx(0.2))


def test_optimism_that_decays_is_gone_in_the_last_round() -> None:
    play = online(Judge(SCORES), reference_samples=1, alpha=0.3, alpha_decay="linear")
    assert [replace(play, steps=4).alpha(n) for n in range(4)] == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert replace(play, steps=1).alpha(0) == 0.3


def test_chance_is_of_seed_and_step() -> None:
    def drawn(seed: int, step: int) -> list[float]:
        chance = replace(online(Judge(SCORES)), seed=seed)._chance(step)
        return [next(chance) for _ in range(1100)]

    first = drawn(0, 0)
    assert (first, min(first) >= 0, max(first) < 1) == (drawn(0, 0), True, True)
    assert len({tuple(drawn(s, t)) for s in range(3) for t in range(3)}) == 9
    assert sum(first) / 1100 == pytest.approx(0.5, abs=0.03)


def test_a_round_of_too_many_prompts_is_refused() -> None:
    assert online(Judge(SCORES), prompts=4).size == 4
    for settings, where in (({"prompts": 6}, "algorithm.prompts"), ({}, "training.batch_size")):
        made, play = Online(samples=3, **settings), online(Judge(SCORES))
        with pytest.raises(RecipeError, match=r"ask some of the \d twice.*\n  → ask for fewer prompts and") as caught:
            replace(play, settings=made, tasks=tasks(4 if settings else 1))
        assert caught.value.where == where


@dataclass(frozen=True)
class Rated:
    """Says these numbers for drafts."""

    scores: Sequence[Sequence[float]]

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [list(row) for row in self.scores][: len(groups)]


def columns(name: str, value: float, groups: Sequence[Group]) -> list[Group]:
    return [g.with_columns([{name: torch.full((len(b.tokens),), value).double()} for b in g.branches]) for g in groups]


def gradient(objective: Any, *sources: tuple[str, float, Any], **settings: Any) -> PolicyGradientAlgorithm:
    rated = sources or (("a", 1.0, Rated(SCORES)),)
    return PolicyGradientAlgorithm(
        settings=PolicyGradient(**{"samples": 3, **settings}), tasks=tasks(4), objective=objective,
        sampler=Scripted(SCRIPT), rewards=Rewards(list(rated)), batch_size=2, seed=3, steps=6,
        columns={name: partial(columns, name, value) for name, value in (("old_logp", -1.0), ("ref_logp", -1.5))},
    )  # fmt: skip


def advantages(groups: Sequence[Group]) -> list[list[float]]:
    """In the order of the script, whatever the order of a batch."""
    ordered = sorted(groups, key=lambda g: g.branches[0].tokens.tolist())
    return [[b.columns["advantage"] for b in g.branches] for g in ordered]


def test_rewards_less_those_of_the_others() -> None:
    """Of 0.2, 0.9 and 0.5 less 0.4 for the one that never stopped: 0.2, 0.9 and 0.1, whose mean is 0.4."""
    play = gradient(RLOO(), stop_penalty=0.4)
    round = play.round(1, {})
    assert advantages(round.parts[0].groups)[0] == pytest.approx([-0.3, 0.75, -0.45])
    assert advantages(round.parts[0].groups)[1] == pytest.approx([0.5, -1.0, 0.5])
    spread = ((0.16 + 0.09 + 0.01 + 0.16 + 0.36 + 0.16) / 6) ** 0.5
    assert round.figures == {
        "drafts": 6.0, "reward": pytest.approx(0.6), "reward_std": pytest.approx(spread),
        "truncated": pytest.approx(1 / 6), "zero_variance": 0.0, "age": 0.0,
    }  # fmt: skip
    ((_, samples, seed),) = play.sampler.asked  # type: ignore[attr-defined]  # Scripted
    assert (samples, seed) == (3, (3, 1))
    alike = gradient(RLOO(), ("a", 1.0, Rated([[1.0] * 3, SCORES[1]]))).round(0, {})
    assert alike.figures["zero_variance"] == 0.5


def test_the_kl_is_paid_of_every_token() -> None:
    """Half a nat a token at 0.1: 0.1 for two tokens, 0.15 for three, 0.05 for one; twelve tokens of six drafts."""
    play = gradient(Reinforce(baseline="none"), kl=RewardKL(coefficient=0.1))
    round = play.round(0, {})
    assert advantages(round.parts[0].groups)[0] == pytest.approx([0.1, 0.75, 0.45])
    assert (round.figures["kl"], round.figures["kl_coefficient"]) == (pytest.approx(0.5 * 12 / 6), 0.1)
    square = gradient(Reinforce(baseline="none"), kl=RewardKL(coefficient=0.1, estimator="k2")).round(0, {})
    assert advantages(square.parts[0].groups)[0] == pytest.approx([0.2 - 0.025, 0.9 - 0.0375, 0.5 - 0.0125])
    assert square.figures["kl"] == pytest.approx(1.0)  # told by k1, whatever is paid
    free = gradient(Reinforce(baseline="none"))
    assert free.kl(Branch(torch.tensor([1, 2]), Role.DRAFT)).tolist() == [0.0, 0.0]
    assert "kl" not in free.round(0, {}).figures


def test_a_coefficient_that_is_led_is_led_after_a_rollout() -> None:
    """A nat where two are wanted counts as 0.2 too little: less by 0.2·(6/60)."""
    play, state = gradient(RLOO(), kl=RewardKL(coefficient=0.1, target=2.0, horizon=60.0)), dict[str, Any]()
    play.observe({"age": 1.0}, state)
    assert state == {}
    play.observe({"age": 0.0, "kl": 1.0, "drafts": 6.0}, state)
    assert state == {"kl_coefficient": pytest.approx(0.1 * (1 - 0.2 * 0.1))}
    assert play.coefficient(state) == state["kl_coefficient"]
    fixed = dict[str, Any]()
    gradient(RLOO(), kl=RewardKL(coefficient=0.1)).observe({"age": 0.0, "kl": 9.0, "drafts": 6.0}, fixed)
    assert fixed == {}


def test_several_rewards_are_told_each() -> None:
    both = ("a", 2.0, Rated(SCORES)), ("b", -1.0, Rated([[1.0] * 3, [0.0] * 3]))
    figures = gradient(RLOO(), *both).round(0, {}).figures
    assert (figures["reward/a"], figures["reward/b"]) == pytest.approx((0.6, 0.5))
    assert figures["reward"] == pytest.approx(0.7)


def test_a_rollout_serves_several_steps_under_what_changes() -> None:
    play, state = gradient(PPO(), rollouts=4, epochs=2, ramp={"clip": Ramp(to=0.7)}), dict[str, Any]()
    play = replace(play, rewards=Rewards([("a", 1.0, Rated(SCORES * 2))]))
    rounds = [play.round(step, state) for step in range(4)]
    assert [r.figures["age"] for r in rounds] == [0.0, 1.0, 2.0, 3.0]
    assert [r.figures["clip"] for r in rounds] == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert [r.parts[0].objective.clip for r in rounds] == pytest.approx([0.2, 0.3, 0.4, 0.5])  # type: ignore[attr-defined]  # PPO's
    assert ["reward" in r.figures for r in rounds] == [True, False, False, False]
    assert len(play.sampler.asked) == 1  # type: ignore[attr-defined]  # Scripted
    fresh: dict[str, Any] = {}
    gradient(GRPO()).round(0, fresh)
    assert fresh == {}


def test_a_rollout_of_too_many_prompts_is_refused() -> None:
    for settings, where in (({"rollouts": 6}, "algorithm.rollouts"), ({}, "training.batch_size")):
        made, play = PolicyGradient(samples=3, **settings), gradient(PPO())
        with pytest.raises(RecipeError, match=r"ask some of the \d twice.*\n  → ask for fewer prompts and") as caught:
            replace(play, settings=made, tasks=tasks(4 if settings else 1))
        assert caught.value.where == where
