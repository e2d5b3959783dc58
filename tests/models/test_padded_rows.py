"""Groups as rows by hand: what is read, what predicts a scored token, and how often each token counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import tiny
from twofold.batch import Aside, Branch, Group, Role
from twofold.models.experts import pack_weights, row_weights, top_k
from twofold.models.precision import hidden_units
from twofold.models.rows import padded, predicting_rows, predictions, whole_rows


def branch(*tokens: int, asides: tuple[Aside, ...] = ()) -> Branch:
    return Branch(torch.tensor(tokens), Role.DRAFT, asides=asides)


def aside(at: int, *tokens: int, fresh: bool = False) -> Aside:
    return Aside(at, torch.tensor(tokens), fresh)


PLAIN = Group("a", torch.tensor([1, 2, 3]), (branch(4, 5), branch(6)))
TURNS = Group("b", torch.tensor([7]), (branch(10, 11, 12, asides=(aside(2, 20, 21),)),))
FRESH = Group("c", torch.tensor([7]), (branch(10, 11, 12, asides=(aside(2, 20, 21, fresh=True),)),))


def test_rows_are_padded_on_the_right() -> None:
    made = padded([torch.tensor([1, 2, 3]), torch.tensor([4])], torch.device("cpu"))
    assert made.tolist() == [[1, 2, 3], [4, 0, 0]]


@pytest.mark.parametrize(
    ("group", "whole", "read", "scored"),
    [
        (PLAIN, [[1, 2, 3, 4, 5], [1, 2, 3, 6]], [[1, 2, 3, 4], [1, 2, 3]], [[2, 3], [2]]),
        (TURNS, [[7, 10, 11, 20, 21, 12]], [[7, 10, 11, 20, 21]], [[0, 1, 4]]),
        (FRESH, [[7, 20, 21, 12]], [[7, 10], [7, 20, 21]], [[0, 1, 102]]),
    ],
    ids=["plain", "turns", "fresh"],
)
def test_a_token_is_predicted_by_the_one_before_it(
    group: Group, whole: list[list[int]], read: list[list[int]], scored: list[list[int]]
) -> None:
    """What a model makes of row r at place t is 100·r + t here: in a fresh row the last token is the row's third."""
    assert [row.tolist() for row in whole_rows([group])] == whole
    rows = predicting_rows([group])
    assert [row.tolist() for row in rows] == read
    longest = max(map(len, rows))
    made = torch.arange(len(rows))[:, None] * 100 + torch.arange(longest)
    found = [each.tolist() for each in predictions(made, [group])]
    assert found == ([[2, 3], [102]] if group is PLAIN else scored)


def test_branches_of_several_groups_are_in_order() -> None:
    groups = [PLAIN, TURNS, FRESH]
    rows = predicting_rows(groups)
    assert [len(row) for row in rows] == [4, 3, 5, 2, 3]
    made = torch.arange(5)[:, None, None] * 100 + torch.arange(5)[None, :, None]
    found = predictions(made, groups)
    assert [each[:, 0].tolist() for each in found] == [[2, 3], [102], [200, 201, 204], [300, 301, 402]]


@pytest.mark.parametrize(
    ("ends", "pack", "row"),
    [
        (True, [2, 2, 2, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
        (False, [2, 2, 2, 1], [1, 1, 1, 1, 1, 1, 1, 0]),
    ],
)
def test_a_prompts_tokens_count_once_for_each_completion(ends: bool, pack: list[int], row: list[int]) -> None:
    """The last token of a row is only predicted, unless the model reads ends."""
    assert pack_weights([PLAIN], ends=ends).tolist() == pack
    assert row_weights([PLAIN], ends=ends).tolist() == row
    assert pack_weights([PLAIN], ends=ends).sum() == row_weights([PLAIN], ends=ends).sum()


def test_the_experts_of_a_token_and_the_width_are_those_of_the_config() -> None:
    model: Any = tiny.llama()
    assert top_k(model) is None
    for name in ("moe_top_k", "moe_k", "num_experts_per_token", "num_experts_per_tok"):
        setattr(model.config, name, len(name))
        assert top_k(model) == len(name), "the names have an order"
    model.config.num_experts_per_tok = None
    assert top_k(model) == len("num_experts_per_token")
    assert hidden_units(model.config) == 32
    model.config.hidden_size = 64
    assert hidden_units(model.config) == 64
    assert hidden_units(tiny.gpt2().config) == 32
