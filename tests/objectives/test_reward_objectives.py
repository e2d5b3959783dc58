"""Objectives of a reward model: golden vectors, values by hand, ties, and a table of scores that learns an order."""

from __future__ import annotations

import math

import pytest
import torch

from support.golden import expected, given
from support.reward_scenes import evaluate, pairs, scored
from support.scenes import Scene, gradient, near, total
from twofold.batch import Batch, Outputs
from twofold.objectives import BradleyTerry, RewardPlackettLuce
from twofold.objectives.base import Loss, Objective, scores


def values(loss: Loss) -> list[float]:
    (term,) = loss.terms.values()
    return term.value.tolist()


def mean(loss: Loss, scene: Scene) -> float:
    return total(loss, Batch.of(scene[0])).item()


def test_bradley_terry() -> None:
    case, want = given("rm.bradley_terry"), expected("rm.bradley_terry")
    scene = pairs(case)
    loss = evaluate(BradleyTerry(), scene)
    assert values(loss) == near(want["loss"])
    assert mean(loss, scene) == near(want["loss_mean"])
    assert loss.metrics["accuracy"].value.mean().item() == want["accuracy"]
    assert (2 * gradient(BradleyTerry(), scene))[0::2].tolist() == near(want["grad_chosen"])


def test_bradley_terry_with_a_margin_of_the_data() -> None:
    case, want = given("rm.bt_margin"), expected("rm.bt_margin")
    scene = pairs(case, case["margin"])
    loss = evaluate(BradleyTerry(margin="data"), scene)
    assert values(loss) == near(want["loss"])
    assert mean(loss, scene) == near(want["loss_mean"])
    assert values(evaluate(BradleyTerry(margin=case["margin"][0]), scene))[0] == near(want["loss"][0])


def test_bradley_terry_centred() -> None:
    case, want = given("rm.bt_centered"), expected("rm.bt_centered")
    scene = pairs(case)
    assert mean(evaluate(BradleyTerry(centring=case["c"]), scene), scene) == near(want["loss"])


def test_instructgpt_over_all_pairs_of_a_prompt() -> None:
    case, want = given("rm.instructgpt_k3"), expected("rm.instructgpt_k3")
    loss = evaluate(BradleyTerry(), scored([case["scores"][i] for i in case["ranking"]]))
    assert values(loss) == near([want["loss"]])
    assert loss.metrics["accuracy"].value.tolist() == [want["accuracy"]]


def test_plackett_luce() -> None:
    case, want = given("rm.plackett_luce_k3"), expected("rm.plackett_luce_k3")
    loss = evaluate(RewardPlackettLuce(), scored([case["scores"][i] for i in case["ranking"]]))
    assert values(loss) == near([want["loss"]])
    assert math.exp(-values(loss)[0]) == near(want["prob"])


def test_bradley_terry_by_hand() -> None:
    """Scores of ln 6, ln 3 and 0, best first: σ of the leads ln 2, ln 6 and ln 3 is 2/3, 6/7 and 3/4, so the loss is
    −log(2/3 · 6/7 · 3/4)/3 = log(7/3)/3; its gradient by the best score is −(1/3 + 1/7)/3 = −10/63."""
    scene = scored([math.log(6), math.log(3), 0.0])
    assert values(evaluate(BradleyTerry(), scene)) == near([math.log(7 / 3) / 3])
    assert gradient(BradleyTerry(), scene)[0].item() == near(-10 / 63)


def test_reward_plackett_luce_by_hand() -> None:
    """Scores of ln 3, ln 2 and 0: best first has probability 3/6 · 2/3 = 1/3; with the first two tied each of them
    wins against the third alone, 3/4 · 2/3 = 1/2, and the gradient by the best score is 3/4 − 1 = −1/4."""
    row = [math.log(3), math.log(2), 0.0]
    assert values(evaluate(RewardPlackettLuce(), scored(row))) == near([math.log(3)])
    tied = scored(row, levels=[0, 0, 1])
    assert values(evaluate(RewardPlackettLuce(), tied)) == near([math.log(2)])
    assert gradient(RewardPlackettLuce(), tied)[0].item() == near(-0.25)


