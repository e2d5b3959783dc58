"""What a row's columns do to every objective: how much the row counts, and how likely its order (its label) is right.

A row of weight w is w rows. A row that is right with probability p is two rows: one of weight p as it is, one of weight
1 − p with chosen and rejected (best and worst of two, desirable and undesirable) exchanged. Both columns are thus
weights of entries of terms, and no objective reads them, unless it requires one by name.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from twofold.batch import PROBABILITY, WEIGHT, Batch, Outputs, Role
from twofold.objectives.base import Loss, Objective

WIN_RATE = "win_rate"
"""Column: the probability that a completion of a pair wins."""
_OF_PLACE = frozenset({WEIGHT, PROBABILITY, WIN_RATE, "level", "score", "margin"})
"""Columns that belong to the place in the order, and not to the completion in it."""


def evaluated(objective: Objective, outputs: Outputs, batch: Batch) -> tuple[Loss, Batch]:
    """The unreduced loss of `batch`, and the batch whose entries its terms have: one with both orders, if rows are in
    doubt. The step multiplies entries by `Batch.weights` and divides their sum by `Batch.mass`."""
    if not in_doubt(objective, batch):
        return objective(outputs, batch), batch
    index_B = _both(batch)
    twice = with_both_orders(objective, batch)
    return objective(_outputs_of_both(outputs, batch, index_B), twice), twice


def in_doubt(objective: Objective, batch: Batch) -> bool:
    """Whether rows have a probability that the objective does not read itself."""
    return PROBABILITY in batch.branch_columns and not {PROBABILITY, WIN_RATE} & {*objective.requires}


def with_both_orders(objective: Objective, batch: Batch) -> Batch:
    """`batch`, and behind it the same rows in the other order; both with the weights that make them one row each. A
    batch whose rows are not in doubt stays as it is."""
    if not in_doubt(objective, batch):
        return batch
    index_B, index_S = (index := _both(batch)), _tokens(batch, index)
    columns = batch.branch_columns
    sure_B = columns[PROBABILITY]
    weight_B = columns.get(WEIGHT, torch.ones_like(sure_B))
    again = {name: torch.cat([v, v]) if name in _OF_PLACE else v[index_B] for name, v in columns.items()}
    del again[PROBABILITY]
    again[WEIGHT] = torch.cat([weight_B * sure_B, weight_B * (1 - sure_B)])
    length_B = batch.length_B[index_B]
    places = torch.arange(len(length_B), device=length_B.device)
    return replace(
        batch,
        names=(*batch.names, *batch.names),
        group_B=torch.cat([batch.group_B, batch.group_B + len(batch.names)]),
        role_B=torch.cat([batch.role_B, _other_label(batch.role_B)]),
        length_B=length_B,
        branch_S=torch.repeat_interleave(places, length_B),
        token_columns={name: v[index_S] for name, v in batch.token_columns.items()},
        branch_columns=again,
    )


def _outputs_of_both(outputs: Outputs, batch: Batch, index_B: Tensor) -> Outputs:
    """The outputs of both orders, from those of one forward pass."""
    index_S = _tokens(batch, index_B)
    return replace(
        outputs,
        logp_S=None if outputs.logp_S is None else outputs.logp_S[index_S],
        score_B=None if outputs.score_B is None else outputs.score_B[index_B],
        value_S=None if outputs.value_S is None else outputs.value_S[index_S],
        statistics={name: v[index_S] for name, v in outputs.statistics.items()},
    )


def _both(batch: Batch) -> Tensor:
    """Which branch is in each place of both orders [2B]. Rankings of more than two have no other order: their copy is
    one of weight 0."""
    place_B = torch.arange(batch.num_branches, device=batch.group_B.device)
    other_B = place_B.clone()
    first, second = batch.of_role(Role.CHOSEN), batch.of_role(Role.REJECTED)
    if not len(first):
        ranked_B = batch.role_B == int(Role.RANKED)
        two_B = ranked_B & (torch.bincount(batch.group_B, minlength=len(batch.names))[batch.group_B] == 2)
        two = two_B.nonzero().squeeze(1)
        first, second = two[0::2], two[1::2]
    other_B[first], other_B[second] = second, first
    return torch.cat([place_B, other_B])


def _tokens(batch: Batch, index_B: Tensor) -> Tensor:
    """The places of all tokens of the branches `index_B`, in their order."""
    length_B = batch.length_B[index_B]
    first_B = (torch.cumsum(batch.length_B, 0) - batch.length_B)[index_B]
    shift_B = first_B - (torch.cumsum(length_B, 0) - length_B)
    return torch.arange(int(length_B.sum()), device=length_B.device) + torch.repeat_interleave(shift_B, length_B)


def _other_label(role_B: Tensor) -> Tensor:
    good_B, bad_B = role_B == int(Role.DESIRABLE), role_B == int(Role.UNDESIRABLE)
    other_B = torch.where(good_B, torch.full_like(role_B, int(Role.UNDESIRABLE)), role_B)
    return torch.where(bad_B, torch.full_like(role_B, int(Role.DESIRABLE)), other_B)
