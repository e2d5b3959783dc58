"""Preferences on-policy as an algorithm: what is drawn, judged and paired; packing changes nothing; it learns."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from support import tiny
from twofold.algorithms.online import Online, OnlineAlgorithm
from twofold.algorithms.preference_pairs import compared, wins
from twofold.batch import Branch, Group, Role
from twofold.errors import DataError, NonFiniteError, RecipeError
from twofold.judges.completions import CompletionJudge
from twofold.judges.drafts import JudgedDrafts, PairJudge
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import AdapterReference, LiveReference, live_reference
from twofold.objectives import AOT, DPO, IPO, SPPO, SimPO
from twofold.objectives.base import Objective
from twofold.rewards.base import RewardFunction
from twofold.rewards.rollouts import DraftScores, Rewards
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler
from twofold.sampling.reference import ReferenceSampler
from twofold.training.column_providers import providers
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Step
from twofold.training.trainable import POLICY, Trainable

STOP = frozenset({0})
WANTED = 7


def tasks(count: int) -> list[Group]:
    made = tiny.groups(*[(3 + i % 3, 2) for i in range(count)], seed=5)
    return [Group(f"task {i}", g.prompt, (), truth=g.branches[0].tokens) for i, g in enumerate(made)]


def text(tokens: Tensor) -> str:
    return " ".join(map(str, tokens.tolist()))


def share(prompt: str, completion: str, truth: str | None) -> float:
    """How much of a completion is the wanted token."""
    words = completion.split()
    return words.count(str(WANTED)) / len(words)


def first(prompt: str, completion: str, truth: str | None) -> float:
    """A reward in which two drafts hardly ever agree."""
    return int(completion.split()[0]) / 61


def rewarded(*functions: RewardFunction) -> Rewards:
    return Rewards([(f.__name__, 1.0, JudgedDrafts(CompletionJudge(f), text)) for f in functions])


def sampler(model: PreTrainedModel) -> LocalSampler:
    return LocalSampler(model, tiny.tokenizer(), STOP, Sampling(max_new_tokens=6))


def algorithm(
    policy: Policy, *, objective: Objective | None = None, by: PairJudge | None = None, batch_size: int = 4,
    reference: LiveReference | None = None, **settings: Any,
) -> OnlineAlgorithm:  # fmt: skip
    made = Online(**{"judge": "python:first", **settings})
    other = ReferenceSampler(reference or live_reference(policy), sampler)
    return OnlineAlgorithm(
        settings=made,
        tasks=tasks(12),
        objective=objective or DPO(),
        sampler=sampler(policy.model),
        judge=None if made.judge == "truth" else by or rewarded(first),
        reference_sampler=other if made.reference_samples else None,
        batch_size=batch_size,
        seed=3,
        steps=20,
    )


def stepper(policy: Policy, packing: Packing | None = None, rate: float = 2e-2) -> Step:
    packing = packing or Packing(tokens=60)
    optimizer = make_optimizer(AdamW(learning_rate=rate), policy.trainable())
    known = providers(policy, live_reference(policy), packing)
    return Step([Trainable(POLICY, policy, optimizer)], providers=known, packing=packing, clip=None)


def test_the_better_draft_is_chosen_and_ties_are_counted() -> None:
    play = algorithm(tiny.policy(), samples=3, batch_size=12, by=rewarded(share))
    round = play.round(0, {})
    drafts, _ = play.draft([play.tasks[i] for i in play.order.at(0, 12)], 0)
    by_name = {g.name: [share("", text(b.tokens), None) for b in g.branches] for g in drafts}
    apart = {name: said for name, said in by_name.items() if max(said) > min(said)}
    assert 0 < len(apart) < 12
    (part,) = round.parts
    assert {g.name for g in part.groups} == set(apart)
    for group in part.groups:
        assert [b.role for b in group.branches] == [Role.CHOSEN, Role.REJECTED]
        said = [share("", text(b.tokens), None) for b in group.branches]
        assert said == [max(apart[group.name]), min(apart[group.name])]
        assert [b.columns["margin"] for b in group.branches] == [pytest.approx(said[0] - said[1])] * 2
    figures = round.figures
    assert (figures["pairs"], figures["ties"], figures["drafts"]) == (len(apart), 12 - len(apart), 36)
    assert figures["no_pair"] == pytest.approx(1 - len(apart) / 12)
    rewards = [said for row in by_name.values() for said in row]
    assert figures["reward"] == pytest.approx(statistics.fmean(rewards))
    assert figures["reward_std"] == pytest.approx(statistics.pstdev(rewards))


def test_a_step_in_which_every_pair_ties_does_nothing() -> None:
    policy = tiny.policy()
    before = tiny.weights(policy)
    play, step = algorithm(policy, by=rewarded(lambda *_: 1.0)), stepper(policy)
    metrics = step(play.round(0, {}))
    assert (metrics["ties"], metrics["pairs"], metrics["no_pair"], metrics["skipped"]) == (4, 0, 1, 1)
    assert metrics["grad_norm"] == 0
    assert "loss" not in metrics
    assert all(torch.equal(before[n], p) for n, p in tiny.weights(policy).items())


SETTINGS: dict[str, tuple[Objective, dict[str, Any]]] = {
    "dpo": (DPO(beta=0.3), {}),
    "all pairs, with likelihood": (DPO(beta=0.3, nll=1.0), {"samples": 4, "pairs": "all", "most": 4}),
    "ipo": (IPO(), {}),
    "sppo": (SPPO(eta=3.0, probability="data"), {"samples": 3, "labels": "bradley_terry"}),
    "xpo": (DPO(beta=0.3), {"samples": 1, "reference_samples": 1, "alpha": 0.1}),
    "spin": (DPO(beta=0.3), {"judge": "truth", "samples": 2}),
    "pairs that are compared": (AOT(), {"samples": 4}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_packing_and_accumulation_change_nothing(name: str) -> None:
    """One pack or one for each pair (gradient accumulation): the same gradient and the same figures."""
    objective, settings = SETTINGS[name]
    found = []
    for tokens in (4000, 1):
        policy = tiny.lora_policy(moved=True)  # the reference is the policy without its adapter: some nats away
        play = algorithm(policy, objective=objective, **settings)
        metrics = stepper(policy, Packing(tokens=tokens))(play.round(0, {}))
        found.append((metrics, tiny.gradients(policy)))
    (one, together), (many, apart) = found
    assert one["pairs"] >= 3
    assert abs(one["chosen_logratio"]) > 0.1
    assert one == pytest.approx(many, rel=1e-8, abs=1e-8)
    assert together.keys() == apart.keys()
    assert max(g.abs().max() for g in together.values()) > 1e-4
    for key, gradient in together.items():
        torch.testing.assert_close(apart[key], gradient, rtol=1e-8, atol=1e-10)


def test_the_gradient_is_that_of_the_mean_over_pairs_and_no_padding_is_measured() -> None:
    """By hand, one unpadded row at a time: the mean of −log σ(β·lead) over pairs, with four micro-batches as with one.
    Dividing by none of them would give four times as much. Drafts differ in length: the log-ratio, k1 of the KL, is
    summed over a completion's own tokens and no others."""
    policy, same = tiny.lora_policy(moved=True), tiny.lora_policy(moved=True)
    round = algorithm(policy, objective=DPO(beta=0.3)).round(0, {})
    groups = round.parts[0].groups
    assert len(groups) == 4
    assert len({len(b.tokens) for g in groups for b in g.branches}) > 1
    metrics = stepper(policy, Packing(tokens=1))(round)
    mine = [[row.sum() for row in tiny.alone(same.model, g)] for g in groups]
    with torch.no_grad(), same.as_reference():
        theirs = [[row.sum() for row in tiny.alone(same.model, g)] for g in groups]
    away = torch.stack([torch.stack(m) - torch.stack(t) for m, t in zip(mine, theirs, strict=True)])
    loss = -torch.nn.functional.logsigmoid(0.3 * (away[:, 0] - away[:, 1])).sum() / 4
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert metrics["chosen_logratio"] == pytest.approx(away[:, 0].mean().item(), rel=1e-9)
    assert metrics["rejected_logratio"] == pytest.approx(away[:, 1].mean().item(), rel=1e-9)
    for key, gradient in tiny.gradients(same).items():
        torch.testing.assert_close(tiny.gradients(policy)[key], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("made", [{"samples": 3}, {"judge": "truth", "samples": 1}], ids=["rewards", "truth"])
def test_a_round_serves_its_steps_and_comes_out_of_the_state(made: dict[str, Any]) -> None:
    """Two passes of three batches over one round's pairs, each prompt once a pass; then the next round."""
    play, state = algorithm(tiny.policy(), prompts="all", epochs=2, **made), {}
    rounds = []
    for step in range(7):
        rounds.append(play.round(step, state))
        state = json.loads(json.dumps(state))
    assert [r.figures["age"] for r in rounds] == [0, 1, 2, 3, 4, 5, 0]
    assert ["pairs" in r.figures for r in rounds] == [True, *[False] * 5, True]
    names = [[g.name for g in r.parts[0].groups] for r in rounds]
    for each in (names[:3], names[3:6]):
        assert sorted(n for batch in each for n in batch) == sorted(t.name for t in play.tasks)
    begun = {g.name: g for r in rounds[:3] for g in r.parts[0].groups}
    for group in (g for r in rounds[3:6] for g in r.parts[0].groups):
        for now, then in zip(group.branches, begun[group.name].branches, strict=True):
            assert torch.equal(now.tokens, then.tokens)
            assert (now.role, now.columns) == (then.role, then.columns)


def test_every_two_drafts_or_some_of_them() -> None:
    play = algorithm(tiny.policy(), samples=4, pairs="all", batch_size=12)
    round = play.round(0, {})
    every = {_key(g) for g in round.parts[0].groups}
    assert len(every) == round.figures["pairs"] == 12 * 6 - round.figures["ties"] > 60
    fewer = algorithm(tiny.policy(), samples=4, pairs="all", most=2, batch_size=12)
    some = [_key(g) for g in fewer.round(0, {}).parts[0].groups]
    assert len(some) == 24
    assert set(some) < every
    assert {name for name, *_ in some} == {t.name for t in play.tasks}
    places = [
        sorted(k for k in every if k[0] == name).index(key) for name, *_ in some for key in some if key[0] == name
    ]
    assert len(set(places)) > 3  # not always the same two


def _key(group: Group) -> tuple[str, str, str]:
    return group.name, *(text(b.tokens) for b in group.branches)


def test_labels_are_drawn_with_the_chance_of_the_model() -> None:
    """σ(scale·(r − r')) of the pairs have the better draft first, and the draw is a function of (seed, step)."""
    play = algorithm(tiny.policy(), labels="bradley_terry", scale=3.0, samples=8, pairs="all", batch_size=12)
    groups = play.round(0, {}).parts[0].groups
    again = algorithm(tiny.policy(), labels="bradley_terry", scale=3.0, samples=8, pairs="all", batch_size=12)
    assert [_key(g) for g in groups] == [_key(g) for g in again.round(0, {}).parts[0].groups]
    lead = torch.tensor([g.branches[0].columns["margin"] for g in groups])
    right = (lead > 0).double()
    want = torch.sigmoid(3.0 * lead.abs()).double()
    spread = (want * (1 - want)).sum().sqrt() / len(lead)
    assert 0 < right.mean() < 1
    assert abs(right.mean() - want.mean()) < 3 * spread


def test_win_rates_are_means_over_the_others() -> None:
    play = algorithm(tiny.policy(), samples=3)
    group = Group("g", torch.tensor([1]), tuple(_draft(i) for i in (10, 20, 30)))
    (pair,), ties = play.pairs(group, [2.0, 0.0, 1.0], iter([0.5]))
    assert ties == 0
    assert [(int(b.tokens[0]), b.columns["win_rate"]) for b in pair.branches] == [(10, 1.0), (20, 0.0)]
    soft = algorithm(tiny.policy(), samples=3, labels="bradley_terry")
    (pair,), _ = soft.pairs(group, [2.0, 0.0, 1.0], iter([0.999]))  # an upset
    sigma = torch.sigmoid(torch.tensor([1.0, 2.0], dtype=torch.float64)).mean().item()
    assert [int(b.tokens[0]) for b in pair.branches] == [20, 10]
    assert [b.columns["win_rate"] for b in pair.branches] == pytest.approx([1 - sigma, sigma])


def _draft(token: int, truncated: bool = False) -> Branch:
    return Branch(torch.tensor([token]), Role.DRAFT, {}, {"truncated": float(truncated), "from_reference": 0.0})


def test_a_draft_that_never_stopped_pays() -> None:
    group = Group("g", torch.tensor([1]), (_draft(10, truncated=True), _draft(20)))
    for penalty, chosen in ((0.4, 10), (0.6, 20)):
        (pair,), _ = algorithm(tiny.policy(), stop_penalty=penalty).pairs(group, [1.0, 0.5], iter([0.5]))
        assert int(pair.branches[0].tokens[0]) == chosen


def test_the_same_draft_twice_is_a_tie_whatever_a_judge_says_of_it() -> None:
    group = Group("g", torch.tensor([1]), (_draft(10), _draft(10)))
    for labels in ("hard", "bradley_terry"):
        assert algorithm(tiny.policy(), labels=labels).pairs(group, [1.0, 0.0], iter([0.1])) == ([], 1)
    assert compared(torch.zeros(3), "best_worst") == [(0, 2)]
    assert wins(torch.tensor([1.0, 1.0]), "hard", 1.0).tolist() == [[0.5, 0.5], [0.5, 0.5]]


@dataclass(frozen=True)
class Said:
    """A judge that has no verdict of some groups."""

    scores: Callable[[int], Sequence[float] | None]
    shares = True

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        return DraftScores([self.scores(i) for i in range(len(groups))])


def test_what_stays_without_a_verdict_is_left_out_and_counted() -> None:
    judge = Said(lambda i: None if i == 1 else [0.5, 0.5] if i == 2 else [0.0, 1.0])
    round = algorithm(tiny.policy(), by=judge).round(0, {})
    figures: Mapping[str, float] = round.figures
    assert (figures["unjudged"], figures["pairs"], figures["ties"], figures["no_pair"]) == (0.25, 2, 1, 0.5)
    assert "reward" not in figures
    assert [b.columns["win_rate"] for g in round.parts[0].groups for b in g.branches] == [1.0, 0.0] * 2


def test_the_ground_truth_wins_against_every_draft_but_itself() -> None:
    policy = tiny.policy()
    play = algorithm(policy, judge="truth", samples=2)
    asked = [play.tasks[i] for i in play.order.at(0, 4)]
    said = play.sampler.sample([asked[1].prompt], samples=2, seed=(3, 0))[0]
    play.tasks = [replace(t, truth=said[0].tokens) if t is asked[1] else t for t in play.tasks]
    round = play.round(0, {})
    assert (round.figures["pairs"], round.figures["ties"], round.figures["no_pair"]) == (7, 1, 0)
    truths = {t.name: t.truth for t in play.tasks}
    for group in round.parts[0].groups:
        assert torch.equal(group.branches[0].tokens, truths[group.name])
        assert [b.role for b in group.branches] == [Role.CHOSEN, Role.REJECTED]
    play.tasks[7] = replace(play.tasks[7], truth=None)
    with pytest.raises(
        DataError, match=r"task 7.*no reference answer.*\n  → add its reference answer, or use another judge"
    ):
        replace(play)


def test_one_draft_is_the_references() -> None:
    """It says what the policy without its adapter says, with noise of its own; optimism counts that draft alone."""
    policy = tiny.lora_policy(moved=True)
    made = {"samples": 1, "reference_samples": 1, "alpha": 0.5}
    play = algorithm(policy, reference=AdapterReference(policy), **made)
    asked, _ = play.draft(play.tasks[:4], 0)
    with policy.as_reference():
        alone = sampler(policy.model).sample([t.prompt for t in play.tasks[:4]], seed=(4, 0))
    for group, (draft,) in zip(asked, alone, strict=True):
        assert [b.columns["from_reference"] for b in group.branches] == [0.0, 1.0]
        assert torch.equal(group.branches[1].tokens, draft.tokens)
    fresh = tiny.lora_policy(moved=False)  # says what its reference says: only the noise sets them apart
    same = algorithm(fresh, reference=AdapterReference(fresh), **made).draft(play.tasks[:4], 0)[0]
    assert not all(torch.equal(*(b.tokens for b in g.branches)) for g in same)
    metrics = stepper(policy)(play.round(0, {}))
    assert metrics["alpha"] == 0.5
    assert metrics["loss"] == pytest.approx(metrics["loss/dpo"] + 0.5 * metrics["loss/optimism"])
    assert metrics["loss/optimism"] < -1


def test_optimism_falls_from_round_to_round() -> None:
    play = algorithm(tiny.policy(), samples=1, reference_samples=1, alpha=1e-5, alpha_decay="linear", prompts=8)
    assert play.steps_per_round == 2
    assert [replace(play, steps=6).alpha(n) for n in range(3)] == pytest.approx([1e-5, 5e-6, 0])
    assert replace(play, steps=2).alpha(0) == 1e-5
    assert replace(play, settings=replace(play.settings, alpha_decay="none"), steps=6).alpha(2) == 1e-5


def test_a_reward_that_is_no_number_stops_before_the_step() -> None:
    with pytest.raises(NonFiniteError, match="task"):
        algorithm(tiny.policy(), by=rewarded(lambda *_: float("nan"))).round(0, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 1}, "samples must be ≥ 2, to compare"),
        ({"judge": ()}, "at least one source"),
        ({"judge": "implicit"}, "implicit.reference: name what"),
        ({"most": 2}, "goes with pairs all"),
        ({"prompts": 6}, "multiple of training.batch_size"),
        ({"alpha": 0.1}, "alpha needs reference_samples"),
        ({"alpha_decay": "linear"}, "alpha_decay needs an alpha"),
        ({"judge": "truth", "labels": "bradley_terry"}, "need rewards"),
        ({"judge": "llm:http://localhost/v1#m", "stop_penalty": 1.0}, "need rewards"),
        ({"judge": "truth", "pairs": "all"}, "pairs each sample with the reference answer"),
        ({"rubric": "mine.jinja"}, "rubric needs a language model"),
        ({"batch_size": 13}, "more than there are rows"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    if settings.get("batch_size"):
        settings = {**settings, "prompts": "all"}
    with pytest.raises(ValueError, match=message):
        algorithm(tiny.policy(), **settings)


def test_a_round_asks_no_prompt_twice() -> None:
    with pytest.raises(RecipeError, match="some of the 12 twice"):
        algorithm(tiny.policy(), prompts=16)


LEARNERS: dict[str, tuple[Objective, dict[str, Any]]] = {
    "dpo": (DPO(), {"samples": 8}),
    "irpo": (DPO(nll=1.0), {"samples": 8, "pairs": "all", "most": 4}),
    "simpo": (SimPO(), {"samples": 8}),
    "sppo": (SPPO(eta=20.0, probability="data"), {"samples": 8}),
    "xpo": (DPO(), {"samples": 7, "reference_samples": 1, "alpha": 1e-3}),
}


@pytest.mark.parametrize(
    "name", ["dpo", "simpo", *(pytest.param(n, marks=pytest.mark.slow) for n in ("irpo", "sppo", "xpo"))]
)
def test_it_learns_to_say_what_is_preferred(name: str) -> None:
    """From about one token in 61 to more than half, in 40 steps of 12 prompts."""
    objective, settings = LEARNERS[name]
    policy = tiny.policy(dtype=torch.float32)
    made = algorithm(policy, objective=objective, by=rewarded(share), batch_size=12, **settings)
    play, step, state = replace(made, steps=40), stepper(policy), {}
    found = [step(play.round(s, state)) for s in range(40)]
    rewards = [m["reward"] for m in found]
    assert rewards[0] < 0.1
    assert sum(rewards[-3:]) / 3 > 0.5
