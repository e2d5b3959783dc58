"""The reference: a cache that can be trusted, copies that stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from support import tiny
from twofold.batch import Group
from twofold.models import reference
from twofold.models.adapters import REFERENCE_ADAPTER
from twofold.models.packing import Packing, bins
from twofold.models.policy import Policy
from twofold.models.reference import (
    COLUMN,
    AdapterReference,
    FrozenReference,
    cached_reference,
    fingerprint,
    live_reference,
)
from twofold.progress import Silent

PACKING = Packing(tokens=30)


def cached(policy: Policy, groups: list[Group], folder: Path) -> Tensor:
    groups = cached_reference(policy, groups, bins(groups, PACKING), folder, Silent())
    return torch.cat([b.token_columns[COLUMN] for g in groups for b in g.branches])


def direct(reference: Policy | FrozenReference | AdapterReference, groups: list[Group]) -> Tensor:
    return torch.cat([x for row in reference.logps(groups, PACKING) for x in row])


def nudge(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)


def test_a_cached_reference_is_the_policys_own_words(tmp_path: Path) -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(8)
    assert torch.equal(cached(policy, groups, tmp_path), direct(policy, groups))


def test_the_cache_is_read_and_not_computed_again(tmp_path: Path) -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(8)
    first = cached(policy, groups, tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    assert torch.equal(cached(policy, groups, tmp_path), first)
    assert file.stat().st_mtime_ns == before


def test_other_numbers_in_the_cache_and_those_of_another_key_are_made_again_with_a_warning(tmp_path: Path) -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(8)
    first = cached(policy, groups, tmp_path / "a")
    cached(policy, tiny.pairs(8, seed=1), tmp_path / "b")
    (file,), (other,) = (tmp_path / "a").iterdir(), (tmp_path / "b").iterdir()
    whole = file.read_bytes()
    save_file({COLUMN: load_file(file)[COLUMN] + 1}, other_numbers := tmp_path / "other.safetensors")
    for damaged in (other_numbers.read_bytes(), other.read_bytes(), whole[:-1], whole + b"\0", b""):
        file.write_bytes(damaged)
        progress = Silent()
        again = cached_reference(policy, groups, bins(groups, PACKING), tmp_path / "a", progress)
        assert torch.equal(torch.cat([b.token_columns[COLUMN] for g in again for b in g.branches]), first)
        assert progress.warnings == [f"{file}: damaged; the reference of these rows is computed again"]
        assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None], ids=["empty", "garbage", "wrong length"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(8)
    first = cached(policy, groups, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = load_file(file)[COLUMN].clone()  # the file is mapped, and about to be cut
    if damage is None:
        save_file({COLUMN: whole[:-1]}, file)
    else:
        file.write_bytes(damage)
    assert torch.equal(cached(policy, groups, tmp_path), first)
    assert torch.equal(load_file(file)[COLUMN], whole)


def test_other_weights_precision_or_tokens_are_another_file(tmp_path: Path) -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(4)
    cached(policy, groups, tmp_path)
    cached(policy, tiny.pairs(4, seed=1), tmp_path)
    cached(tiny.policy(dtype=torch.float32, sharing="rows"), groups, tmp_path)
    cached(tiny.policy(dtype=torch.float32, autocast=torch.bfloat16), groups, tmp_path)
    cached(tiny.policy(), groups, tmp_path)
    nudge(policy)
    moved = cached(policy, groups, tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    assert torch.equal(moved, direct(policy, groups))


def test_other_packs_are_another_file(tmp_path: Path) -> None:
    """What a pack sums in another order may differ in the last bits, and a cache must not hand that on."""
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(2)
    for packs in ([[0, 1]], [[0], [1]], [[1, 0]], [[0, 1]]):
        cached_reference(policy, groups, packs, tmp_path, Silent())
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_group_of_several_packs_has_its_column_from_the_first(
    in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16, where what else is in a pack changes the rounding of each row."""
    if not in_memory:
        monkeypatch.setattr(reference, "_WINDOW", 2)
    policy, groups = tiny.policy(dtype=torch.float32, autocast=torch.bfloat16), tiny.pairs(4)
    packs = [[2, 0], [1, 2], [3]]
    got = cached_reference(policy, groups, packs, tmp_path, Silent())
    assert isinstance(got, reference.OnDisk) != in_memory
    first = {
        i: row for pack in reversed(packs) for i, row in zip(pack, policy.logps([groups[i] for i in pack]), strict=True)
    }
    for i, group in enumerate(got):
        for branch, want in zip(group.branches, first[i], strict=True):
            assert torch.equal(branch.token_columns[COLUMN], want)


