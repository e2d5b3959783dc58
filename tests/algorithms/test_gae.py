"""PPO with a value model: its columns, that packing changes no gradient of either model, and that both learn."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from support.golden import expected, given
from support.rollouts_toy import STOP, algorithm, share, text
from twofold.algorithms.gae import VALUE_MODEL, ValueModelSettings, value_metrics, whitened_tokens, with_gae
from twofold.algorithms.policy_gradient import PolicyGradientAlgorithm, RewardKL
from twofold.batch import Branch, Group, Role
from twofold.errors import NonFiniteError
from twofold.models.heads import ValueModel, value_model_of
from twofold.models.load import LoadedModel, ModelSettings
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import GRPO, PPO, RLOO, Reinforce
from twofold.objectives.base import Objective
from twofold.objectives.ppo import ValueRegression
from twofold.training.column_providers import VALUE, old_values
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

HELD = ModelSettings(path="made", precision="float64", device="cpu")


def critic(policy: Policy, *, moved: bool = True) -> ValueModel:
    """A value model over a copy of the policy; `moved` away from saying 0."""
    loaded = LoadedModel(policy.model, tiny.tokenizer(), STOP)
    held = value_model_of(policy, loaded, replace(HELD, precision=str(policy.model.dtype).removeprefix("torch.")))[0]
    if moved:
        with torch.no_grad():
            held.model.score.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(2))  # type: ignore[operator, union-attr]  # a Linear
    return held


def valued(
    policy: Policy, held: ValueModel, packing: Packing | None = None, objective: Objective | None = None, **more: Any
) -> PolicyGradientAlgorithm:
    settings: dict[str, Any] = {"value": ValueModelSettings(), **more}
    play = algorithm(policy, objective or PPO(), packing, **settings)
    return replace(play, columns={**play.columns, VALUE: old_values(held, packing or Packing(tokens=60))})


def stepper(
    policy: Policy, held: ValueModel, packing: Packing | None = None, *, rate: float = 2e-2, its: float = 2e-2
) -> Step:
    """With a rate for the policy and one for the value model."""
    optimizer = make_optimizer(AdamW(learning_rate=rate), policy.trainable())
    constant = AdamW(learning_rate=its, schedule="constant", warmup=0)
    trainables = [Trainable(POLICY, policy, optimizer), Trainable.of(VALUE_MODEL, held, constant, 25)]
    return Step(trainables, providers={}, packing=packing or Packing(tokens=60))


def drafts(part: Part) -> list[Branch]:
    return [b for g in part.groups for b in g.branches]


def whole(part: Part, column: str) -> Tensor:
    return torch.cat([b.token_columns[column].double() for b in drafts(part)])


def test_the_golden_step_of_ppo() -> None:
    """r = (−0.015, 0.01, 0.9975) on values (0.1, 0.2, 0.4): advantages, returns and their whitening by hand."""
    case, want = given("ppo.full_step"), expected("ppo.full_step")
    kl = torch.tensor(case["old_logp"], dtype=torch.float64) - torch.tensor(case["ref_logp"], dtype=torch.float64)
    value = torch.tensor(case["values"], dtype=torch.float64)
    group = Group("0", torch.zeros(1), (Branch(torch.zeros(3), Role.DRAFT, {VALUE: value}),))
    settings = ValueModelSettings(discount=case["gamma"], gae_lambda=case["lam"])
    score = torch.tensor([case["score"]], dtype=torch.float64)
    (made,) = with_gae([group], [score], [[kl]], case["kl_coef"], settings)
    assert made.branches[0].token_columns["advantage"].tolist() == pytest.approx(want["advantages"], abs=1e-9)
    assert made.branches[0].token_columns["return"].tolist() == pytest.approx(want["returns"], abs=1e-9)
    (white,) = whitened_tokens([made])
    assert white.branches[0].token_columns["advantage"].tolist() == pytest.approx(want["whitened"], abs=1e-7)
    assert white.branches[0].token_columns["return"].tolist() == pytest.approx(want["returns"], abs=1e-9)


def test_both_parts_learn_from_the_same_columns() -> None:
    """Whitened over the rollout, not over one of its steps; γ, λ and the KL of each token count."""
    policy = tiny.lora_policy(moved=True)
    held, kl = critic(policy), RewardKL(coefficient=0.3)
    play = valued(
        policy, held, rollouts=12, stop_penalty=0.5, kl=kl, value=ValueModelSettings(discount=0.9, gae_lambda=0.5)
    )
    state: dict[str, Any] = {}
    rounds = [play.round(step, state) for step in range(3)]
    assert [p.trainable for r in rounds for p in r.parts] == [POLICY, VALUE_MODEL] * 3
    assert all(r.parts[0].groups == r.parts[1].groups for r in rounds)
    every = torch.cat([whole(r.parts[0], "advantage") for r in rounds])
    assert every.mean().item() == pytest.approx(0, abs=1e-12)
    assert every.var().item() == pytest.approx(1, abs=1e-6)
    assert abs(whole(rounds[0].parts[0], "advantage").mean()) > 1e-3

    group = rounds[0].parts[0].groups[0]
    reference = live_reference(policy).logps([group], Packing(tokens=60))[0]
    mine, (values,) = policy.logps([group])[0], held.values([group])
    for branch, a, b, value in zip(group.branches, mine, reference, values, strict=True):
        reward = (-0.3 * (a - b)).tolist()
        reward[-1] += share("", text(branch.tokens), None) - 0.5 * (int(branch.tokens[-1]) not in STOP)
        following, want = [*value.tolist()[1:], 0.0], 0.0
        returns: list[float] = []
        for r, v, after in list(zip(reward, value.tolist(), following, strict=True))[::-1]:
            want = r + 0.9 * after - v + 0.45 * want
            returns.insert(0, want + v)
        assert branch.token_columns[VALUE].tolist() == pytest.approx(value.tolist(), abs=1e-12)
        assert branch.token_columns["return"].tolist() == pytest.approx(returns, abs=1e-9)


def test_the_scale_none_leaves_advantages_as_they_are() -> None:
    policy = tiny.policy()
    held = critic(policy)
    raw, white = (valued(policy, held, objective=o).round(0, {}).parts[0] for o in (PPO(scale="none"), PPO()))
    torch.testing.assert_close(whole(raw, "advantage"), whole(raw, "return") - whole(raw, VALUE))
    spread = whole(raw, "advantage").std()
    torch.testing.assert_close(
        whole(white, "advantage") * spread, whole(raw, "advantage") - whole(raw, "advantage").mean()
    )


@pytest.mark.parametrize("clip", [0.2, None])
def test_packing_and_accumulation_change_no_gradient_of_either(clip: float | None) -> None:
    """In a rollout's second step, where ratios and values have moved."""
    found = []
    for tokens in (4000, 1):
        policy = tiny.policy()
        held, packing = critic(policy), Packing(tokens=tokens)
        play = valued(
            policy, held, packing, epochs=2, value=ValueModelSettings(clip=clip), kl=RewardKL(coefficient=0.1)
        )
        step, state = stepper(policy, held, packing, rate=1e-3, its=3e-2), {}
        step(play.round(0, state))
        metrics = step(play.round(1, state))
        gradients = {n: p.grad.clone() for n, p in held.model.named_parameters() if p.grad is not None}
        found.append((metrics, tiny.gradients(policy), gradients))
    (one, mine, its), (four, mine_apart, its_apart) = found
    assert one == pytest.approx(four, rel=1e-7, abs=1e-9)
    assert ("value_clipped" in one) == (clip is not None)
    assert clip is None or 0 < one["value_clipped"] < 1
    for together, apart in ((mine, mine_apart), (its, its_apart)):
        assert together.keys() == apart.keys()
        assert max(g.abs().max() for g in together.values()) > 1e-4
        for name, gradient in together.items():
            torch.testing.assert_close(apart[name], gradient, rtol=1e-8, atol=1e-8)


