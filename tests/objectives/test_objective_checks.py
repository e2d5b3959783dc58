"""What `check_objective` checks: an objective that breaks one rule is refused by its check, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from support.scenes import branch, even, group, near
from twofold.batch import Batch, DataKind, Outputs, Role
from twofold.objectives import DPO, SPPO, BradleyTerry, checks
from twofold.objectives.base import Domain, Loss, Objective, Term
from twofold.objectives.pair_losses import logistic
from twofold.objectives.pair_scores import log_odds, mean
from twofold.objectives.pairs import Pairs

Value: TypeAlias = Callable[[Pairs], Tensor]
EVERYWHERE = Domain()


@dataclass(frozen=True)
class Mine(Objective):
    """DPO's loss, unless `value` says another [P]; `change` is what becomes of it."""

    value: Value = lambda pairs: logistic(pairs.logratio.margin)
    change: Callable[[Loss], Loss] = lambda loss: loss
    requires: tuple[str, ...] = ("ref_logp",)
    domain: Domain = EVERYWHERE

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        pairs = Pairs.of(outputs, batch)
        return self.change(Loss({"mine": Term(self.value(pairs), "pair")}, pairs.metrics(pairs.logratio)))


def scene(count: int = 5, seed: int = 0) -> checks.Scene:
    return checks.random_scene("pairs", count, torch.Generator().manual_seed(seed))


def cost(pairs: Pairs) -> Tensor:
    return logistic(pairs.logratio.margin)


def renamed(loss: Loss, **term: object) -> Loss:
    """The loss with another term."""
    return replace(loss, terms={"mine": replace(loss.terms["mine"], **term)})


def longer(pairs: Pairs) -> Tensor:
    """A value too many, where there are several pairs."""
    more = cost(pairs).new_zeros(1 if pairs.batch.count("pair") > 1 else 0)
    return torch.cat([cost(pairs), more])


def through_others(pairs: Pairs) -> Tensor:
    """Right values whose gradient is everyone's."""
    whole = cost(pairs).sum()
    return cost(pairs) + whole - whole.detach()


class Late(Mine):
    """It sums what it is given, and widens the sum."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        said, wide = outputs.logp_S, torch.promote_types(outputs.logp_S.dtype, torch.float32)
        reference = batch.sum(batch.token_columns["ref_logp"]).to(wide)
        logratio = batch.sum(said).to(wide) - reference
        loss = Mine.__call__(self, outputs, batch)
        return renamed(loss, value=logistic(logratio[0::2] - logratio[1::2]))


SPLIT, PERMUTED = (
    partial(checks.splits_into_micro_batches, bins=[0, 1, 0, 2, 1]),
    partial(checks.follows_permutations, order=[3, 0, 4, 1, 2]),
)
CASES: dict[str, tuple[Callable[..., None], Objective, str]] = {
    "averages by itself": (SPLIT, Mine(lambda p: cost(p) / len(cost(p))), "not close"),
    "counts places": (PERMUTED, Mine(lambda p: cost(p) * torch.arange(1, 1 + len(cost(p)))), "not close"),
    "sees others": (checks.keeps_groups_apart, Mine(lambda p: cost(p) + cost(p).mean().detach()), "not close"),
    "pulls others": (checks.keeps_groups_apart, Mine(through_others), "mine: row 0 moves other groups' tokens"),
    "a value too many": (checks.keeps_groups_apart, Mine(longer), "mine: 6 values, but 5 from separate groups"),
    "untold": (checks.has_one_entry_per_unit, Mine(change=lambda x: Loss(x.terms)), "no metrics"),
    "unit": (checks.has_one_entry_per_unit, Mine(change=partial(renamed, unit="row")), "unknown unit 'row'"),
    "count": (checks.has_one_entry_per_unit, Mine(change=partial(renamed, unit="branch")), r"\(5,\) for 10 of branch"),
    "no gradient": (checks.has_one_entry_per_unit, Mine(lambda p: cost(p).detach()), "a term has no gradient"),
    "a metric's gradient": (
        checks.has_one_entry_per_unit,
        Mine(change=lambda x: Loss(x.terms, {"mine": x.terms["mine"]})),
        "a metric has a gradient",
    ),
    "a metric's unit": (
        checks.has_one_entry_per_unit,
        Mine(change=lambda x: replace(x, metrics={"a": Term(torch.zeros(5), "row:chosen")})),
        "a: unknown unit 'row:chosen'",
    ),
    "next to nothing": (checks.has_the_gradient_of_its_loss, Mine(lambda p: 1e-5 * cost(p)), "no gradient to speak of"),
    "another gradient": (
        checks.has_the_gradient_of_its_loss,
        Mine(lambda p: 2 * cost(p) - cost(p).detach()),
        "Jacobian mismatch",
    ),
    "narrow": (checks.widens_bfloat16, Mine(lambda p: cost(p).bfloat16()), "mine is torch.bfloat16"),
    "widened late": (checks.widens_bfloat16, Late(), "not close"),
    "a steep end": (
        checks.widens_bfloat16,
        Mine(lambda p: cost(p) + (p.logratio.margin - p.logratio.margin.detach()).abs().sqrt()),
        "a gradient is not finite",
    ),
    "in vain": (
        checks.uses_what_it_requires,
        Mine(lambda p: logistic(p.logp.margin)),
        "the column 'ref_logp' is required and moves nothing",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_check_refuses_what_breaks_its_rule(name: str) -> None:
    check, broken, message = CASES[name]
    with pytest.raises(AssertionError, match=message):
        check(broken, scene())
    check(Mine(), scene())


@pytest.mark.parametrize("name", CASES)
def test_the_whole_check_refuses_it_too(name: str) -> None:
    with pytest.raises(AssertionError):
        checks.check_objective(CASES[name][1])


def test_a_unit_may_name_a_role() -> None:
    told = Mine(change=lambda x: replace(x, metrics={"a": Term(torch.zeros(5), "branch:chosen")}))
    checks.has_one_entry_per_unit(told, scene())


def test_whoever_couples_groups_may_see_others_and_whoever_is_constant_has_another_gradient() -> None:
    @dataclass(frozen=True)
    class Coupled(Mine):
        couples = True

    checks.check_objective(Coupled(lambda p: cost(p) * cost(p).mean()))
    held = CASES["another gradient"][1]
    checks.check_objective(held, constant=True)
    with pytest.raises(AssertionError, match="mismatch"):
        checks.check_objective(held)


def test_what_is_required_beside_the_reference_is_painted() -> None:
    def paint(count: int, noise: torch.Generator) -> checks.Scene:
        groups, logps = checks.random_scene("pairs", count, noise)
        return [g.with_columns([{"win_rate": 0.7}, {"win_rate": 0.3}]) for g in groups], logps

    checks.check_objective(SPPO(eta=10.0, probability="data"), paint)
    with pytest.raises(KeyError, match="win_rate"):
        checks.check_objective(SPPO(eta=10.0, probability="data"))
    fixed = Mine(requires=("ref_logp", "win_rate"))
    with pytest.raises(AssertionError, match="the column 'win_rate' is required and moves nothing"):
        checks.uses_what_it_requires(fixed, paint(4, torch.Generator().manual_seed(0)))


@dataclass(frozen=True)
class Metric(Mine):
    """DPO with a metric that is infinite where chosen is left."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        loss, pairs = DPO()(outputs, batch), Pairs.of(outputs, batch)
        told = Term((-pairs.logratio.chosen.detach()).exp(), "pair")
        return replace(loss, metrics={**loss.metrics, "told": told})