def test_the_boundary_between_prompt_and_branch_is_part_of_the_key(tmp_path: Path) -> None:
    """The same tokens, cut elsewhere."""
    policy = tiny.policy(dtype=torch.float32)
    a, b = tiny.groups((5, 3, 4)), tiny.groups((4, 4, 4))
    assert cached(policy, a, tmp_path).shape != cached(policy, b, tmp_path).shape
    assert len(list(tmp_path.iterdir())) == 2


def test_the_fingerprint_is_a_function_of_the_weights() -> None:
    policy = tiny.policy(dtype=torch.float32)
    assert fingerprint(policy) == fingerprint(tiny.policy(dtype=torch.float32))
    with torch.no_grad():
        policy.model.lm_head.weight[3, 4] += 1e-3
    assert fingerprint(policy) != fingerprint(tiny.policy(dtype=torch.float32))


def test_a_frozen_copy_stays_behind() -> None:
    policy, groups = tiny.policy(dtype=torch.float32), tiny.pairs(4)
    reference = live_reference(policy)
    assert isinstance(reference, FrozenReference)
    first = direct(reference, groups)
    assert torch.equal(first, direct(policy, groups))
    nudge(policy)
    assert torch.equal(direct(reference, groups), first)
    assert (direct(policy, groups) - first).abs().max() > 0.1
    assert reference.policy.trainable() == {}
    assert all(p.requires_grad for p in policy.model.parameters())


def test_adapter_off_is_the_base() -> None:
    policy, groups = tiny.lora_policy(dtype=torch.float32, moved=True), tiny.pairs(4)
    reference = live_reference(policy)
    assert isinstance(reference, AdapterReference)
    base = direct(tiny.policy(dtype=torch.float32), groups)
    assert torch.equal(direct(reference, groups), base)
    nudge(policy)
    assert torch.equal(direct(reference, groups), base)
    assert (direct(policy, groups) - base).abs().max() > 0.1


def brought(folder: Path) -> Policy:
    """A policy that goes on with the adapter in `folder`, as `load_policy` makes it."""
    from peft import PeftModel

    model = tiny.llama()
    adapter = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    adapter.load_adapter(str(folder), REFERENCE_ADAPTER, is_trainable=False)
    return Policy(model, adapter=adapter)


def test_an_adapter_that_the_user_brought_is_its_own_reference(tmp_path: Path) -> None:
    saved = tiny.lora_policy(dtype=torch.float32, moved=True)
    saved.adapter.save_pretrained(tmp_path)
    groups = tiny.pairs(4)
    policy = brought(tmp_path)
    first, base = direct(policy, groups), direct(tiny.policy(dtype=torch.float32), groups)
    reference = live_reference(policy)
    assert torch.equal(direct(reference, groups), first)
    assert (first - base).abs().max() > 0.1
    trained = set(policy.trainable())
    assert trained
    assert not any(REFERENCE_ADAPTER in n for n in trained)
    nudge(policy)
    assert torch.equal(direct(reference, groups), first)
    assert (direct(policy, groups) - first).abs().max() > 0.1
    assert set(policy.trainable()) == trained
