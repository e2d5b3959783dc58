"""What holds for every objective: a new member of the union is covered the moment it joins."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import tiny
from support.scenes import VARIANTS, Scene, painted
from twofold.objectives import DFT, EAFT, WPO, AnyObjective, PDPOGenerator, checks
from twofold.objectives.base import Objective

MEMBERS = get_args(AnyObjective)
OBJECTIVES = [o for m in MEMBERS for o in VARIANTS[m]]
EVERY = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
APART = pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not o.couples], ids=str)
"""Not those that compare a group with the others of its step, which the step shows them whole: `test_step.py`."""
FEW = settings(tiny.PROPERTY, max_examples=8)
"""Scenes of each law and objective: with all objectives they are hundreds of each law."""
SEEDS, COUNTS = st.integers(0, 10_000), st.integers(1, 6)


def scene(objective: Objective, count: int, seed: int) -> Scene:
    return painted(objective, count, torch.Generator().manual_seed(seed))


def test_variants_are_of_the_union_and_kinds_their_own() -> None:
    assert set(VARIANTS) == set(MEMBERS)
    assert all(type(o) is m for m in MEMBERS for o in VARIANTS[m])
    kinds = [m().kind for m in MEMBERS]
    assert len(set(kinds)) == len(kinds)


@APART
@FEW
@given(seed=SEEDS, count=COUNTS, data=st.data())
def test_splitting_into_micro_batches_changes_no_gradient(
    objective: Objective, seed: int, count: int, data: st.DataObject
) -> None:
    bins = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    checks.splits_into_micro_batches(objective, scene(objective, count, seed), bins)


@EVERY
@FEW
@given(seed=SEEDS, count=st.integers(2, 6), data=st.data())
def test_permuting_groups_permutes_the_gradient(
    objective: Objective, seed: int, count: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(count)))
    checks.follows_permutations(objective, scene(objective, count, seed), order)


@APART
@FEW
@given(seed=SEEDS, count=st.integers(2, 6))
def test_other_groups_neither_get_nor_change_a_gradient(objective: Objective, seed: int, count: int) -> None:
    checks.keeps_groups_apart(objective, scene(objective, count, seed))


def test_those_that_couple_groups_need_to_say_so() -> None:
    """A group alone has another loss than among others exactly for them."""
    for objective in (o for o in OBJECTIVES if o.couples):
        with pytest.raises(AssertionError):
            checks.keeps_groups_apart(objective, scene(objective, 5, 3))


@EVERY
def test_values_and_metrics_have_one_entry_per_unit_and_metrics_no_gradient(objective: Objective) -> None:
    checks.has_one_entry_per_unit(objective, scene(objective, 5, 3))


def holds_fixed(objective: Objective) -> bool:
    """Whether it holds values of the policy fixed: WPO, DFT and EAFT their weights, PDPO the other side where the truth
    moves."""
    return isinstance(objective, WPO | DFT | EAFT) or (
        isinstance(objective, PDPOGenerator) and objective.gradient_to != "drafts"
    )


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not holds_fixed(o)], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_gradcheck(objective: Objective, seed: int) -> None:
    """Of the others `test_identities.py` and `test_pdpo_sides.py` have the gradients."""
    checks.has_the_gradient_of_its_loss(objective, scene(objective, 3, seed))


@EVERY
def test_bfloat16_in_gives_float32_out(objective: Objective) -> None:
    checks.widens_bfloat16(objective, scene(objective, 4, 1))


@EVERY
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_at_extremes(objective: Objective, size: float, dtype: torch.dtype) -> None:
    """Certain tokens, all but certain ones, −10⁴ nats each, by turns for policy and reference, within its domain."""
    checks.is_finite_at_extremes(objective, scene(objective, 6, 2), size, dtype)


@EVERY
def test_a_required_column_is_used(objective: Objective) -> None:
    """Moving what an objective requires moves its loss: nothing is asked for in vain (but lengths under sums)."""
    checks.uses_what_it_requires(objective, scene(objective, 24, 4))
