"""KTO's z₀: which rows are mismatched, its value, and that neither packing nor a gradient can touch it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support import tiny
from support.golden import expected, given
from twofold.batch import Branch, Group, Role
from twofold.errors import RecipeError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference
from twofold.objectives import KTO
from twofold.training.column_providers import providers
from twofold.training.kl_baseline import clamped_mean, mismatched
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable


def rows(count: int = 8, seed: int = 0) -> list[Group]:
    """Labelled completions of many lengths, desirable by turns."""
    shapes = [(2 + i % 3, 1 + 2 * i % 5) for i in range(count)]
    roles = (Role.DESIRABLE, Role.UNDESIRABLE)
    made = tiny.groups(*shapes, seed=seed)
    return [replace(g, branches=(replace(g.branches[0], role=roles[i % 2]),)) for i, g in enumerate(made)]


def moved(policy: Policy, by: float = -0.1) -> None:
    with torch.no_grad():
        for p in policy.trainable().values():
            p.add_(by)


@pytest.mark.parametrize("name", ["kto", "kto.z0_clamped"])
def test_the_mean_is_clamped_at_zero(name: str) -> None:
    case = given(name)
    ratios = [a - b for a, b in zip(case["kl_logp"], case["kl_ref_logp"], strict=True)]
    assert clamped_mean(ratios) == pytest.approx(expected(name)["z0"], abs=1e-9)


def test_each_prompt_gets_the_completion_of_the_next_row() -> None:
    made = rows(4)
    for group, other, found in zip(made, [*made[1:], made[0]], mismatched(made), strict=True):
        assert found.prompt.tolist() == group.prompt.tolist()[-len(found.prompt) :]
        assert torch.equal(found.branches[0].tokens, other.branches[0].tokens)
        longest = max(len(g.prompt) + len(g.branches[0].tokens) for g in made)
        assert len(found.prompt) + len(found.branches[0].tokens) <= longest
        assert len(found.prompt) >= 1


def test_rows_of_one_prompt_are_no_mismatch() -> None:
    """The two rows of a pair stand side by side: each takes the first completion of another prompt."""
    a, b, c = rows(3)
    again = replace(b, branches=(replace(b.branches[0], tokens=c.branches[0].tokens.flip(0)),))
    said = [m.branches[0].tokens for m in mismatched([a, b, again])]
    assert all(torch.equal(x, y.branches[0].tokens) for x, y in zip(said, (b, a, a), strict=True))
    alike = mismatched([b, again])
    assert torch.equal(alike[0].branches[0].tokens, again.branches[0].tokens)


def row(name: str, prompt: list[int], tokens: list[int]) -> Group:
    return Group(name, torch.tensor(prompt), (Branch(torch.tensor(tokens), Role.DESIRABLE, {}, {"x": 1.0}),))


def test_mismatched_rows_by_hand() -> None:
    """The longest row has 5 tokens. b and c ask the same, so b takes a's; before 4 tokens one of a prompt is left."""
    made = [row("a", [1, 2, 3], [7]), row("b", [4], [8, 9, 10, 11]), row("c", [4], [12])]
    found = mismatched(made)
    assert [(g.name, g.prompt.tolist(), g.branches[0].tokens.tolist()) for g in found] == [
        ("a", [3], [8, 9, 10, 11]), ("b", [4], [7]), ("c", [4], [7]),
    ]  # fmt: skip
    assert all(b.columns == {} and b.token_columns == {} for g in found for b in g.branches)
    two = mismatched([row("a", [1, 2], [7]), row("b", [1, 2], [8])])
    assert [g.branches[0].tokens.item() for g in two] == [8, 7]


@pytest.mark.parametrize(("ratios", "mean"), [([1.0, 2.0, 6.0], 3.0), ([1.0, -1.5], 0.0), ([0.0], 0.0)])
def test_the_mean_of_ratios_is_no_less_than_0(ratios: list[float], mean: float) -> None:
    assert clamped_mean(ratios) == mean


def test_one_row_alone_is_refused() -> None:
    with pytest.raises(RecipeError) as error:
        mismatched(rows(1))
    assert str(error.value) == (
        "row 0: the KL estimate of KTO pairs each prompt with another row's completion, and there is one row only\n"
        "  → raise training.batch_size to 2 or more, and hold out as many rows"
    )


@pytest.mark.parametrize("make", [tiny.policy, tiny.lora_policy], ids=["full", "lora"])
def test_no_packing_changes_the_gradient_or_z0(make: type[Policy]) -> None:
    found = []
    for packing in (Packing(groups=8), Packing(groups=1), Packing(groups=3), Packing(tokens=17)):
        policy = make()
        columns = providers(policy, live_reference(policy), packing)
        moved(policy)
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
        step = Step([Trainable(POLICY, policy, optimizer)], providers=columns, packing=packing, clip=None)
        found.append((step(Round(0, [Part(rows(), KTO(beta=1.0))])), tiny.gradients(policy)))
    (metrics, gradients), *others = found
    assert metrics["z0"] > 0.01
    assert metrics["grad_norm"] > 0.01
    for other, grads in others:
        assert other == pytest.approx(metrics, rel=1e-10, abs=1e-12)
        for name, value in gradients.items():
            torch.testing.assert_close(grads[name], value, rtol=1e-9, atol=1e-11)


def test_it_begins_at_exactly_zero_and_is_held_fixed() -> None:
    policy = tiny.policy()
    reference = live_reference(policy)
    columns = providers(policy, reference, Packing())
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
    step = Step([Trainable(POLICY, policy, optimizer)], providers=columns, packing=Packing(), clip=None)
    assert step(Round(0, [Part(rows(), KTO())]))["z0"] == 0.0
    moved(policy)
    given_z0 = columns["z0"](rows())
    value = given_z0[0].branches[0].columns["z0"]
    by_hand = [
        (a - b).sum().item()
        for (a,), (b,) in zip(
            policy.logps(mismatched(rows())), reference.logps(mismatched(rows()), Packing()), strict=True
        )
    ]
    assert value == pytest.approx(max(0.0, sum(by_hand) / len(by_hand)), rel=1e-12)
    step(Round(1, [Part(rows(), KTO())]))
    asked = tiny.gradients(policy)
    policy.zero_grad()
    step(Round(1, [Part(given_z0, KTO())]))
    assert all(torch.equal(asked[n], g) for n, g in tiny.gradients(policy).items())
