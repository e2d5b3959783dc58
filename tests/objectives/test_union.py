"""What holds for every objective: a new member of the union is covered the moment it joins."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import SCENES, VARIANTS, Scene, gradient, outputs, total

from twofold.batch import UNITS, Batch, Outputs
from twofold.objectives import WPO, AnyObjective
from twofold.objectives.base import Domain, Objective, couples

MEMBERS = get_args(AnyObjective)
OBJECTIVES = [o for m in MEMBERS for o in VARIANTS[m]]
EVERY = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
APART = pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not couples(o)], ids=str)
"""Not those that compare a group with the others of its step, which the step shows them whole: `test_step.py`."""
SEEDS, COUNTS = st.integers(0, 10_000), st.integers(1, 6)


def scene(objective: Objective, count: int, seed: int) -> Scene:
    return SCENES[type(objective)](count, torch.Generator().manual_seed(seed))


def pick(scene: Scene, indices: list[int]) -> Scene:
    return [scene[0][i] for i in indices], [scene[1][i] for i in indices]


def offsets(scene: Scene) -> list[slice]:
    """Where each group's tokens stand."""
    ends = torch.tensor([sum(len(x) for x in row) for row in scene[1]]).cumsum(0).tolist()
    return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def test_every_member_has_a_scene_and_variants() -> None:
    assert set(SCENES) == set(VARIANTS) == set(MEMBERS)
    assert all(type(o) is m for m in MEMBERS for o in VARIANTS[m])
    kinds = [m().kind for m in MEMBERS]
    assert len(set(kinds)) == len(kinds)


@APART
@tiny.PROPERTY
@given(seed=SEEDS, count=COUNTS, data=st.data())
def test_splitting_into_micro_batches_changes_no_gradient(
    objective: Objective, seed: int, count: int, data: st.DataObject
) -> None:
    made = scene(objective, count, seed)
    whole, batch = gradient(objective, made), Batch.of(made[0])
    bins = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    parts = [[i for i in range(count) if bins[i] == b] for b in sorted(set(bins))]
    at = offsets(made)
    for part in parts:
        found = gradient(objective, pick(made, part), batch)
        torch.testing.assert_close(found, torch.cat([whole[at[i]] for i in part]), rtol=1e-13, atol=1e-15)


@EVERY
@tiny.PROPERTY
@given(seed=SEEDS, count=st.integers(2, 6), data=st.data())
def test_permuting_groups_permutes_the_gradient(
    objective: Objective, seed: int, count: int, data: st.DataObject
) -> None:
    made = scene(objective, count, seed)
    order = data.draw(st.permutations(range(count)))
    whole, at = gradient(objective, made), offsets(made)
    permuted = gradient(objective, pick(made, order))
    torch.testing.assert_close(permuted, torch.cat([whole[at[i]] for i in order]), rtol=1e-13, atol=1e-15)


@APART
@tiny.PROPERTY
@given(seed=SEEDS, count=st.integers(2, 6))
def test_other_groups_neither_get_nor_change_a_gradient(objective: Objective, seed: int, count: int) -> None:
    """Of one group's entries alone: its values are those it has alone, and only its own tokens move them."""
    made = scene(objective, count, seed)
    said, batch = outputs(made[1]), Batch.of(made[0])
    for name, term in objective(said, batch).terms.items():
        at = 0
        for i, tokens in enumerate(offsets(made)):
            alone = pick(made, [i])
            own = objective(outputs(alone[1]), Batch.of(alone[0])).terms[name].value
            mine = term.value[at : at + len(own)]
            torch.testing.assert_close(mine, own, rtol=1e-13, atol=1e-15)
            (grad,) = torch.autograd.grad(mine.sum(), said.logp_S, retain_graph=True)
            elsewhere = torch.ones_like(grad, dtype=torch.bool)
            elsewhere[tokens] = False
            assert torch.equal(grad[elsewhere], torch.zeros_like(grad[elsewhere]))
            at += len(own)
        assert at == len(term.value)


