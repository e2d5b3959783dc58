"""Drafts that are used again, and drafts that a verifier has judged: from the sampler to the step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

import pytest
import torch

from support import pdpo_toy as play
from support import tiny
from support.pdpo_toy import Scripted, draft, local
from twofold.algorithms.draft_serialization import dump_drafts, load_drafts
from twofold.algorithms.pdpo import PDPO, PDPOAlgorithm
from twofold.batch import Branch, Group, Role
from twofold.data.order import Order
from twofold.judges.completions import CompletionJudge
from twofold.judges.drafts import JudgedDrafts
from twofold.models.policy import Policy
from twofold.objectives import SFT
from twofold.objectives.pdpo import GeneratorSettings
from twofold.rewards.verifier import VerifierReward
from twofold.training.step import Part, Round


def said(groups: list[Group]) -> list[list[list[int]]]:
    return [[b.tokens.tolist() for b in g.branches] for g in groups]


def drawn_at(made: Round) -> tuple[list[Group], dict[str, float]]:
    return list(made.parts[-1].groups), dict(made.figures)


def branch(tokens: torch.Tensor, logp: torch.Tensor) -> Branch:
    return Branch(tokens, Role.DRAFT, {"old_logp": logp.double()}, {"correct": 1.0})


def test_recall_gives_back_every_bit() -> None:
    noise = torch.Generator().manual_seed(0)
    rows = [
        tuple(
            Branch(
                torch.randint(60, (n,), generator=noise),
                Role.DRAFT,
                {"old_logp": torch.randn(n).double()},
                {"correct": 1.0},
            )
            for n in lengths
        )
        for lengths in ((3, 1), (), (5,))
    ]
    again = load_drafts(json.loads(json.dumps(dump_drafts(rows))))
    for before, after in zip(rows, again, strict=True):
        for a, b in zip(before, after, strict=True):
            assert torch.equal(a.tokens, b.tokens)
            assert torch.equal(a.token_columns["old_logp"], b.token_columns["old_logp"])
            assert (a.role, a.columns) == (b.role, b.columns)


def test_drafts_are_used_for_as_many_steps_as_set() -> None:
    policy = tiny.policy(dtype=torch.float32)
    algorithm = play.algorithm(PDPO(warmup=1, prompts=3, samples=2, reuse_steps=3, drop_truncated=False), local(policy))
    state: dict[str, Any] = {}
    rounds = [drawn_at(algorithm.round(step, state)) for step in range(1, 8)]
    groups = [said(g) for g, _ in rounds]
    assert groups[0] == groups[1] == groups[2] != groups[3] == groups[4] == groups[5] != groups[6]
    assert [f["age"] for _, f in rounds] == [0, 1, 2, 0, 1, 2, 0]
    assert ["drafts" in f for _, f in rounds] == [True, False, False, True, False, False, True]
    names = [[g.name for g in groups] for groups, _ in rounds]
    order = Order(12, 4)
    assert names == [[f"task {i}" for i in order.at(block, 3)] for block in (0, 0, 0, 1, 1, 1, 2)]


def test_a_stop_amid_reuse_loses_nothing() -> None:
    """The state, written as JSON after any step, plays on as if nothing had happened."""
    settings = PDPO(
        warmup=0, prompts=3, samples=2, reuse_steps=4, drop_truncated=False, generator=GeneratorSettings(clip=0.2)
    )
    algorithm, state = play.algorithm(settings, local(tiny.policy(dtype=torch.float32))), {}
    whole = [drawn_at(algorithm.round(step, state))[0] for step in range(4)]
    for stop in (1, 2, 3):
        state = {}
        for step in range(stop):
            algorithm.round(step, state)
        other = play.algorithm(settings, Scripted([[draft(1, 0)]]))  # draws nothing of its own
        found, _ = drawn_at(other.round(stop, json.loads(json.dumps(state))))
        assert said(found) == said(whole[stop])
        for a, b in zip(found, whole[stop], strict=True):
            for x, y in zip(a.branches, b.branches, strict=True):
                assert torch.equal(x.token_columns["old_logp"], y.token_columns["old_logp"])


def test_fresh_drafts_leave_no_state() -> None:
    state: dict[str, Any] = {}
    play.algorithm(PDPO(warmup=0), Scripted([[draft(1, 0)]])).round(0, state)
    assert state == {}


@pytest.mark.parametrize("make", [tiny.policy, tiny.lora_policy], ids=["full", "lora"])
def test_a_fresh_draft_has_a_ratio_of_one_and_a_stale_one_has_not(make: Any) -> None:
    """The sampler's log-probabilities are those of the policy that drew, whatever has cached what."""
    policy = make(dtype=torch.float64)
    settings = PDPO(
        warmup=0,
        prompts=6,
        samples=2,
        reuse_steps=2,
        gamma=1.0,
        drop_truncated=False,
        generator=GeneratorSettings(clip=0.2),
    )
    algorithm, step, state = play.algorithm(settings, local(policy)), play.stepper(policy), {}
    ratios = [step(algorithm.round(s, state))["ratio"] for s in range(3)]
    assert ratios[0] == pytest.approx(1.0, abs=1e-9)
    assert abs(ratios[1] - 1.0) > 1e-5
    assert ratios[2] == pytest.approx(1.0, abs=1e-9)


