"""What a pack holds, where, and how groups are put into packs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from support import tiny
from twofold.batch import Branch, Group, Role
from twofold.models.attention import stock_attention
from twofold.models.packing import Packing, bins, pack

SHAPES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), max_size=12)


@tiny.PROPERTY
@given(SHAPES, st.integers(1, 40), st.none() | st.integers(1, 3))
def test_bins_hold_every_group_once_and_keep_to_their_budgets(
    shapes: list[tuple[int, ...]], tokens: int, most: int | None
) -> None:
    groups = tiny.groups(*shapes)
    found = bins(groups, Packing(tokens=tokens, groups=most))
    assert sorted(i for members in found for i in members) == list(range(len(groups)))
    for members in found:
        assert members == sorted(members)
        assert len(members) <= (most or len(groups))
        assert len(members) == 1 or sum(groups[i].num_tokens for i in members) <= tokens


def test_bins_fill_up_before_they_open_another() -> None:
    groups = tiny.groups((6, 1), (5, 1), (4, 1), (3, 1), (2, 1))
    assert bins(groups, Packing(tokens=10)) == [[0, 2], [1, 3, 4]]
    assert bins(groups, Packing(tokens=10, groups=1)) == [[0], [1], [2], [3], [4]]
    assert bins(groups, Packing(tokens=1)) == [[0], [1], [2], [3], [4]]
    assert bins([], Packing()) == []


@tiny.PROPERTY
@given(SHAPES.filter(lambda shapes: any(len(s) > 1 for s in shapes)))
def test_a_pack_holds_each_prompt_once_and_as_many_tokens_as_promised(shapes: list[tuple[int, ...]]) -> None:
    groups = tiny.groups(*shapes)
    stream = pack(groups)
    expected: list[Tensor] = [x for g in groups for x in (g.prompt, *(b.tokens[:-1] for b in g.branches))]
    assert torch.equal(stream.token_T[0], torch.cat(expected))
    assert stream.token_T.shape == stream.position_T.shape == (1, sum(g.num_tokens for g in groups))


@tiny.PROPERTY
@given(SHAPES.filter(lambda shapes: any(len(s) > 1 for s in shapes)))
def test_every_target_is_scored_from_the_token_before_it(shapes: list[tuple[int, ...]]) -> None:
    groups = tiny.groups(*shapes)
    stream = pack(groups)
    at, before, positions = 0, [], []
    for group in groups:
        for branch in group.branches:
            row = torch.cat([group.prompt, branch.tokens])
            n = len(branch.tokens)
            assert torch.equal(stream.target_S[at : at + n], branch.tokens)
            before.append(row[-n - 1 : -1])
            positions.append(torch.arange(len(group.prompt) - 1, len(row) - 1))
            at += n
    assert at == len(stream.target_S) == len(stream.score_S)
    assert torch.equal(stream.token_T[0, stream.score_S], torch.cat(before))
    assert torch.equal(stream.position_T[0, stream.score_S], torch.cat(positions))


def test_positions_and_rows_by_value() -> None:
    """Prompt 10 11 12, branches 20 21 22 and 30 (a stop token alone); then a prompt of one token, branch 50 51."""
    chosen, rejected = Branch(torch.tensor([20, 21, 22]), Role.CHOSEN), Branch(torch.tensor([30]), Role.REJECTED)
    groups = [
        Group("a", torch.tensor([10, 11, 12]), (chosen, rejected)),
        Group("b", torch.tensor([40]), (Branch(torch.tensor([50, 51]), Role.DRAFT),)),
    ]
    stream = pack(groups)
    assert stream.token_T.tolist() == [[10, 11, 12, 20, 21, 40, 50]]
    assert stream.position_T.tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert stream.score_S.tolist() == [2, 3, 4, 2, 5, 6]
    assert stream.target_S.tolist() == [20, 21, 22, 30, 50, 51]


def test_a_branch_of_its_stop_token_alone_is_the_prompts_next_token() -> None:
    policy = tiny.policy()
    (group,) = tiny.groups((5, 1, 1, 1))
    branches = tuple(replace(b, tokens=torch.tensor([t])) for b, t in zip(group.branches, (3, 7, 11), strict=True))
    group = replace(group, branches=branches)
    with torch.no_grad(), stock_attention(policy.model):
        following = policy.model(input_ids=group.prompt[None], use_cache=False).logits[0, -1].log_softmax(-1)
    found = torch.cat(policy.logps([group])[0])
    torch.testing.assert_close(found, following[torch.tensor([3, 7, 11])], rtol=1e-12, atol=1e-12)


def test_what_stands_beside_a_group_changes_nothing() -> None:
    policy = tiny.policy()
    groups = tiny.groups((5, 4, 6), (9, 3, 8), (1, 1, 2), (7, 2, 2, 5))
    together = policy(groups)[0].logp_S
    alone = torch.cat([policy([g])[0].logp_S for g in groups])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_packing_refuses_budgets_below_one() -> None:
    with pytest.raises(ValueError, match="tokens"):
        Packing(tokens=0)
    with pytest.raises(ValueError, match="groups"):
        Packing(groups=0)
