"""PDPO as an algorithm: who gets which gradient, what is drawn, kept and weighed; and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from support import tiny
from support.pdpo_toy import PACKING, Scripted, algorithm, certainty, draft, local, moved, stepper, tasks, world
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.algorithms.pdpo import PDPO, PDPOAlgorithm
from twofold.algorithms.schedules import Ramp
from twofold.batch import Branch, Group, Role
from twofold.data.order import Order
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import DPO
from twofold.objectives.pdpo import GeneratorSettings
from twofold.training.column_providers import with_truth
from twofold.training.step import Part, Round


@pytest.mark.parametrize("schedule", ["joint", "alternate"])
def test_the_generator_follows_the_discriminators_beta(schedule: str) -> None:
    """From 0.5 in step 0 to 0.9 in step 4, whoever plays."""
    settings = PDPO(warmup=0, schedule=schedule, turns=(1, 1), ramp={"beta": Ramp(to=0.9)})
    play = algorithm(settings, local(tiny.policy(dtype=torch.float32)), steps=5)
    rounds = [play.round(step, {}) for step in range(5)]
    for round, beta in zip(rounds, [0.5, 0.6, 0.7, 0.8, 0.9], strict=True):
        assert [part.objective.beta for part in round.parts] == pytest.approx([beta] * len(round.parts))
        assert round.figures["beta"] == pytest.approx(beta)


@pytest.mark.parametrize("form", ["hinge", "square"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("make", [tiny.policy, tiny.lora_policy], ids=["full", "lora"])
def test_without_warm_up_the_first_gaps_are_exactly_0_and_so_is_the_gradient(
    make: Callable[..., Policy], dtype: torch.dtype, form: str
) -> None:
    policy = make(dtype=dtype)
    settings = PDPO(
        warmup=0, prompts=6, samples=3, gamma=1.0, drop_truncated=False, generator=GeneratorSettings(form=form)
    )
    made = algorithm(settings, local(policy)).round(0, {})
    _, generator = made.parts
    assert sum(len(g.branches) for g in generator.groups) == 18
    step, before = stepper(policy), tiny.weights(policy)
    metrics = step(Round(0, [generator], made.figures))
    assert metrics["gap"] == metrics["active"] == metrics["loss/pdpo"] == metrics["loss"] == 0.0
    assert metrics["truth_reward"] == metrics["draft_reward"] == metrics["draft_kl"] == metrics["grad_norm"] == 0.0
    assert metrics["draft_logp"] < -1
    found = tiny.gradients(policy)
    assert found.keys() == policy.trainable().keys()
    assert all(torch.count_nonzero(g) == 0 for g in found.values())
    assert all(torch.equal(before[n], w) for n, w in tiny.weights(policy).items())


def test_no_gradient_reaches_the_ground_truth() -> None:
    """The gradient is that of the drafts alone: −β/n Σ ∇log π(y) over those whose gap is open, the truth a constant."""
    policy, step = moved()
    settings = PDPO(warmup=0, prompts=12, samples=2, drop_truncated=False)
    _, part = algorithm(settings, local(policy)).round(0, {}).parts
    groups = step.providers["truth_logratio"](step.providers["ref_logp"](part.groups))
    assert not any(b.role == Role.TRUTH for g in groups for b in g.branches)
    truth = [Group(g.name, g.prompt, (Branch(g.truth, Role.TRUTH),)) for g in groups]
    mine, theirs = policy.logps(truth), step.providers["ref_logp"](truth)
    metrics = step(Round(0, [replace(part, weight=1.0)]))
    found = tiny.gradients(policy)
    policy.zero_grad()
    total, open_drafts = torch.zeros((), dtype=torch.float64), 0
    for group, (logp,), reference in zip(groups, mine, theirs, strict=True):
        truth_ratio = (logp - reference.branches[0].token_columns["ref_logp"]).sum().item()
        assert group.branches[0].columns["truth_logratio"] == pytest.approx(truth_ratio, abs=1e-12)
        logp_B = [x.sum() for x in policy([group])[0].logp_S.split([len(b.tokens) for b in group.branches])]
        for b, logp in zip(group.branches, logp_B, strict=True):
            if truth_ratio > (logp.item() - b.token_columns["ref_logp"].sum().item()):
                total, open_drafts = total - 0.5 * logp / 24, open_drafts + 1
    total.backward()
    assert 0 < open_drafts < 24
    assert metrics["active"] == pytest.approx(open_drafts / 24, rel=1e-12)
    for name, gradient in tiny.gradients(policy).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)
    assert metrics["grad_norm"] > 0.01


def test_a_step_of_the_generator_alone_lifts_its_open_drafts() -> None:
    policy, step = moved(rate=0.03)
    _, part = algorithm(PDPO(warmup=0, prompts=12, drop_truncated=False), local(policy)).round(0, {}).parts
    before = step.measure([part])
    step(Round(0, [part]))
    after = step.measure([part])
    assert before["active"] > 0
    assert after["draft_logp"] > before["draft_logp"]
    assert after["loss/pdpo"] < before["loss/pdpo"]


def test_the_truths_columns_by_value() -> None:
    policy, _ = moved()
    reference = live_reference(tiny.policy())
    (task, other), branch = tasks(2), Branch(torch.tensor([4, 5]), Role.DRAFT)
    groups = [replace(task, branches=(branch, branch)), replace(other, branches=(branch,))]
    found = with_truth(groups, policy, reference, PACKING)
    for group in found:
        pair = [Group("t", group.prompt, (Branch(group.truth, Role.TRUTH),))]
        (((a,),), ((b,),)) = policy.logps(pair), reference.logps(pair, PACKING)
        for branch in group.branches:
            assert branch.columns["truth_logratio"] == pytest.approx((a - b).sum().item(), abs=1e-12)
            assert branch.columns["truth_length"] == 3.0
    assert found[0].branches[0].columns == found[0].branches[1].columns != found[1].branches[0].columns


def names(part: Part) -> list[str]:
    return [g.name for g in part.groups]


@pytest.mark.parametrize(
    "settings", [PDPO(warmup=3, prompts=2), PDPO(warmup=2, schedule="alternate", turns=(2, 1), prompts=2)]
)
def test_neither_pairs_nor_tasks_are_skipped_while_the_other_plays(settings: PDPO) -> None:
    play = algorithm(settings, Scripted([[draft(1, 0)]]))
    rounds = [play.round(step, {}) for step in range(12)]
    pairs = [n for r in rounds for p in r.parts if isinstance(p.objective, DPO) for n in names(p)]
    drafts = [n for r in rounds for p in r.parts if not isinstance(p.objective, DPO) for n in names(p)]
    order = Order(10, 3)
    assert pairs == [f"row {i}" for step in range(len(pairs) // 4) for i in order.at(step, 4)]
    problems = Order(12, 4)
    assert drafts == [f"task {i}" for step in range(len(drafts) // 2) for i in problems.at(step, 2)]
    joint = settings.schedule == "joint"
    assert [len(r.parts) for r in rounds] == ([1] * 3 + [2] * 9 if joint else [1] * 12)
    assert len(drafts) == (18 if joint else 6)


def test_a_round_is_a_pure_function_of_its_step() -> None:
    policy = tiny.policy(dtype=torch.float32)
    play = algorithm(PDPO(warmup=0, prompts=3, samples=2), local(policy))
    once = {step: play.round(step, {}) for step in (0, 1, 2)}
    for step in (2, 0, 1):
        again = play.round(step, {})
        assert again.figures == once[step].figures
        for a, b in zip(again.parts, once[step].parts, strict=True):
            assert names(a) == names(b)
            drawn = [[x.tokens.tolist() for p in (a, b) for g in p.groups for x in g.branches]]
            half = len(drawn[0]) // 2
            assert drawn[0][:half] == drawn[0][half:]
    tokens = [[b.tokens.tolist() for g in once[s].parts[1].groups for b in g.branches] for s in (0, 1)]
    assert tokens[0] != tokens[1]


def test_the_sampler_is_asked_for_the_tasks_prompts_with_seed_and_step() -> None:
    sampler = Scripted([[draft(1, 0)]])
    play = algorithm(PDPO(warmup=0, prompts=2, samples=5), sampler)
    play.round(4, {})
    ((prompts, samples, seed),) = sampler.asked
    expected = [play.tasks[i].prompt for i in Order(12, 4).at(4, 2)]
    assert all(torch.equal(a, b) for a, b in zip(prompts, expected, strict=True))
    assert (samples, seed) == (5, (3, 4))


def test_truncated_drafts_are_dropped_or_kept_as_set() -> None:
    script = [[draft(1, 0), draft(2, 3, truncated=True)], [draft(4, truncated=True), draft(5, truncated=True)]]
    parts = {}
    for drop in (True, False):
        made = algorithm(PDPO(warmup=0, prompts=2, samples=2, drop_truncated=drop), Scripted(script)).round(0, {})
        parts[drop] = [[b.tokens.tolist() for b in g.branches] for g in made.parts[1].groups]
        assert made.figures == {"drafts": 4.0, "drafts_kept": 1.0 if drop else 4.0, "truncated": 0.75}
        assert all(b.role == Role.DRAFT for g in made.parts[1].groups for b in g.branches)
        assert all(g.truth is not None for g in made.parts[1].groups)
    assert parts == {True: [[[1, 0]]], False: [[[1, 0], [2, 3]], [[4], [5]]]}


def test_a_round_whose_drafts_are_all_truncated_still_discriminates() -> None:
    script = [[draft(4, 5, truncated=True)]]
    policy = tiny.policy()
    made = algorithm(PDPO(warmup=0, prompts=2), Scripted(script)).round(0, {})
    metrics = stepper(policy)(made)
    assert metrics["skipped"] == 1.0
    assert (metrics["drafts_kept"], metrics["truncated"]) == (0.0, 1.0)
    assert metrics["grad_norm"] > 0
    assert "loss/pdpo" not in metrics


def test_gamma_scales_the_generator_and_nothing_else() -> None:
    found = {}
    for gamma in (0.0, 0.5, 1.0):
        policy, step = moved()
        settings = PDPO(warmup=0, prompts=12, gamma=gamma, drop_truncated=False)
        metrics = step(algorithm(settings, local(policy)).round(0, {}))
        found[gamma] = (metrics, tiny.gradients(policy))
    for name, d in found[0.0][1].items():
        whole = found[1.0][1][name]
        torch.testing.assert_close(found[0.5][1][name], (d + whole) / 2, rtol=1e-9, atol=1e-12)
    d, g = found[1.0][0]["loss/dpo"], found[1.0][0]["loss/pdpo"]
    assert g > 0
    for gamma, (metrics, _) in found.items():
        assert metrics["loss"] == pytest.approx(d + gamma * g, rel=1e-12)
        assert (metrics["loss/dpo"], metrics["loss/pdpo"]) == (d, g)


def test_pdpo_teaches_a_tiny_transformer() -> None:
    policy = tiny.policy(dtype=torch.float32)
    pairs, problems = world()
    settings = PDPO(warmup=0.1, prompts=4, samples=2, gamma=0.1)
    play = PDPOAlgorithm(
        settings=settings, pairs=OfflineAlgorithm(pairs, DPO(beta=0.1), batch_size=10, seed=0, steps=9), tasks=problems,
        generator=settings.objective(0.1), sampler=local(policy, max_new_tokens=4), seed=0, steps=60,
    )  # fmt: skip
    step, before = stepper(policy, rate=3e-3), certainty(policy, pairs)
    seen = [step(play.round(s, {})) for s in range(60)]
    after = step.measure([Part(pairs, DPO(beta=0.1))])
    assert before < 0.1
    assert after["accuracy"] == 1.0
    assert after["loss/dpo"] < 0.3
    assert sum(m.get("drafts", 0.0) for m in seen) == 54 * 8
    assert any(m.get("active", 0.0) > 0 for m in seen)
