"""The laws of a row's weight and probability, over the whole union: objectives know of neither."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support.scenes import VARIANTS, Scene, painted, preferences
from twofold.batch import Batch, Branch, Group, Role, with_row_columns
from twofold.objectives import (
    AOT,
    DPO,
    IPO,
    KTO,
    SFT,
    SPPO,
    TPO,
    AlphaPO,
    BCOPair,
    BradleyTerry,
    PDPOGenerator,
    SimPO,
    SLiC,
)
from twofold.objectives.base import Objective
from twofold.objectives.checks import heard, leaf, pick
from twofold.objectives.row_columns import evaluated, in_doubt, with_both_orders
from twofold.objectives.sum import Sum, Summand

OBJECTIVES = [o for them in VARIANTS.values() for o in them if o.data_kind != "prompts"]
OBJECTIVES = [o for o in OBJECTIVES if not isinstance(o, PDPOGenerator)]
OBJECTIVES += [
    Sum(parts=(
        Summand(objective=DPO(), weight=0.8), Summand(objective=BCOPair()), Summand(objective=SFT(), on="chosen"),
    )),
    Sum(parts=(Summand(objective=KTO(), weight=0.5), Summand(objective=SFT(average="completion"), on="desirable"))),
    Sum(parts=(Summand(objective=BradleyTerry()), Summand(objective=BradleyTerry(margin=0.5), weight=0.3))),
]  # fmt: skip
EVERY = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
UNDOUBTED = ("demonstrations", "steps")
DOUBTED = [o for o in OBJECTIVES if o.data_kind not in UNDOUBTED and "win_rate" not in o.requires]
WEIGHTS = (2.0, 0.0, 1.0, 3.0)


Grads = list[list[Tensor]]


def figures(objective: Objective, scene: Scene, bins: list[list[int]] | None = None) -> tuple[Grads, dict[str, float]]:
    """The gradient by each output of the scene, and loss and metrics: sums over packs of entries times weights, over
    the weight of the whole round, as the step takes them."""
    scene = with_row_columns(scene[0]), scene[1]
    whole = with_both_orders(objective, Batch.of(scene[0]))
    said = [[x.clone().requires_grad_() for x in row] for row in scene[1]]
    sums: dict[str, float] = {}
    loss = torch.zeros((), dtype=torch.float64)
    for members in bins or [list(range(len(said)))]:
        outputs = heard(objective, torch.cat([x for i in members for x in said[i]]))
        found, batch = evaluated(objective, outputs, Batch.of(pick(scene, members)[0]))
        for name, term in (*found.terms.items(), *((f"metric {n}", t) for n, t in found.metrics.items())):
            if mass := whole.mass(term.unit):
                weight_N = batch.weights(term.unit)
                value = (term.value if weight_N is None else term.value * weight_N).sum() / mass
                sums[name] = sums.get(name, 0.0) + value.item()
                loss = loss + term.weight * value if name in found.terms else loss
    loss.backward()
    return [[torch.zeros_like(x) if x.grad is None else x.grad for x in row] for row in said], sums


def numbered(scene: Scene, **columns: tuple[float, ...]) -> Scene:
    """The scene whose rows have these columns."""
    rows = [[{k: v[i] for k, v in columns.items()}] * len(g.branches) for i, g in enumerate(scene[0])]
    return [g.with_columns(row) for g, row in zip(scene[0], rows, strict=True)], scene[1]


def same(found: Grads, expected: Grads) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.cat(mine), torch.cat(theirs), rtol=1e-12, atol=1e-12)


def added(rows: Grads) -> list[Tensor]:
    return [torch.stack(branch).sum(0) for branch in zip(*rows, strict=True)]


@EVERY
def test_a_row_of_weight_2_is_the_row_twice(objective: Objective) -> None:
    """And one of weight 0 is none, in every packing: gradient, loss and all metrics."""
    scene = painted(objective, 4, torch.Generator().manual_seed(7))
    copies = [i for i, w in enumerate(WEIGHTS) for _ in range(int(w))]
    plain, expected = figures(objective, pick(scene, copies))
    nothing = [[torch.zeros_like(x) for x in row] for row in scene[1]]
    repeated = [added([nothing[i], *(g for c, g in zip(copies, plain, strict=True) if c == i)]) for i in range(4)]
    for bins in (None, [[0, 2], [1], [3]]):
        if not (objective.couples and bins):
            grads, seen = figures(objective, numbered(scene, weight=WEIGHTS), bins)
            same(grads, repeated)
            assert seen == pytest.approx(expected, rel=1e-11, abs=1e-11)
    unweighted, _ = figures(objective, scene)
    assert not all(torch.allclose(torch.cat(a), torch.cat(b)) for a, b in zip(grads, unweighted, strict=True))


@pytest.mark.parametrize("objective", DOUBTED, ids=str)
def test_a_row_in_doubt_is_the_mixture_of_both_labels(objective: Objective) -> None:
    """p·L(c, r) + (1 − p)·L(r, c), from rows that are turned around by hand and weigh p and 1 − p."""
    scene = painted(objective, 3, torch.Generator().manual_seed(8))
    scene = of_two(scene) if objective.data_kind == "rankings" else scene
    sure, weight = (0.7, 1.0, 0.25), (1.0, 2.0, 0.5)
    grads, seen = figures(
        objective, numbered(scene, probability=sure, weight=weight), None if objective.couples else [[0], [1, 2]]
    )
    other = turned(scene)
    weights = [w * p for w, p in zip(weight, sure, strict=True)], [w - w * p for w, p in zip(weight, sure, strict=True)]
    both = [*scene[0], *other[0]], [*scene[1], *other[1]]
    plain, expected = figures(objective, numbered(both, weight=(*weights[0], *weights[1])))
    same(grads, [added([a, b]) for a, b in zip(plain[:3], sides_exchanged(plain[3:]), strict=True)])
    assert seen == pytest.approx(expected, rel=1e-11, abs=1e-11)


def of_two(scene: Scene) -> Scene:
    """The best and the worst of each ranking."""
    return [replace(g, branches=(g.branches[0], g.branches[-1])) for g in scene[0]], [[r[0], r[-1]] for r in scene[1]]


def turned(scene: Scene) -> Scene:
    """The other order of each row: the two sides exchange all but their role and level, a completion its label."""
    return [_turned_group(g) for g in scene[0]], sides_exchanged(scene[1])


def sides_exchanged(rows: Grads) -> Grads:
    return [[row[1], row[0], *row[2:]] if len(row) > 1 else row for row in rows]


def _turned_group(group: Group) -> Group:
    labels = {Role.DESIRABLE: Role.UNDESIRABLE, Role.UNDESIRABLE: Role.DESIRABLE}
    if len(group.branches) == 1:
        (only,) = group.branches
        return replace(group, branches=(replace(only, role=labels[only.role]),))
    first, second, *rest = group.branches
    return replace(group, branches=(_in_place_of(second, first), _in_place_of(first, second), *rest))


def _in_place_of(branch: Branch, place: Branch) -> Branch:
    return replace(branch, role=place.role, columns=place.columns)


def test_a_certain_row_is_the_row_and_a_row_turned_around_is_the_other_one() -> None:
    scene = preferences(2, torch.Generator().manual_seed(1))
    sure, _ = figures(DPO(), numbered(scene, probability=(1.0, 1.0)))
    assert all(torch.equal(torch.cat(a), torch.cat(b)) for a, b in zip(sure, figures(DPO(), scene)[0], strict=True))
    wrong, seen = figures(DPO(beta=1.0), numbered(scene, probability=(0.0, 0.0)))
    other, expected = figures(DPO(beta=1.0), turned(scene))
    same(wrong, sides_exchanged(other))
    assert seen == pytest.approx(expected)


def test_even_odds_are_one_bit_of_smoothing() -> None:
    """p = ½ under DPO is cDPO of ε = ½: −½·log σ(m) − ½·log σ(−m), without gradient at m = 0."""
    groups = [Group("a", torch.zeros(1, dtype=torch.int64), tuple(
        Branch(torch.zeros(1, dtype=torch.int64), role, {"ref_logp": torch.tensor([x])})
        for role, x in ((Role.CHOSEN, -1.0), (Role.REJECTED, -2.0))))]  # fmt: skip
    scene = numbered((groups, [[torch.tensor([-1.0]).double(), torch.tensor([-2.0]).double()]]), probability=(0.5,))
    grad, seen = figures(DPO(), scene)
    assert not torch.cat(grad[0]).any()
    assert seen["dpo"] == pytest.approx(0.6931471805599453)


def test_ipo_in_doubt_has_the_target_of_its_paper() -> None:
    """p·(h − t)² + (1 − p)·(h + t)² = (h − (2p − 1)·t)² + a constant: arXiv:2310.12036 with p for the label."""
    scene = preferences(3, torch.Generator().manual_seed(2))
    sure = (0.9, 0.6, 0.2)
    grad, _ = figures(IPO(tau=0.5), numbered(scene, probability=sure))
    said = leaf(scene[1])
    batch = Batch.of(scene[0])
    h = batch.sum(said - batch.token_columns["ref_logp"])
    target = torch.tensor([2 * p - 1 for p in sure])
    (h[0::2] - h[1::2] - target).square().mean().backward()
    assert said.grad is not None
    torch.testing.assert_close(torch.cat([x for row in grad for x in row]), said.grad)


def test_what_reads_the_probability_itself_is_left_alone() -> None:
    batch = Batch.of(numbered(preferences(2, torch.Generator().manual_seed(1)), probability=(0.7, 0.7))[0])
    assert not in_doubt(SPPO(probability="data"), batch)
    assert in_doubt(SPPO(), batch)
    assert with_both_orders(SPPO(probability="data"), batch) is batch


def test_rows_without_numbers_count_once_beside_others_that_have_them() -> None:
    scene = preferences(2, torch.Generator().manual_seed(1))
    first = numbered(pick(scene, [0]), weight=(3.0,), probability=(0.75,))[0]
    made = with_row_columns([*first, scene[0][1]])
    assert [b.columns["weight"] for g in made for b in g.branches] == [3.0, 3.0, 1.0, 1.0]
    assert [b.columns["probability"] for g in made for b in g.branches] == [0.75, 0.75, 1.0, 1.0]
    assert with_row_columns(scene[0]) == scene[0]


def test_masses_of_units() -> None:
    scene = numbered(preferences(2, torch.Generator().manual_seed(3)), weight=(2.0, 0.5))
    batch = Batch.of(scene[0])
    (a, b), (c, d) = ([len(x.tokens) for x in g.branches] for g in scene[0])
    assert [batch.mass(unit) for unit in ("group", "pair", "branch", "branch:rejected")] == [2.5, 2.5, 5.0, 2.5]
    assert batch.mass("token") == 2.0 * (a + b) + 0.5 * (c + d)
    assert batch.mass("token:chosen") == 2.0 * a + 0.5 * c


def test_a_ranking_of_three_has_no_other_order() -> None:
    """A pair in doubt beside it is turned around; the ranking counts once, with its own order."""
    made = painted(BradleyTerry(), 6, torch.Generator().manual_seed(4))
    three = next(i for i, g in enumerate(made[0]) if len(g.branches) > 2)
    two = next(i for i, g in enumerate(made[0]) if len(g.branches) == 2)
    scene = pick(made, [three, two])
    grad, _ = figures(BradleyTerry(), numbered(scene, probability=(1.0, 0.5)))
    alone, _ = figures(BradleyTerry(), pick(scene, [0]))
    same(grad[:1], [[x / 2 for x in alone[0]]])


def test_quantiles_as_wide_as_weights_by_hand() -> None:
    """Two pairs of weight 3 and 1, unpaired, β 1: chosen 0 and 4, rejected −1 and 2 (log-ratios). The better side has
    0 up to ¾ and 4 behind it, the worse −1 up to ¾ and 2: margins 1 and 2, loss (3·l(1) + l(2))/4. With the weights of
    the worse pair exchanged, quantiles cross: rejected −1 weighs 1, 2 weighs 3: margins 1, −2, −2, 2."""

    def softplus(x: float) -> float:
        return torch.nn.functional.softplus(torch.tensor(-x, dtype=torch.float64)).item()

    for rejected, margins in (((-1.0, 2.0), (1, 1, 1, 2)), ((2.0, -1.0), (1, -2, -2, 2))):
        token = torch.zeros(1, dtype=torch.int64)
        groups, said = [], []
        for chosen, other in zip((0.0, 4.0), rejected, strict=True):
            ref = {"ref_logp": torch.tensor([-9.0], dtype=torch.float64)}
            groups.append(Group("x", token, (Branch(token, Role.CHOSEN, ref), Branch(token, Role.REJECTED, ref))))
            said.append([torch.tensor([v - 9.0], dtype=torch.float64) for v in (chosen, other)])
        _, seen = figures(AOT(beta=1.0, form="unpaired"), numbered((groups, said), weight=(3.0, 1.0)))
        assert seen["aot"] == pytest.approx(sum(map(softplus, margins)) / 4)


MARGINS: list[tuple[type[Objective], str]] = [
    (DPO, "offset"), (SimPO, "gamma"), (AlphaPO, "gamma"), (TPO, "gamma"), (SLiC, "delta"), (BradleyTerry, "margin"),
]  # fmt: skip


@pytest.mark.parametrize(("member", "setting"), MARGINS, ids=lambda x: getattr(x, "__name__", x))
def test_a_margin_of_rows_is_the_margin_of_the_loss(member: type[Objective], setting: str) -> None:
    """Rows that all say 0.75 are that setting; rows that differ are each their own."""
    reads = member(**{setting: "data"})  # type: ignore[call-arg]  # of the settings that it has
    assert (reads.margin_setting, "margin" in reads.requires) == (setting, True)
    scene = painted(reads, 3, torch.Generator().manual_seed(6))
    fixed = {m: figures(member(**{setting: m}), scene) for m in (0.75, 0.25)}  # type: ignore[call-arg]  # as above
    same(figures(reads, numbered(scene, margin=(0.75,) * 3))[0], fixed[0.75][0])
    mixed = figures(reads, numbered(scene, margin=(0.75, 0.25, 0.75)))[0]
    same(mixed, [fixed[0.75][0][0], fixed[0.25][0][1], fixed[0.75][0][2]])
    assert fixed[0.75][1] != fixed[0.25][1]


def test_every_other_objective_has_no_margin() -> None:
    named = {member for member, _ in MARGINS}
    assert {type(o) for o in OBJECTIVES if o.margin_setting is not None and not isinstance(o, Sum)} == named


@pytest.mark.parametrize("role", [r for r in Role if r not in (Role.CHOSEN, Role.REJECTED)], ids=lambda r: r.name)
def test_of_two_completions_ranked_ones_alone_have_another_order(role: Role) -> None:
    branches = [Branch(torch.arange(n), role, columns={"probability": 0.75}) for n in (2, 3)]
    batch = with_both_orders(IPO(), Batch.of([Group("g", torch.arange(4), tuple(branches))]))
    assert batch.length_B.tolist() == [2, 3, *([3, 2] if role is Role.RANKED else [2, 3])]
