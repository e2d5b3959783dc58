"""Keys of cached references by hand: what of a policy, of groups and of values they are digests of."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest
import torch

from support import tiny
from twofold.batch import Aside, Branch, Group, Role
from twofold.errors import RecipeError
from twofold.models import reference
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import AdapterReference, FrozenReference, MovingReference, fingerprint


def test_a_fingerprint_is_of_version_precision_layout_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "weights_digest", lambda model, begin: f"{begin} {type(model).__name__}")
    how: tuple[dict[str, Any], ...] = (
        {}, {"autocast": torch.bfloat16}, {"cast": torch.bfloat16}, {"sharing": "rows"},
    )  # fmt: skip
    assert [fingerprint(Policy(tiny.llama(), **options)) for options in how] == [
        "3 None True LlamaForCausalLM", "3 torch.bfloat16 True LlamaForCausalLM",
        "3 None True torch.bfloat16 LlamaForCausalLM", "3 None False LlamaForCausalLM",
    ]  # fmt: skip


def test_a_key_is_of_lengths_and_tokens() -> None:
    """Each row of tokens is preceded by its length; all numbers have 8 bytes."""
    branches = (Branch(torch.tensor([4, 5]), Role.CHOSEN), Branch(torch.tensor([6]), Role.REJECTED))
    group = Group("a", torch.tensor([1, 2, 3]), branches)
    data = struct.pack("<9q", 3, 1, 2, 3, 2, 4, 5, 1, 6)
    assert reference._key("how", [group]) == hashlib.sha256(b"how" + data).hexdigest()
    aside = (Aside(1, torch.tensor([9]), fresh=True),)
    apart = Group("a", group.prompt, (Branch(torch.tensor([4, 5]), Role.CHOSEN, asides=aside), branches[1]))
    assert reference._key("how", [apart]) == hashlib.sha256(b"how" + data + b"[[[1, True, [9]]]]").hexdigest()


def test_a_sum_is_of_key_dtype_shape_and_bytes() -> None:
    want = hashlib.sha256(b"key torch.float32 (2,)" + struct.pack("<2f", 1.5, -2.0)).hexdigest()
    assert reference._sum("key", torch.tensor([1.5, -2.0])) == want
    assert reference._sum("key", torch.tensor([1.5, 0.0, -2.0])[::2]) == want


def test_a_frozen_copy_has_no_masters_and_no_gradient() -> None:
    policy = Policy(tiny.llama(), autocast=torch.bfloat16)
    policy.keep_masters()
    copy = FrozenReference(policy)
    assert copy.copies == [copy.policy]
    assert (copy.policy.masters, policy.masters is None) == (None, False)
    assert not any(p.requires_grad for p in copy.policy.parameters())
    assert all(p.requires_grad for p in policy.parameters())


def test_shards_have_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "is_sharded", lambda policy: True)
    with pytest.raises(RecipeError) as error:
        FrozenReference(tiny.policy())
    assert str(error.value) == (
        "world.kind: a model in shards has no copy as its reference\n  → set world.kind=replicate"
    )


def test_an_adapters_reference_has_no_copies() -> None:
    policy = tiny.lora_policy(moved=True)
    assert (AdapterReference(policy).adapter, AdapterReference(tiny.policy()).adapter) == (None, None)
    moving = MovingReference(policy, 1.0, 1)
    assert (moving.copies, AdapterReference(policy).adapter) == ([], "reference")
    assert moving.state_dict() == {}
    assert len(MovingReference(tiny.policy(), 0.5, 1).copies) == 1


@pytest.mark.parametrize(("steps", "moves"), [(1, False), (2, True), (3, False), (4, True)])
def test_an_adapter_moves_on_its_steps(steps: int, moves: bool) -> None:
    policy, groups = tiny.lora_policy(moved=True), tiny.groups((3, 2))
    moving = MovingReference(policy, 1.0, 2)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
    moving.on_step_end(steps)
    mine, theirs = policy.logps(groups)[0][0], moving.logps(groups, Packing())[0][0]
    assert torch.equal(mine, theirs) == moves
