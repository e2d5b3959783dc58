"""Rewards into advantages: golden vectors, GAE against its definition, and what leave-one-out promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from torch import Tensor

from support.golden import expected, given
from support.scenes import near
from twofold.objectives.advantages import (
    Moments,
    adapted,
    advantages_of,
    gae,
    kl_shaped,
    kl_shaped_tokens,
    leave_one_out,
    of_group,
    whitened,
    without_stop,
)
from twofold.objectives.kl import k1
from twofold.objectives.ppo import value_loss
from twofold.objectives.surrogate import clipped

REWARDS = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_full_step_of_ppo() -> None:
    case, want = given("ppo.full_step"), expected("ppo.full_step")
    old_S, ref_S, new_S = (vector(case[name]) for name in ("old_logp", "ref_logp", "new_logp"))
    reward_T = kl_shaped_tokens(case["score"], k1(old_S - ref_S), case["kl_coef"])
    advantage_T, return_T = gae(reward_T, vector(case["values"]), case["gamma"], case["lam"])
    ratio_S = (new_S - old_S).exp()
    loss_S = -clipped(whitened(advantage_T), ratio_S, case["cliprange"])
    value = value_loss(vector(case["new_values"]), vector(case["values"]), return_T, case["cliprange_value"]).mean()
    assert reward_T.tolist() == near(want["rewards"])
    assert advantage_T.tolist() == near(want["advantages"])
    assert return_T.tolist() == near(want["returns"])
    assert whitened(advantage_T).tolist() == pytest.approx(want["whitened"], abs=1e-7)
    assert ratio_S.tolist() == near(want["ratio"])
    assert loss_S.tolist() == pytest.approx(want["pg_loss_tokens"], abs=1e-7)
    assert value.item() == near(want["vf_loss"])
    assert (loss_S.mean() + case["vf_coef"] * value).item() == pytest.approx(want["total"], abs=1e-7)


def test_rewards_shaped_by_the_kl_of_a_whole_completion() -> None:
    case, want = given("ppo.sequence_kl_shaped_reward"), expected("ppo.sequence_kl_shaped_reward")
    kl = k1(vector(case["logp"]) - vector(case["ref_logp"])).sum()[None]
    assert kl_shaped(vector([case["score"]]), kl, case["beta"]).tolist() == near([want["R"]])
    assert kl_shaped_tokens(case["score"], vector([0.1, 0.2]), 0.5).tolist() == near([-0.05, case["score"] - 0.1])


def test_the_adaptive_coefficient() -> None:
    case, want = given("ppo.adaptive_kl"), expected("ppo.adaptive_kl")
    told = case["target"], case["n_steps"], case["horizon"]
    assert adapted(case["coef"], case["kl"], *told) == near(want["coef_new"])
    assert adapted(case["coef"], case["target"], *told) == case["coef"]
    assert adapted(case["coef"], 0.0, *told) == near(case["coef"] * (1 - 0.2 * 256 / 10_000))


def test_groups() -> None:
    case, want = given("grpo.advantage"), expected("grpo.advantage")
    rewards = vector(case["rewards"])
    assert of_group(rewards, std=True).tolist() == near(want["adv_ddof1"])
    assert of_group(rewards, std=False).tolist() == near(want["adv_dr_grpo"])
    assert of_group(vector([0.1] * 3), std=True).tolist() == [0.0] * 3
    assert leave_one_out(vector([0.1] * 3)).tolist() == [0.0] * 3


def test_leave_one_out() -> None:
    """A = K/(K − 1)·(R − mean R), on rewards that have paid for their KL."""
    case, want = given("rloo"), expected("rloo")
    shaped = kl_shaped(vector(case["rewards"]), vector(case["kl_seq"]), case["beta"])
    assert shaped.tolist() == near(want["shaped"])
    assert leave_one_out(shaped).tolist() == near(want["advantages"])
    assert (shaped - leave_one_out(shaped)).tolist() == near(want["baseline"])
    with pytest.raises(ValueError, match="two completions"):
        leave_one_out(vector([1.0]))


@drawn(REWARDS)
def test_leave_one_out_sums_to_0_and_leaves_out_its_own(rewards: list[float]) -> None:
    found = leave_one_out(vector(rewards)).tolist()
    assert sum(found) == pytest.approx(0, abs=1e-9)
    others = [(sum(rewards) - r) / (len(rewards) - 1) for r in rewards]
    assert found == pytest.approx([r - o for r, o in zip(rewards, others, strict=True)], abs=1e-9)


@drawn(st.integers(1, 12), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10_000))
def test_gae_is_the_sum_of_its_definition(length: int, gamma: float, lam: float, seed: int) -> None:
    """A_t = Σ_k (γλ)^k·δ_{t+k}, δ_t = r_t + γ·V_{t+1} − V_t, and V is 0 after the last token."""
    noise = torch.Generator().manual_seed(seed)
    reward_T, value_T = (torch.randn(length, generator=noise, dtype=torch.float64) for _ in range(2))
    values = [*value_T.tolist(), 0.0]
    delta = [r + gamma * values[t + 1] - values[t] for t, r in enumerate(reward_T.tolist())]
    want = [sum((gamma * lam) ** k * d for k, d in enumerate(delta[t:])) for t in range(length)]
    advantage_T, return_T = gae(reward_T, value_T, gamma, lam)
    assert advantage_T.tolist() == pytest.approx(want, abs=1e-12)
    assert return_T.tolist() == pytest.approx([a + v for a, v in zip(want, values, strict=False)], abs=1e-12)


def test_gae_without_values_is_the_reward_to_go() -> None:
    assert gae(vector([1.0, 2.0, 3.0]), vector([0.0] * 3), 1.0, 1.0)[0].tolist() == [6.0, 5.0, 3.0]


def test_advantages_of_a_rollout() -> None:
    rewards = [vector([1.0, 0.0]), vector([0.0, 4.0])]
    told = {b: torch.cat(advantages_of(rewards, b, "none")).tolist() for b in ("none", "group", "rollout")}
    assert told == {"none": [1, 0, 0, 4], "group": [0.5, -0.5, -2, 2], "rollout": [-0.25, -1.25, -1.25, 2.75]}
    assert torch.cat(advantages_of(rewards, "leave_one_out", "none")).tolist() == [1, -1, -4, 4]
    by_group = torch.cat(advantages_of(rewards, "group", "group")).tolist()
    assert by_group == near([*of_group(rewards[0], std=True).tolist(), *of_group(rewards[1], std=True).tolist()])
    white = torch.cat(advantages_of(rewards, "rollout", "rollout"))
    assert white.tolist() == near(whitened(torch.cat(rewards)).tolist())
    assert torch.cat(advantages_of([vector([1.0])] * 2, "rollout", "rollout")).tolist() == [0.0, 0.0]


def test_the_scale_of_leave_one_out() -> None:
    """What the baseline has left, ±1 and ±4, over its own spread √(34/3) (rollout), or over that of the rewards of each
    prompt, √½ and √8 (group)."""
    rewards = [vector([1.0, 0.0]), vector([0.0, 4.0])]
    left, wide = torch.cat(advantages_of(rewards, "leave_one_out", "none")), (34 / 3) ** 0.5
    assert left.tolist() == [1, -1, -4, 4]
    rollout = torch.cat(advantages_of(rewards, "leave_one_out", "rollout")).tolist()
    assert rollout == pytest.approx([1 / wide, -1 / wide, -4 / wide, 4 / wide], rel=1e-6)
    group = torch.cat(advantages_of(rewards, "leave_one_out", "group")).tolist()
    own = [1 / (0.5**0.5 + 1e-4), 4 / (8**0.5 + 1e-4)]
    assert group == pytest.approx([own[0], -own[0], -own[1], own[1]], rel=1e-12)


def test_a_completion_that_never_stopped_pays() -> None:
    assert without_stop(vector([1.0, 1.0]), vector([0.0, 1.0]), 0.4).tolist() == near([1.0, 0.6])


def test_what_keeps_a_spread_of_nearly_0_in_bounds() -> None:
    """1e-4 joins a group's standard deviation, 1e-8 a variance: of ±1e-4 they are √2·1e-4 and 2e-8."""
    near_0 = vector([1e-4, -1e-4])
    group = 1e-4 / (2**0.5 * 1e-4 + 1e-4)
    assert of_group(near_0, std=True).tolist() == near([group, -group])
    assert whitened(near_0).tolist() == near([1 / 3**0.5, -1 / 3**0.5])
    assert torch.cat(advantages_of([near_0], "group", "group")).tolist() == near([group, -group])
    assert torch.cat(advantages_of([near_0], "group", "rollout")).tolist() == near([1 / 3**0.5, -1 / 3**0.5])