def odds(pairs: Pairs) -> Tensor:
    return logistic(mean(pairs.logp, pairs).map(log_odds).margin)


def hole(logratio: Tensor) -> Tensor:
    """Infinite near 0, but not there."""
    return torch.where((logratio != 0) & (logratio.abs() < 1e-20), torch.inf, 0.0)


EXTREME: list[tuple[Objective, list[tuple[float, str]]]] = [
    (Mine(), []),
    (Mine(lambda p: (-p.logratio.chosen).exp()), [(1e4, "the loss is inf")]),
    (Mine(lambda p: p.logratio.chosen.exp()), [(1e4, "the loss is inf")]),
    (Mine(lambda p: (-p.logratio.chosen).exp(), domain=Domain(logratio=80.0)), []),
    (Mine(odds), [(0.0, "the loss is nan"), (1e-30, "the loss is nan"), (1e4, "the loss is nan")]),
    (Mine(odds, domain=Domain(certain=False)), []),
    (Mine(lambda p: (-(p.logp / p.length).chosen).exp()), [(1e4, "the loss is inf")]),
    (Mine(lambda p: (-(p.logp / p.length).chosen).exp(), domain=Domain(token=80.0)), []),
    (Mine(lambda p: cost(p) + 0 * p.logratio.chosen.abs().log()), [(0.0, "the loss is nan")]),
    (Mine(lambda p: cost(p) + p.logratio.chosen.abs().sqrt()), [(0.0, "a gradient is not finite")]),
    (Mine(lambda p: cost(p) + hole(p.logratio.chosen)), [(1e-30, "the loss is inf")]),
    (Metric(), [(1e4, "a metric is not finite")]),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "outside"), EXTREME, ids=range(len(EXTREME)))
def test_what_is_not_finite_at_an_extreme_is_refused_unless_its_domain_ends_before(
    objective: Objective, outside: list[tuple[float, str]]
) -> None:
    refused = dict(outside)
    for size in (0.0, 1e-30, 1e4):
        if size in refused:
            with pytest.raises(AssertionError, match=refused[size]):
                checks.is_finite_at_extremes(objective, scene(6), size, torch.float32)
        else:
            checks.is_finite_at_extremes(objective, scene(6), size, torch.float32)
    if refused:
        with pytest.raises(AssertionError):
            checks.check_objective(objective)