RIGHT, WRONG = draft(*b"#### 7", 0), draft(*b"#### 8", 0)


def letters(tokens: torch.Tensor) -> str:
    return "".join(chr(int(t)) for t in tokens if int(t) != 0)


UNGATED = GeneratorSettings()


def gated(generator: GeneratorSettings = UNGATED, **settings: Any) -> PDPOAlgorithm:
    """Two problems whose answer is 7, one right and two wrong drafts for the first, three wrong ones for the other."""
    script = [[RIGHT, WRONG, WRONG], [WRONG, WRONG, WRONG]]
    given = PDPO(warmup=0, prompts=2, samples=3, generator=replace(generator, gate="verifier"), **settings)
    plain = play.algorithm(replace(given, generator=UNGATED, gate_average="drawn"), Scripted(script), count=2)
    tasks = [replace(t, truth=torch.tensor([*b"3+4=7\n#### 7", 0])) for t in plain.tasks]
    gate = JudgedDrafts(CompletionJudge(VerifierReward()), letters)
    return replace(plain, settings=given, generator=given.objective(0.5), tasks=tasks, gate=gate)


def test_a_gate_without_a_verifier_is_refused() -> None:
    with pytest.raises(ValueError, match="a gate needs a judge"):
        play.algorithm(PDPO(generator=GeneratorSettings(gate="verifier")), Scripted([[RIGHT]]))


def verdicts(algorithm: PDPOAlgorithm) -> tuple[list[list[float]], dict[str, float]]:
    groups, figures = drawn_at(algorithm.round(0, {}))
    return [[b.columns["correct"] for b in g.branches] for g in groups], figures


def test_every_draft_carries_its_verdict() -> None:
    found, figures = verdicts(gated())
    assert found == [[1, 0, 0], [0, 0, 0]]
    assert figures == {"drafts": 6.0, "drafts_kept": 6.0, "truncated": 0.0, "right": pytest.approx(1 / 6)}


def test_those_that_do_not_pass_are_left_out_where_only_the_others_are_averaged() -> None:
    assert verdicts(gated(gate_average="passed"))[0] == [[1]]
    assert verdicts(gated(GeneratorSettings(direction="down"), gate_average="passed"))[0] == [[0, 0], [0, 0, 0]]
    assert verdicts(gated(gate_average="passed"))[1]["drafts_kept"] == 1.0


@dataclass(frozen=True)
class Hesitant:
    """A judge who passes what ends as the truth does, and says nothing on the second draft of a problem."""

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        assert all(g.branches for g in groups), "no question without an answer to judge"
        return [
            [nan if i == 1 else float(b.tokens[-2] == g.truth[-2]) for i, b in enumerate(g.branches)] for g in groups
        ]


def test_drafts_without_a_verdict_are_left_out() -> None:
    found, figures = verdicts(replace(gated(), gate=Hesitant()))
    assert found == [[1, 0], [0, 0]]
    assert figures == {"drafts": 6.0, "drafts_kept": 4.0, "truncated": 0.0, "right": 0.25}


def test_problems_whose_drafts_are_all_dropped_are_not_judged() -> None:
    cut = draft(*b"#### 7", truncated=True)
    made = replace(gated(), gate=Hesitant(), sampler=Scripted([[cut, cut, cut], [RIGHT, WRONG, WRONG]]))
    groups, figures = drawn_at(made.round(0, {}))
    assert [len(g.branches) for g in groups] == [2]
    assert (figures["drafts_kept"], figures["right"]) == (2.0, 0.5)


def test_where_the_truth_moves_it_is_the_last_branch_of_its_drafts() -> None:
    groups, figures = drawn_at(gated(GeneratorSettings(gradient_to="both", clip=0.2), reuse_steps=2).round(0, {}))
    assert figures["drafts_kept"] == 6.0
    for group in groups:
        *drafts, truth = group.branches
        assert [b.role for b in drafts] == [Role.DRAFT] * 3
        assert (truth.role, truth.columns.keys()) == (Role.TRUTH, {"correct"})
        assert isnan(truth.columns["correct"])
        assert truth.token_columns["old_logp"].isnan().all()
        assert torch.equal(truth.tokens, group.truth)
        assert group.has("old_logp")


@pytest.mark.parametrize("side", ["truth", "both"])
def test_a_problem_without_drafts_moves_no_truth(side: str) -> None:
    cut = draft(5, 6, truncated=True)
    assert (
        drawn_at(
            play.algorithm(PDPO(warmup=0, generator=GeneratorSettings(gradient_to=side)), Scripted([[cut]])).round(
                0, {}
            )
        )[0]
        == []
    )