def test_one_alone_and_all_alike_have_no_advantage() -> None:
    assert whitened(vector([3.0])).tolist() == [0.0]
    assert whitened(vector([3.0, 3.0])).tolist() == [0.0, 0.0]
    assert of_group(vector([3.0]), std=True).tolist() == of_group(vector([3.0]), std=False).tolist() == [0.0]
    assert advantages_of([vector([3.0])], "none", "rollout")[0].tolist() == [3.0]
    for baseline, left in (("none", 3.0), ("group", 0.0), ("leave_one_out", 0.0)):
        assert advantages_of([vector([3.0, 3.0])], baseline, "group")[0].tolist() == [left, left]
    assert leave_one_out(vector([1.0, 4.0])).tolist() == [-3.0, 3.0]


def test_gae_discounts_and_smooths_by_default_as_ppo_does() -> None:
    """γ = 1 and λ = 0.95: of rewards 0, 0, 1 without values, 0.95², 0.95 and 1."""
    zero = vector([0.0] * 3)
    advantage_T, return_T = gae(vector([0.0, 0.0, 1.0]), zero)
    assert advantage_T.tolist() == return_T.tolist() == near([0.9025, 0.95, 1.0])


def test_the_adaptive_coefficient_moves_a_fifth_at_most() -> None:
    """KL/target − 1 of 0.1, and of 4 and −0.9, which count as ±0.2; over 50 of a horizon of 100."""
    assert adapted(0.5, 1.1, 1.0, 50, 100) == near(0.5 * 1.05)
    assert [adapted(0.5, kl, 1.0, 50, 100) for kl in (5.0, 0.1)] == near([0.5 * 1.1, 0.5 * 0.9])