def test_at_ratio_1_the_gradient_is_that_of_reinforce() -> None:
    """−mean A·∇log π over all tokens, with the value model's advantages."""
    policy = tiny.policy()
    play = valued(policy, critic(policy))
    part = play.round(0, {}).parts[0]
    step = Step(
        [Trainable(POLICY, policy, make_optimizer(AdamW(), policy.trainable()))],
        providers={},
        packing=Packing(tokens=60),
    )
    step(Round(0, [part]))
    found = tiny.gradients(policy)
    again = tiny.policy()
    outputs, _ = again(part.groups)
    assert outputs.logp_S is not None
    (-(whole(part, "advantage") * outputs.logp_S).mean()).backward()
    norm = torch.cat([g.flatten() for g in tiny.gradients(again).values()]).norm().clamp(min=1)
    for name, gradient in tiny.gradients(again).items():
        torch.testing.assert_close(found[name], gradient / norm, rtol=1e-6, atol=1e-9)


def test_each_model_is_moved_by_its_own_optimizer_alone() -> None:
    policy = tiny.policy()
    held = critic(policy)
    before = deepcopy(held.model.state_dict())
    step = stepper(policy, held, rate=1e-30, its=1e-2)
    weights = tiny.weights(policy)
    metrics = step(valued(policy, held).round(0, {}))
    assert metrics["value-model/grad_norm"] > 0
    assert all(torch.equal(p, weights[n]) for n, p in policy.model.named_parameters())
    assert not torch.equal(held.model.score.weight, before["score.weight"])  # type: ignore[union-attr]  # a Linear
    assert metrics["loss"] == pytest.approx(metrics["loss/ppo"])
    assert metrics["loss/value"] > 0