def test_those_that_couple_groups_need_to_say_so() -> None:
    """A group alone has another loss than among others exactly for them."""
    for objective in OBJECTIVES:
        made = scene(objective, 5, 3)
        (name, term), *_ = objective(outputs(made[1]), Batch.of(made[0])).terms.items()
        alone = [pick(made, [i]) for i in range(5)]
        apart = [objective(outputs(a[1]), Batch.of(a[0])).terms[name].value for a in alone]
        assert torch.allclose(torch.cat(apart), term.value, rtol=1e-12) != couples(objective)


@EVERY
def test_values_and_metrics_have_one_entry_per_unit_and_metrics_no_gradient(objective: Objective) -> None:
    made = scene(objective, 5, 3)
    batch = Batch.of(made[0])
    loss = objective(outputs(made[1]), batch)
    assert loss.metrics
    for term in (*loss.terms.values(), *loss.metrics.values()):
        assert term.unit.partition(":")[0] in UNITS
        assert term.value.shape == (batch.count(term.unit),)
    assert all(t.value.requires_grad for t in loss.terms.values())
    assert not any(t.value.requires_grad for t in loss.metrics.values())


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not isinstance(o, WPO)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(objective: Objective, seed: int) -> None:
    """Not WPO, whose weights are values of the policy held fixed: `test_identities.py` has its gradient."""
    made = scene(objective, 3, seed)
    batch, said = Batch.of(made[0]), outputs(made[1])
    assert gradient(objective, made).abs().max() > 1e-4
    assert torch.autograd.gradcheck(lambda logp_S: total(objective(Outputs(logp_S), batch), batch), (said.logp_S,))


@EVERY
def test_bfloat16_in_gives_float32_out(objective: Objective) -> None:
    made = scene(objective, 4, 1)
    said, batch = outputs(made[1], torch.bfloat16), Batch.of(made[0])
    loss = objective(said, batch)
    wide = objective(replace(said, logp_S=said.logp_S.detach().double()), batch)
    for name, term in loss.terms.items():
        assert term.value.dtype == torch.float32
        torch.testing.assert_close(term.value.double(), wide.terms[name].value, rtol=1e-5, atol=1e-5)
    total(loss, batch).backward()
    assert torch.isfinite(said.logp_S.grad).all()


@EVERY
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_at_extremes(objective: Objective, size: float, dtype: torch.dtype) -> None:
    """Certain tokens, all but certain ones, −10⁴ nats each, by turns for policy and reference, within its domain."""
    groups, logps = scene(objective, 6, 2)
    domain = getattr(objective, "domain", Domain())
    high = torch.full((1,), 0.0 if domain.certain else -1e-30, dtype=torch.float64)
    low = torch.full((1,), -min(size, domain.logratio / 5), dtype=torch.float64).minimum(high)
    for turn in (0, 1):
        made, said = [], []
        for i, (g, row) in enumerate(zip(groups, logps, strict=True)):
            mine, theirs = (low, high) if i % 2 == turn else (high, low)
            columns = [{"ref_logp": theirs.expand(len(b.tokens)).clone()} for b in g.branches]
            made.append(g.with_columns(columns))
            said.append([mine.expand(len(x)).clone() for x in row])
        batch, out = Batch.of(made), outputs(said, dtype)
        loss = objective(out, batch)
        whole = total(loss, batch)
        whole.backward()
        assert torch.isfinite(whole)
        assert torch.isfinite(out.logp_S.grad).all()
        assert all(torch.isfinite(t.value).all() for t in loss.metrics.values())


@EVERY
def test_a_required_column_is_used(objective: Objective) -> None:
    """Moving what an objective requires moves its loss: nothing is asked for in vain (but lengths under sums)."""
    groups, logps = scene(objective, 24, 4)
    before = total(objective(outputs(logps), Batch.of(groups)), Batch.of(groups)).item()
    for column in objective.requires:
        if column == "truth_length" and not getattr(objective, "per_token", False):
            continue
        moved = []
        for g in groups:
            shifted = [
                {column: b.token_columns[column] * 1.5 if column in b.token_columns else b.columns[column] * 1.5 + 0.5}
                for b in g.branches
            ]
            moved.append(replace(g.with_columns(shifted)))
        after = total(objective(outputs(logps), Batch.of(moved)), Batch.of(moved)).item()
        assert abs(after - before) > 1e-6
