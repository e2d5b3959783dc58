"""Parts of objectives by value: optimism, sums in words, ties at the end of a batch, and where tensors are made."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from support.reward_scenes import scored
from support.scenes import VARIANTS, branch, even, group, near, painted, preferences
from twofold.batch import Batch, Branch, Group, Outputs, Role, with_row_columns
from twofold.objectives import AOT, DPO, SFT, WPO, AnyObjective, BetaDPO, BradleyTerry, PDPOGenerator, SimPO
from twofold.objectives.base import Objective, scores, statistic, values
from twofold.objectives.checks import heard, leaf
from twofold.objectives.comparisons import Comparisons
from twofold.objectives.row_columns import evaluated, with_both_orders
from twofold.objectives.sum import Sum, Summand
from twofold.objectives.xpo import OF_REFERENCE, XPO


def test_optimism_lowers_what_the_reference_sampled() -> None:
    """Of the first pair rejected is the reference's (−6), of the second both are (−2 and −8), of the third none."""
    logps = [[even(-4.0, 2), even(-6.0, 3)], [even(-2.0, 1), even(-8.0, 4)], [even(-1.0, 1), even(-1.0, 1)]]
    drawn = [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0)]
    groups = [
        group(
            f"{i}",
            *(
                branch(role, x, {OF_REFERENCE: of})
                for role, x, of in zip((Role.CHOSEN, Role.REJECTED), row, mine, strict=True)
            ),
        )
        for i, (row, mine) in enumerate(zip(logps, drawn, strict=True))
    ]
    batch, own_values = Batch.of(groups), heard(DPO(), leaf(logps))
    made, plain = XPO(DPO(), 0.25)(own_values, batch), DPO()(own_values, batch)
    term = made.terms["optimism"]
    assert (term.value.tolist(), term.unit, term.weight) == (near([-6.0, -10.0, 0.0]), "pair", 0.25)
    assert made.terms["dpo"].value.tolist() == plain.terms["dpo"].value.tolist()
    assert made.metrics.keys() == plain.metrics.keys()
    assert (XPO(AOT(), 0.1).couples, XPO(DPO(), 0.1).couples) == (True, False)