def test_a_value_that_is_no_number_stops_before_either_is_moved() -> None:
    policy = tiny.policy()
    held = critic(policy)
    step, round = stepper(policy, held), valued(policy, held).round(0, {})
    with torch.no_grad():
        held.model.score.weight.fill_(float("nan"))  # type: ignore[operator, union-attr]  # a Linear
    weights = tiny.weights(policy)
    with pytest.raises(NonFiniteError, match="a value is not finite"):
        step(round)
    assert all(torch.equal(p, weights[n]) for n, p in policy.model.named_parameters())


def test_a_learner_comes_back_from_what_it_told() -> None:
    """Weights, moments and the place in its schedule: the next step is the same to the bit."""
    policy = tiny.policy()
    one, other = critic(policy), critic(policy, moved=False)
    falling = AdamW(learning_rate=1e-2, schedule="linear", warmup=2)
    first, second = (Trainable.of(VALUE_MODEL, model, falling, 6) for model in (one, other))

    def go(learner: Trainable, steps: range) -> None:
        for step in steps:
            learner.optimizer.zero_grad()
            values = learner.model(tiny.pairs(2, seed=step))[0].value_S
            assert values is not None
            values.square().sum().backward()
            learner.optimizer.step()
            learner.on_step_end()

    go(first, range(3))
    weights, moments = ({k: v.clone() for k, v in d.items()} for d in (first.weights(), first.moments()))
    go(first, range(3, 6))
    second.restore(weights, moments, 3)
    assert [g["lr"] for g in second.optimizer.param_groups] == [falling.factor(3, 6) * 1e-2] * len(
        second.optimizer.param_groups
    )
    go(second, range(3, 6))
    for name, tensor in first.weights().items():
        assert torch.equal(tensor, second.weights()[name]), name


def test_values_that_know_explain_everything() -> None:
    value = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def told(returns: list[float]) -> dict[str, float]:
        column = torch.tensor(returns, dtype=torch.float64)
        branch = Branch(torch.zeros(2), Role.DRAFT, {VALUE: value, "return": column})
        return value_metrics([Group("0", torch.zeros(1), (branch,))])

    assert told([1.0, 2.0]) == {"value": 1.5, "return": 1.5, "explained": 1.0}
    assert told([2.0, 1.0])["explained"] == pytest.approx(-3)
    assert told([1.0, 1.0]) == {"value": 1.5, "return": 1.0}