def test_either_turn_is_tried() -> None:
    """One pair alone: what overflows where the policy leaves it, and what overflows where the reference does."""
    for sign in (1.0, -1.0):
        objective = Mine(lambda p, sign=sign: (sign * p.logratio.chosen).exp())
        with pytest.raises(AssertionError, match="the loss is inf"):
            checks.is_finite_at_extremes(objective, scene(1), 1e4, torch.float32)


@pytest.mark.parametrize("kind", ["pairs", "triples", "rankings", "labels", "steps", "demonstrations"])
def test_random_scenes_are_of_what_is_learnt(kind: DataKind) -> None:
    """Of 400 groups: one to five tokens a branch, between 0 and −3 nats each for policy and reference, which differ."""
    groups, logps = checks.random_scene(kind, 400, torch.Generator().manual_seed(0))
    assert [g.name for g in groups] == [f"row {i}" for i in range(400)]
    roles = {tuple(b.role for b in g.branches) for g in groups}
    assert (
        roles
        == {
            "pairs": {(Role.CHOSEN, Role.REJECTED)},
            "triples": {(Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION)},
            "rankings": {(Role.RANKED,) * n for n in (2, 3, 4, 5)},
            "labels": {(Role.DESIRABLE,), (Role.UNDESIRABLE,)},
            "steps": {(Role.STEPS,)},
            "demonstrations": {(Role.DEMONSTRATION,)},
        }[kind]
    )
    branches, said = [b for g in groups for b in g.branches], [x for row in logps for x in row]
    assert {len(b.tokens) for b in branches} == {1, 2, 3, 4, 5}
    assert [len(b.tokens) for b in branches] == [len(x) for x in said]
    drawn, reference = torch.cat(said), torch.cat([b.token_columns["ref_logp"] for b in branches])
    for value in (drawn, reference):
        assert -3 <= value.min() < -2.9 < -0.1 < value.max() <= 0
        assert value.dtype == torch.float64
        assert value.mean().item() == pytest.approx(-1.5, abs=0.2)
    assert (drawn == reference).sum() == 0
    again = checks.random_scene(kind, 400, torch.Generator().manual_seed(0))
    assert all(torch.equal(x, y) for a, b in zip(logps, again[1], strict=True) for x, y in zip(a, b, strict=True))


def test_what_a_step_minimises_by_hand() -> None:
    """Two terms over two pairs, one of them weighted: (1 + 3)/2 + ½·(8 + 8 + 8 + 8)/4; over a round of four pairs and
    eight branches half of that."""
    made = scene(2)
    loss = Loss({"a": Term(torch.tensor([1.0, 3.0]), "pair"), "b": Term(torch.full((4,), 8.0), "branch", 0.5)})
    assert checks.total(loss, Batch.of(made[0])).item() == 6.0
    assert checks.total(loss, Batch.of(scene(4)[0])).item() == 3.0


def test_gradients_are_of_the_whole_round() -> None:
    """Of log-ratios of 0 DPO's gradient is ∓β/2 a token; averaged over two pairs, or over four."""
    made = (
        [group("0", branch(Role.CHOSEN, even(-2.0, 2)), branch(Role.REJECTED, even(-1.0, 1)))],
        [[even(-2.0, 2), even(-1.0, 1)]],
    )
    assert checks.gradient(DPO(beta=1.0), made).tolist() == near([-0.5, -0.5, 0.5])
    assert checks.gradient(DPO(beta=1.0), made, Batch.of(scene(4)[0])).tolist() == near([-0.125, -0.125, 0.125])
    assert checks.gradient(DPO(beta=1.0), made, dtype=torch.float32).dtype == torch.float32
    assert checks.offsets((made[0] * 2, made[1] * 2)) == [slice(0, 3), slice(3, 6)]
    picked = checks.pick(([*made[0], *scene(1)[0]], [*made[1], *scene(1)[1]]), [1])
    assert (picked[0][0].name, len(picked[1])) == ("row 0", 1)


def test_what_an_objective_hears() -> None:
    said = torch.tensor([-1.0, -3.0], requires_grad=True)
    scores, logps = checks.heard(BradleyTerry(), said), checks.heard(DPO(), said)
    assert (scores.score_B is said, scores.logp_S) == (True, None)
    assert (logps.logp_S is said, logps.score_B) == (True, None)
    assert {k: v.tolist() for k, v in logps.statistics.items()} == {
        "log_collision": [-0.5, -1.5], "log_greedy": [-0.5, -1.5], "top_entropy": [0.5, 1.5], "entropy": [0.5, 1.5],
    }  # fmt: skip
    assert {k for k, v in logps.statistics.items() if v.requires_grad} == {"entropy"}