def summed(*parts: tuple[Any, ...]) -> Sum:
    return Sum(parts=tuple(Summand(objective=o, on=on[0] if on else None) for o, *on in parts))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(AOT(),), (AOT(beta=1.0),), (WPO(),)],
         "parts do not fit: aot compares a whole step, and log_collision of tokens are known per pack only"),
        ([(DPO(),), (SFT(), "gold")], "parts: pairs have no side 'gold'; they have chosen, rejected"),
        ([(DPO(),), (SimPO(), "chosen")], "parts: `on` is for sft, dft and eaft, and simpo learns from pairs"),
        ([(DPO(),), (SFT(),)],
         "parts: dpo learns from pairs, sft from demonstrations; give it a side, such as `on: chosen`"),
        ([(BetaDPO(),), (BetaDPO(beta=0.5),)], "parts: two of them have running means; keep one"),
        ([(SFT(), "chosen")], "parts need one objective without `on`: its rows are those of the run"),
        ([], "parts must name at least one objective"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_in_whole_sentences(parts: list[tuple[Any, ...]], message: str) -> None:
    with pytest.raises(ValueError) as error:
        summed(*parts)
    assert str(error.value) == message


def test_a_sum_couples_where_one_of_its_parts_does_and_two_statistics_go_together() -> None:
    assert (summed((AOT(),), (DPO(),)).couples, summed((DPO(),), (DPO(),)).couples) == (True, False)
    both = summed((WPO(),), (WPO(alignment="greedy"),), (WPO(),))
    assert both.statistics == ("log_collision", "log_greedy")
    assert summed((BetaDPO(),), (DPO(),)).requires == ("ref_logp", "batch_beta")


@pytest.mark.parametrize("tied", [0, 1, 2])
def test_a_ranking_all_tied_is_refused_wherever_it_is(tied: int) -> None:
    groups, _ = scored(*[[1.0, 0.0]] * 3)
    groups[tied] = groups[tied].with_columns([{"level": 1.0}, {"level": 1.0}])
    with pytest.raises(ValueError) as error:
        Comparisons.of(Batch.of(groups))
    assert str(error.value) == "every ranking needs completions that are not all tied"


@pytest.mark.parametrize("place", [0, 1])
def test_a_group_that_is_no_ranking_is_refused_wherever_it_is(place: int) -> None:
    groups, logps = scored([1.0, 0.0], [1.0, 0.0])
    other = [Branch(b.tokens, Role.CHOSEN, b.token_columns, b.columns) for b in groups[place].branches]
    groups[place] = Group("x", groups[place].prompt, tuple(other))
    with pytest.raises(ValueError) as error:
        BradleyTerry()(Outputs(score_B=torch.zeros(4)), Batch.of(groups))
    assert str(error.value) == "every group needs two or more ranked branches, and no others"
    assert len(logps) == 2


def test_a_ranking_with_a_branch_that_is_not_ranked_is_refused() -> None:
    (ranking,), _ = scored([1.0, 0.0])
    more = Branch(torch.zeros(1, dtype=torch.int64), Role.CHOSEN, {"ref_logp": torch.zeros(1)}, {"level": 2.0})
    mixed = Group("x", ranking.prompt, (*ranking.branches, more))
    with pytest.raises(ValueError, match="two or more ranked branches, and no others"):
        BradleyTerry()(Outputs(score_B=torch.zeros(3)), Batch.of([mixed]))


@pytest.mark.parametrize("objective", [DPO(), BradleyTerry(), SimPO()], ids=str)
def test_both_orders_are_made_where_the_batch_is(objective: Objective) -> None:
    """On a batch that is elsewhere than where tensors are made by default."""
    groups, logps = painted(objective, 3, torch.Generator().manual_seed(0))
    groups = with_row_columns([g.with_columns([{"probability": 0.7}] * len(g.branches)) for g in groups])
    batch, own_values = Batch.of(groups), heard(objective, leaf(logps))
    expected, twice = evaluated(objective, own_values, batch)
    with torch.device("meta"):
        loss, same = evaluated(objective, own_values, batch)
    assert {term.value.device.type for term in loss.terms.values()} == {"cpu"}
    for name, term in loss.terms.items():
        assert term.value.tolist() == expected.terms[name].value.tolist()
    assert same.branch_S.tolist() == twice.branch_S.tolist()


def test_both_orders_by_hand() -> None:
    """A pair of one and two tokens that is right by 0.75 and weighs 2: behind it is its copy with the sides exchanged,
    with another quarter of the weight. Scores and margins stay in their places, other columns go with their text."""
    numbers = {"probability": 0.75, "weight": 2.0, "margin": 0.5}
    sides = (
        Branch(torch.tensor([7]), Role.CHOSEN, {"ref_logp": torch.tensor([-1.0])}, {**numbers, "delta": 1.0}),
        Branch(
            torch.tensor([8, 9]), Role.REJECTED, {"ref_logp": torch.tensor([-2.0, -3.0])}, {**numbers, "delta": 4.0}
        ),
    )
    batch = Batch.of([Group("a", torch.tensor([1]), sides)])
    twice = with_both_orders(DPO(), batch)
    assert twice.names == ("a", "a")
    assert twice.group_B.tolist() == [0, 0, 1, 1]
    assert twice.role_B.tolist() == batch.role_B.tolist() * 2
    assert (twice.length_B.tolist(), twice.branch_S.tolist()) == ([1, 2, 2, 1], [0, 1, 1, 2, 2, 3])
    assert twice.token_columns["ref_logp"].tolist() == [-1.0, -2.0, -3.0, -2.0, -3.0, -1.0]
    columns = {name: column.tolist() for name, column in twice.branch_columns.items()}
    assert columns == {"weight": [1.5, 1.5, 0.5, 0.5], "margin": [0.5] * 4, "delta": [1.0, 4.0, 4.0, 1.0]}
    outputs = Outputs(
        torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0]), torch.tensor([6.0, 7.0, 8.0]),
        statistics={"x": torch.tensor([0.1, 0.2, 0.3])},
    )  # fmt: skip
    seen: list[Outputs] = []

    class Noting(DPO):
        def __call__(self, outputs: Outputs, batch: Batch) -> Any:
            seen.append(outputs)
            return super().__call__(outputs, batch)

    evaluated(Noting(), outputs, batch)
    (both,) = seen
    assert [x.tolist() for x in (both.logp_S, both.score_B, both.value_S) if x is not None] == [
        [1.0, 2.0, 3.0, 2.0, 3.0, 1.0], [4.0, 5.0, 5.0, 4.0], [6.0, 7.0, 8.0, 7.0, 8.0, 6.0],
    ]  # fmt: skip
    assert both.statistics["x"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.3, 0.1])


@pytest.mark.parametrize(
    ("read", "name"), [(lambda o: statistic(o, "entropy"), "entropy"), (scores, "scores"), (values, "values")]
)
def test_what_a_model_does_not_give_is_named(read: Any, name: str) -> None:
    with pytest.raises(ValueError) as error:
        read(Outputs())
    assert str(error.value) == f"the model gives no {name}"


EVERY = [o for member in get_args(AnyObjective) for o in VARIANTS[member]]


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_all_values_are_floating(objective: Objective) -> None:
    """Terms in the format of the outputs; a metric that counts is a number like the others."""
    groups, logps = painted(objective, 4, torch.Generator().manual_seed(3))
    loss = objective(heard(objective, leaf(logps, torch.float32)), Batch.of(groups))
    assert {term.value.dtype for term in loss.terms.values()} == {torch.float32}
    assert all(term.value.is_floating_point() for term in loss.metrics.values())


def test_without_a_gate_every_draft_is_used_and_its_figure_is_a_number() -> None:
    groups, logps = painted(PDPOGenerator(), 3, torch.Generator().manual_seed(3))
    loss = PDPOGenerator()(heard(PDPOGenerator(), leaf(logps)), Batch.of(groups))
    assert loss.metrics["active"].value.dtype == torch.float64
    assert {*loss.metrics["active"].value.tolist()} == {0.0, 1.0}


def test_both_sides_of_a_pair_are_in_one_group() -> None:
    """The first group has two chosen, the second two rejected."""
    groups, _ = preferences(2, torch.Generator().manual_seed(0))
    mixed = [
        Group(g.name, g.prompt, tuple(Branch(b.tokens, role, b.token_columns, b.columns) for b in g.branches))
        for g, role in zip(groups, (Role.CHOSEN, Role.REJECTED), strict=True)
    ]
    batch = Batch.of(mixed)
    with pytest.raises(ValueError, match="every group needs one chosen and one rejected branch"):
        DPO()(Outputs(torch.zeros(len(batch.branch_S))), batch)