@pytest.mark.parametrize(
    ("objective", "settings", "message"),
    [
        (RLOO(), {}, "needs objective ppo"),
        (GRPO(), {}, "needs objective ppo"),
        (Reinforce(), {}, "needs objective ppo"),
        (PPO(baseline="group"), {}, "the value model is the baseline"),
        (PPO(scale="group"), {}, "choose rollout or none"),
    ],
)
def test_what_does_not_fit_is_refused(objective: Objective, settings: dict[str, Any], message: str) -> None:
    policy = tiny.policy()
    with pytest.raises(ValueError, match=message):
        valued(policy, critic(policy), objective=objective, **settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"gae_lambda": 1.5}, "gae_lambda"), ({"discount": 0.0}, "discount"), ({"clip": 0.0}, "clip"),
     ({"learning_rate": 0.0}, "rate"), ({"start": ""}, "start")],
)  # fmt: skip
def test_wrong_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ValueModelSettings(**given)


def test_one_sample_a_prompt_is_enough_with_a_value_model() -> None:
    policy = tiny.policy()
    round = valued(policy, critic(policy), samples=1).round(0, {})
    assert round.figures["drafts"] == 4
    assert whole(round.parts[0], "advantage").std() > 0


def test_rewards_are_normalized_by_all_that_came_before() -> None:
    """Mean and standard deviation (Bessel's) over this rollout and all earlier ones; the figure stays the reward."""
    policy, state, seen = tiny.policy(), {}, []
    play = algorithm(policy, Reinforce(baseline="none"), samples=3, normalize=True, stop_penalty=0.3)
    for step in range(3):
        round = play.round(step, state)
        state = json.loads(json.dumps(state))
        rated = [share("", text(b.tokens), None) for b in drafts(round.parts[0])]
        cut = [0.3 * (int(b.tokens[-1]) not in STOP) for b in drafts(round.parts[0])]
        now = torch.tensor([r - c for r, c in zip(rated, cut, strict=True)], dtype=torch.float64)
        seen.append(now)
        every = torch.cat(seen)
        found = [b.columns["advantage"] for b in drafts(round.parts[0])]
        assert found == pytest.approx(((now - every.mean()) / every.std()).tolist(), abs=1e-9)
        assert round.figures["reward"] == pytest.approx(sum(rated) / len(rated))


@pytest.mark.parametrize(
    "objective", [PPO(), pytest.param(PPO(scale="none"), marks=pytest.mark.slow)], ids=["whitened", "as they are"]
)
def test_policy_and_value_model_learn(objective: PPO) -> None:
    """From about one wanted token in 61 to more than half in eight rollouts of two passes; and the value model, which
    said 0, comes to know what is worth what before there is nothing left to know."""
    policy = tiny.policy(dtype=torch.float32)
    held = critic(policy, moved=False)
    play = valued(policy, held, objective=objective, batch_size=12, samples=8, epochs=2)
    play = replace(play, steps=16)
    step, state = stepper(policy, held, its=1e-2), {}
    found = [step(play.round(s, state)) for s in range(16)]
    rolled = [m for m in found if "reward" in m]
    assert rolled[0]["reward"] < 0.1
    assert rolled[0]["value"] == 0
    assert sum(m["reward"] for m in rolled[-3:]) / 3 > 0.5
    assert abs(rolled[-1]["value"] - rolled[-1]["return"]) < 0.2
    assert max(m["explained"] for m in rolled) > 0.1


def test_a_value_regression_reads_values() -> None:
    policy = tiny.policy()
    outputs, batch = policy(valued(policy, critic(policy)).round(0, {}).parts[1].groups)
    with pytest.raises(ValueError, match="gives no values"):
        ValueRegression()(outputs, batch)