def test_tied_completions_are_not_compared() -> None:
    """Two comparisons are left of three; the figures of the best are means over both."""
    tied = scored([1.0, -1.0, 0.0], levels=[0, 0, 1])
    loss = evaluate(BradleyTerry(), tied)
    want = (math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2
    assert values(loss) == near([want])
    found = {name: term.value.item() for name, term in loss.metrics.items()}
    assert (found["accuracy"], found["kendall_tau"], found["best_score"], found["margin"]) == (0.5, 0, 0, 0)


def test_two_completions_make_both_one() -> None:
    scene = scored([0.3, -0.4], [-2.0, 1.0])
    a, b = (values(evaluate(o, scene)) for o in (BradleyTerry(), RewardPlackettLuce()))
    assert a == near(b)


@pytest.mark.parametrize("objective", [BradleyTerry(), RewardPlackettLuce()], ids=str)
def test_a_constant_of_the_prompt_changes_nothing_and_centring_sees_it(objective: Objective) -> None:
    row, raised = [0.3, -0.4, 1.0], [5.3, 4.6, 6.0]
    assert values(evaluate(objective, scored(row))) == near(values(evaluate(objective, scored(raised))))
    centred = [mean(evaluate(BradleyTerry(centring=0.01), s), s) for s in (scored(row), scored(raised))]
    assert centred[1] > centred[0] + 1


@pytest.mark.parametrize("objective", [BradleyTerry(), RewardPlackettLuce()], ids=str)
def test_a_table_of_scores_learns_the_order(objective: Objective) -> None:
    theta, order = torch.zeros(5, dtype=torch.float64, requires_grad=True), [3, 1, 0, 2]
    batch = Batch.of(scored([0.0] * 4)[0])
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        total(objective(Outputs(score_B=theta[order]), batch), batch).backward()
        optimizer.step()
    found = theta.detach()[order]
    assert (found[:-1] - found[1:]).min().item() > 1
    assert theta[4].item() == 0


def test_centring_holds_the_mean_at_zero() -> None:
    """A pair that begins at scores 5 and 5: preference alone keeps their sum, centring brings it to 0."""
    ends = []
    for centring in (0.0, 0.1):
        theta, batch = torch.full((2,), 5.0, dtype=torch.float64, requires_grad=True), Batch.of(scored([0.0, 0.0])[0])
        optimizer = torch.optim.SGD([theta], lr=0.5)
        for _ in range(200):
            optimizer.zero_grad()
            total(BradleyTerry(centring=centring)(Outputs(score_B=theta), batch), batch).backward()
            optimizer.step()
        ends.append(theta.detach())
    assert ends[0].sum().item() == near(10)
    assert ends[1].sum().item() == pytest.approx(0, abs=1e-6)
    assert all((end[0] - end[1]).item() > 2 for end in ends)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="`centring` must be ≥ 0"):
        BradleyTerry(centring=-1.0)
    with pytest.raises(ValueError, match="not all tied"):
        evaluate(RewardPlackettLuce(), scored([1.0, 0.0], levels=[0, 0]))
    with pytest.raises(ValueError, match="gives no scores"):
        scores(Outputs(torch.zeros(1)))
    assert BradleyTerry().reads == "scores"


def test_what_is_told_of_scores() -> None:
    """One ranking of 3, 1, 2 with lengths 1: of three comparisons two are right; and one that is all but tied, of which
    two are best and equal scores are not right."""
    made = scored([3.0, 1.0, 2.0])
    loss = evaluate(BradleyTerry(), made)
    found = {name: term.value.item() for name, term in loss.metrics.items()}
    assert found == {
        "accuracy": near(2 / 3), "kendall_tau": near(1 / 3), "margin": 1.0, "best_score": 3.0, "best_length": 1.0,
        "worst_score": 2.0, "worst_length": 1.0,
    }  # fmt: skip
    assert {term.unit for term in loss.metrics.values()} == {"group"}
    tied = {
        n: t.value.item()
        for n, t in evaluate(BradleyTerry(), scored([2.0, 0.0, 0.0], levels=[0, 0, 1])).metrics.items()
    }
    assert (tied["accuracy"], tied["kendall_tau"], tied["best_score"], tied["worst_score"]) == (0.5, 0.5, 1.0, 0.0)


def test_each_ranking_has_its_own_means() -> None:
    """Of two rankings, three comparisons and one; margins of the data are each row's own."""
    row, pair = [math.log(6), math.log(3), 0.0], [0.0, math.log(2)]
    both = values(evaluate(BradleyTerry(), scored(row, pair)))
    assert both == near([math.log(7 / 3) / 3, math.log(3)])
    apart = values(evaluate(BradleyTerry(margin="data"), scored(pair, pair, margins=[0.0, math.log(2)])))
    assert apart == near([math.log(3), math.log(5)])
    centred = evaluate(BradleyTerry(centring=0.5), scored([2.0, -1.0], [1.0, 1.0])).terms["centring"]
    assert (centred.value.tolist(), centred.weight, centred.unit) == ([1.0, 4.0], 0.5, "group")


def test_one_ranking_all_tied_among_others_is_refused() -> None:
    with pytest.raises(ValueError, match="not all tied"):
        evaluate(BradleyTerry(), scored([1.0, 0.0], [1.0, 0.0], levels=[0, 0]))
    for made in (scored([1.0], [1.0, 0.0]), scored([1.0, 0.0], [1.0])):
        with pytest.raises(ValueError, match="two or more ranked"):
            evaluate(BradleyTerry(), made)