@pytest.mark.parametrize(
    ("generator", "samples"),
    [(GeneratorSettings(gradient_to="truth"), 1), (GeneratorSettings(gradient_to="both", kl=0.2), 3)],
    ids=str,
)
def test_the_truths_gradient_is_that_of_its_own_forward(generator: GeneratorSettings, samples: int) -> None:
    """Next to one backward over unpacked rows: β·(r(y) − r_GT) where it is positive, over all drafts."""
    policy, step = play.moved()
    given = PDPO(warmup=0, prompts=12, samples=samples, drop_truncated=False, generator=generator)
    _, part = play.algorithm(given, local(policy)).round(0, {}).parts
    metrics = step(Round(0, [replace(part, weight=1.0)]))
    found = tiny.gradients(policy)
    reference = step.providers["ref_logp"](part.groups)
    policy.zero_grad()
    terms = []
    for g in reference:
        ratios = [policy([replace(g, branches=(b,))])[0].logp_S - b.token_columns["ref_logp"] for b in g.branches]
        *drafts, truth = (0.5 * r.sum() for r in ratios)
        for r, mine in zip(ratios, drafts, strict=False):
            terms.append((mine.detach() - truth).clamp(min=0))
            if generator.gradient_to == "both":
                terms[-1] = terms[-1] + (truth.detach() - mine).clamp(min=0)
            terms[-1] = terms[-1] + generator.kl * 0.5 * r.square().sum()
    torch.stack(terms).mean().backward()
    assert 0 < metrics["truth_active"] < 1
    for name, gradient in tiny.gradients(policy).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    assert any(g.abs().max() > 1e-3 for g in found.values())


def test_verdicts_are_remembered_with_their_drafts() -> None:
    algorithm, state = gated(reuse_steps=2), {}
    first = algorithm.round(0, state).parts[-1].groups
    second = algorithm.round(1, json.loads(json.dumps(state))).parts[-1].groups
    assert [b.columns for g in first for b in g.branches] == [b.columns for g in second for b in g.branches]


def test_the_step_takes_its_gradient_from_right_drafts_alone() -> None:
    """Against the same step with the gate off: the gated gradient is that of the right drafts, by the same count."""
    policy, step = play.moved()
    settings = PDPO(warmup=0, prompts=12, samples=2, drop_truncated=False)
    _, part = play.algorithm(settings, local(policy)).round(0, {}).parts
    verdicts = [[{"correct": float(i % 2 == j)} for j in range(2)] for i in range(12)]
    marked = [g.with_columns(v) for g, v in zip(part.groups, verdicts, strict=True)]
    gate = replace(part.objective, gate="verifier", margin=1.0)
    step(Round(0, [Part(marked, gate)]))
    found = tiny.gradients(policy)
    kept = [replace(g, branches=tuple(b for b in g.branches if b.columns["correct"])) for g in marked]
    step(Round(0, [Part(kept, replace(gate, gate="none"), 0.5)]))
    for name, gradient in tiny.gradients(policy).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert any(g.abs().max() > 1e-3 for g in found.values())


class Equal:
    """Right is what says the very tokens of the truth."""

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[float(torch.equal(b.tokens, g.truth)) for b in g.branches] for g in groups]


def undecided(problems: list[Group]) -> Policy:
    """A policy that has been shown a right and a wrong answer to each problem, and says either."""
    policy = tiny.policy(dtype=torch.float32)
    wrong = [torch.tensor([1 + int(g.truth[0]) % 5, 0]) for g in problems]
    shown = [
        replace(g, branches=(Branch(tokens, Role.DEMONSTRATION),))
        for g, other in zip(problems, wrong, strict=True)
        for tokens in (g.truth, other)
    ]
    step = play.stepper(policy, rate=1e-2)
    for s in range(40):
        step(Round(s, [Part(shown, SFT())]))
    return policy


def test_a_gated_generator_teaches_an_undecided_transformer_what_is_right() -> None:
    """No pairs; a margin keeps all drafts active. Ungated nothing tells right from wrong."""
    _, problems = play.world()
    truths = [replace(g, branches=(Branch(g.truth, Role.DEMONSTRATION),)) for g in problems]
    certainty = {}
    for gate in ("none", "verifier"):
        policy = undecided(problems)
        before = play.certainty(policy, truths)
        settings = PDPO(warmup=0, prompts=10, samples=4, gamma=1.0, generator=GeneratorSettings(margin=9.0, gate=gate))
        algorithm = play.algorithm(replace(settings, generator=UNGATED), local(policy, max_new_tokens=4), steps=20)
        generator = settings.objective(0.5)
        algorithm = replace(algorithm, settings=settings, generator=generator, tasks=problems, gate=Equal())
        step = play.stepper(policy, rate=3e-3)
        for s in range(20):
            made = algorithm.round(s, {})
            step(replace(made, parts=made.parts[1:]))
        certainty[gate] = play.certainty(policy, truths)
    assert 0.4 < before < 0.6
    assert certainty["verifier"] > 0.9
    assert certainty["none"] < 0.75