def test_moments_of_all_numbers_so_far() -> None:
    """As of all at once, however they come; the standard is that of what is known."""
    noise = torch.Generator().manual_seed(0)
    parts = [3 + 2 * torch.randn(n, generator=noise, dtype=torch.float64) for n in (1, 5, 2, 40)]
    found = Moments()
    for i, part in enumerate(parts):
        found = found.with_more(part)
        all_N = torch.cat(parts[: i + 1])
        assert (found.count, found.mean) == near((len(all_N), all_N.mean().item()))
        assert found.squares == near((all_N - all_N.mean()).square().sum().item())
    standard = (vector([1.0, 5.0]) - all_N.mean()) / all_N.std()
    assert found.standard(vector([1.0, 5.0])).tolist() == near(standard.tolist())


def test_moments_of_nothing_of_one_and_of_what_is_alike() -> None:
    """From 0 of nothing: a first number is its own mean; a spread needs two that differ."""
    assert Moments() == Moments(0.0, 0.0, 0.0)
    assert Moments().standard(vector([7.0])).tolist() == [0.0]
    one = Moments().with_more(vector([7.0]))
    assert one == Moments(1.0, 7.0, 0.0)
    assert one.standard(vector([9.0])).tolist() == [0.0]
    alike = one.with_more(vector([7.0, 7.0]))
    assert alike == Moments(3.0, 7.0, 0.0)
    assert alike.standard(vector([8.0])).tolist() == [0.0]
    two = one.with_more(vector([9.0]))
    assert two == Moments(2.0, 8.0, 2.0)
    assert two.standard(vector([8.0, 8.0 + 2**0.5])).tolist() == near([0.0, 1.0])
