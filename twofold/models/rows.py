"""Groups as padded rows, a prompt before each row of a branch, and where in them the scored tokens are predicted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from twofold.batch import Group


def padded(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """Token rows [N, longest], padded with 0 on the right. They need no mask: a causal model does not see padding to
    the right, and a masked query without a key would be NaN in float64."""
    return pad_sequence(list(rows), batch_first=True).to(device)


def whole_rows(groups: Sequence[Group]) -> list[Tensor]:
    """Each branch with its prompt, to its end."""
    return [torch.cat([g.prompt, b.strands(ends=True)[-1].tokens]) for g in groups for b in g.branches]


def predicting_rows(groups: Sequence[Group]) -> list[Tensor]:
    """Each row without its last token, which is only ever predicted."""
    return [torch.cat([g.prompt, s.tokens[:-1]]) for g in groups for b in g.branches for s in b.strands()]


def predictions(rows: Tensor, groups: Sequence[Group]) -> list[Tensor]:
    """Of what a model makes of `predicting_rows` [N, T, …] what predicts each branch's scored tokens [n, …]."""
    made, arriving = list[Tensor](), iter(rows)
    for group in groups:
        begin = len(group.prompt) - 1
        for branch in group.branches:
            strands = branch.strands()
            parts = [next(arriving)[begin : begin + len(s.tokens)] for s in strands]
            read = [p if s.scored is None else p[s.scored.to(p.device)] for p, s in zip(parts, strands, strict=True)]
            made.append(read[0] if len(read) == 1 else torch.cat(read))
    return made
