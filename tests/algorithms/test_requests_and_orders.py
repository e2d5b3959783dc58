"""What each step samples, in which order rounds are used, what stays in the state, and the precision of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch

from support import pdpo_toy
from support.pdpo_toy import Scripted, draft, tasks
from twofold.algorithms import online as online_module
from twofold.algorithms.draft_serialization import dump_drafts, load_drafts
from twofold.algorithms.gae import VALUE_MODEL, ValueModelSettings, value_metrics, with_gae
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.algorithms.online import Online, OnlineAlgorithm
from twofold.algorithms.pdpo import PDPO
from twofold.algorithms.policy_gradient import PolicyGradient, PolicyGradientAlgorithm
from twofold.algorithms.preference_pairs import sides
from twofold.algorithms.schedules import Ramp
from twofold.batch import Branch, Group, Role
from twofold.data.order import Order
from twofold.errors import RecipeError
from twofold.objectives import DPO, PPO, RLOO
from twofold.objectives.importance import OF_DRAFT
from twofold.objectives.pdpo import GeneratorSettings
from twofold.objectives.ppo import ValueRegression
from twofold.rewards.rollouts import DraftScores, Rewards
from twofold.sampling.base import Sample, SampleRequest
from twofold.training.column_providers import VALUE

SCRIPT = [[draft(1, 0), draft(2, 3, 0)], [draft(4, 0), draft(5, 0)]]


@dataclass(frozen=True)
class Rising:
    """Rates the samples of each prompt 0, 1, 2, …"""

    shares: bool = False

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[float(i) for i in range(len(g.branches))] for g in groups]

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        return DraftScores(list(self.rate(groups)))


def online(sampler: Any = None, **settings: Any) -> OnlineAlgorithm:
    return OnlineAlgorithm(
        settings=Online(**settings), tasks=tasks(6), objective=DPO(), sampler=sampler or Scripted(SCRIPT),
        judge=Rising(), batch_size=2, seed=3, steps=9,
    )  # fmt: skip


def column(name: str, value: float, groups: Sequence[Group]) -> list[Group]:
    return [g.with_columns([{name: torch.full((len(b.tokens),), value)} for b in g.branches]) for g in groups]


def gradient(objective: Any = None, **settings: Any) -> PolicyGradientAlgorithm:
    known = {name: partial(column, name, -1.0) for name in ("old_logp", "ref_logp", VALUE)}
    return PolicyGradientAlgorithm(
        settings=PolicyGradient(samples=2, **settings), tasks=tasks(6), objective=objective or PPO(),
        sampler=Scripted(SCRIPT), rewards=Rewards([("a", 1.0, Rising())]), columns=known, batch_size=2, seed=3, steps=9,
    )  # fmt: skip


def wants(request: SampleRequest | None, rows: Sequence[Group], places: list[int], samples: int, seed: Any) -> None:
    assert request is not None
    assert all(torch.equal(p, rows[i].prompt) for p, i in zip(request.prompts, places, strict=True))
    assert (request.samples, request.seed) == (samples, seed)


@pytest.mark.parametrize("make", [lambda: online(prompts=4, epochs=2), lambda: gradient(rollouts=4, epochs=2)])
def test_a_round_samples_in_its_first_step(make: Any) -> None:
    """Two batches, two passes: of every four steps the first."""
    play = make()
    assert [play.request(step) is not None for step in range(9)] == [step % 4 == 0 for step in range(9)]
    for step, number in ((0, 0), (4, 1), (8, 2)):
        wants(play.request(step), play.tasks, Order(6, 3).at(number, 4), 2, (3, step))


def test_the_generator_samples_where_it_trains_on_new_samples() -> None:
    """After three steps of the discriminator, in every second step; or in its own turns."""
    play = pdpo_toy.algorithm(PDPO(warmup=3, prompts=2, samples=2, reuse_steps=2), Scripted(SCRIPT))
    assert [play.request(step) is not None for step in range(8)] == [False] * 3 + [True, False] * 2 + [True]
    wants(play.request(5), play.tasks, Order(12, 4).at(1, 2), 2, (3, 5))
    taking = pdpo_toy.algorithm(PDPO(warmup=1, schedule="alternate", turns=(2, 1), prompts=2), Scripted(SCRIPT))
    assert [taking.request(step) is not None for step in range(8)] == [s in (3, 6) for s in range(8)]
    wants(taking.request(6), taking.tasks, Order(12, 4).at(1, 2), 1, (3, 6))


@pytest.mark.parametrize(("make", "key"), [
    (lambda: online(prompts=4, epochs=2), "pairs"), (lambda: gradient(rollouts=4, epochs=2), "rollout"),
])  # fmt: skip
def test_batches_of_a_round_are_in_an_order_of_its_own(make: Any, key: str) -> None:
    """That of the seed, and one more for each round; passes differ."""
    play, state = make(), dict[str, Any]()
    for step in range(8):
        number, age = divmod(step, 4)
        rows = Order(6, 3).at(number, 4)
        places = Order(4, 3 + 1 + number).at(age, 2)
        (part,) = play.round(step, state).parts
        assert [g.name for g in part.groups] == [f"task {rows[i]}" for i in places]
    assert list(state) == [key]
    assert [len(row) for row in state[key]] == [2] * 4


def test_a_round_of_one_step_leaves_no_state() -> None:
    for play in (online(), gradient()):
        state = dict[str, Any]()
        play.round(0, state)
        assert state == {}
    used = pdpo_toy.algorithm(PDPO(warmup=0, prompts=2), Scripted(SCRIPT))
    state = dict[str, Any]()
    assert "age" not in used.round(0, state).figures
    assert state == {}


def test_chance_is_drawn_by_seed_and_step() -> None:
    noise = torch.Generator().manual_seed(3_000_014)
    want = [x for _ in range(2) for x in torch.rand(1024, generator=noise, dtype=torch.float64).tolist()]
    assert list(islice(online()._chance(5), 1500)) == want[:1500]


def test_a_penalty_is_taken_to_the_last_digit() -> None:
    branches = tuple(Branch(torch.tensor([i]), Role.DRAFT, {}, {"truncated": float(i > 1)}) for i in (1, 2))
    group = Group("g", torch.tensor([1]), branches)
    (pair,), ties = online(stop_penalty=0.1).pairs(group, [0.3, 0.7], iter([0.5]))
    assert ties == 0
    assert [b.columns["margin"] for b in pair.branches] == [(0.7 - 0.1) - 0.3] * 2
    assert [int(b.tokens) for b in pair.branches] == [2, 1]


@pytest.mark.parametrize("weighted", [True, False])
def test_weights_of_a_server_are_columns_of_all_samples(weighted: bool) -> None:
    """Those that come from this process count once."""
    of = lambda weight: {OF_DRAFT: weight} if weighted else {}  # noqa: E731  # short
    own = [[Sample(torch.tensor([n, 0]), torch.zeros(2), False, of(0.5 * n)) for n in (1, 2)]]
    play = online(Scripted(own), reference_samples=1, samples=2)
    play = replace(play, reference_sampler=Scripted([[draft(9, 0, truncated=True)]]))
    (first, _), figures = play.draft(play.tasks[:2], 0)
    assert [b.columns.get(OF_DRAFT) for b in first.branches] == ([0.5, 1.0, 1.0] if weighted else [None] * 3)
    assert [b.columns["from_reference"] for b in first.branches] == [0.0, 0.0, 1.0]
    assert figures == {"drafts": 6.0, "truncated": pytest.approx(1 / 3)}


def test_a_value_model_trains_on_the_same_groups_with_its_clip() -> None:
    play = gradient(value=ValueModelSettings(clip=0.35), epochs=2)
    policy, value = play.round(0, {}).parts
    assert (value.objective, value.trainable, value.weight) == (ValueRegression(0.35), VALUE_MODEL, 1.0)
    assert (policy.trainable, policy.groups is value.groups) == ("policy", True)


def test_without_a_penalty_the_kl_is_zero_in_double_precision() -> None:
    kl = gradient(RLOO()).kl(Branch(torch.tensor([1, 2, 3]), Role.DRAFT))
    assert (kl.tolist(), kl.dtype) == ([0.0, 0.0, 0.0], torch.float64)


@pytest.mark.parametrize("side", ["truth", "both"])
def test_columns_of_a_ground_truth_are_unknown_in_double_precision(side: Any) -> None:
    play = pdpo_toy.algorithm(
        PDPO(warmup=0, prompts=1, generator=GeneratorSettings(gradient_to=side)), Scripted([[draft(1, 2, 0)]])
    )
    (group,) = play.round(0, {}).parts[1].groups
    truth = group.branches[-1]
    column = truth.token_columns["old_logp"]
    assert (column.dtype, len(column), bool(column.isnan().all())) == (torch.float64, len(truth.tokens), True)
    assert truth.columns == {}


def test_a_ramp_is_refused_by_its_end() -> None:
    """Halfway the value is still fine."""
    for to in (-0.1, 0.0):
        with pytest.raises(RecipeError) as refused:
            OfflineAlgorithm([], DPO(beta=0.3), batch_size=1, seed=0, steps=9, ramps={"beta": Ramp(to=to)})
        assert str(refused.value) == (
            "algorithm.ramp: leads to a value that DPO refuses: beta must be > 0\n  → let `to` be a value that it takes"
        )


@pytest.mark.parametrize(
    ("ramp", "values"),
    [
        (Ramp(to=3.0, over=2.0), [1.0, 3.0, 3.0, 3.0]), (Ramp(to=3.0, over=1.0), [1.0, 5 / 3, 7 / 3, 3.0]),
        (Ramp(to=3.0, over=0.5), [1.0, 3.0, 3.0, 3.0]), (Ramp(to=0.0, over=3.0), [1.0, 0.5, 0.0, 0.0]),
        (Ramp(to=3.0, over=4.0, shape="cosine"), [1.0, 1.5, 2.5, 3.0]),
    ],
)  # fmt: skip
def test_a_ramp_begins_at_the_setting_and_ends_in_its_last_step(ramp: Ramp, values: list[float]) -> None:
    assert [ramp.at(1.0, step, 4) for step in range(4)] == pytest.approx(values)
    with pytest.raises(ValueError) as refused:
        Ramp(to=1.0, over=-0.5)
    assert str(refused.value) == "over must be > 0"


def test_two_branches_take_their_sides() -> None:
    one, two = (Branch(torch.tensor([n]), Role.DRAFT, columns={"x": float(n)}) for n in (1, 2))
    assert [(b.role, b.columns) for b in sides(two, one)] == [(Role.CHOSEN, {"x": 2.0}), (Role.REJECTED, {"x": 1.0})]


@pytest.mark.parametrize("turns", [(-1, 1), (1, -1), (0, 1), (1, 0)])
def test_each_side_has_a_turn(turns: tuple[int, int]) -> None:
    with pytest.raises(ValueError) as refused:
        PDPO(turns=turns)
    assert str(refused.value) == "both turns must be ≥ 1"


def test_figures_of_rewards_are_in_double_precision() -> None:
    found = online_module._of_scores([[0.1, 0.2], None], shares=False)
    assert found["reward"] == pytest.approx(0.15, rel=1e-14)
    assert found["reward_std"] == pytest.approx(0.05, rel=1e-12)
    assert found["unjudged"] == 0.5


def test_samples_without_tokens_are_read_again() -> None:
    empty = Branch(
        torch.tensor([], dtype=torch.int64), Role.DRAFT, {"x": torch.tensor([], dtype=torch.float64)}, {"y": 1.0}
    )
    ((again,), ()) = load_drafts(dump_drafts([(empty,), ()]))
    assert (again.tokens.dtype, again.token_columns["x"].dtype) == (torch.int64, torch.float64)
    assert (len(again.tokens), again.role, again.columns) == (0, Role.DRAFT, {"y": 1.0})


def test_advantages_and_their_metrics_are_in_double_precision() -> None:
    """From columns in single precision: λ = 0, γ = 1, so that an advantage is r + V(s') − V(s)."""
    branch = Branch(torch.tensor([1, 2]), Role.DRAFT, {VALUE: torch.tensor([0.1, 0.7])})
    kl, score = torch.tensor([0.3, 0.9]), torch.tensor([0.2], dtype=torch.float64)
    (first, last), (one, two) = torch.tensor([0.1, 0.7]).double().tolist(), kl.double().tolist()
    (group,) = with_gae([Group("g", torch.tensor([3]), (branch,))], [score], [[kl]], 0.1, ValueModelSettings(
        gae_lambda=0.0))  # fmt: skip
    found = group.branches[0].token_columns
    rewards = [-0.1 * one, -0.1 * two + 0.2]
    assert found["advantage"].tolist() == pytest.approx([rewards[0] + last - first, rewards[1] - last], rel=1e-13)
    assert found["return"].tolist() == pytest.approx([rewards[0] + last, rewards[1]], rel=1e-13)
    figures = value_metrics([group])
    assert figures["value"] == pytest.approx((first + last) / 2, rel=1e-13)
    gaps = [rewards[0] + last - first, rewards[1] - last]
    returns = [rewards[0] + last, rewards[1]]
    assert figures["return"] == pytest.approx(sum(returns) / 2, rel=1e-13)
    explained = 1 - ((gaps[0] - gaps[1]) / (returns[0] - returns[1])) ** 2
    assert figures["explained"] == pytest.approx(explained, rel=1e-12)
