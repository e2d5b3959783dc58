"""Log-probabilities of completions of several turns by hand: a row of the model's own for each turn."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tr
from torch import Tensor

from twofold.batch import Branch, Group
from twofold.models.attention import stock_attention


def rows_by_hand(group: Group, branch: Branch) -> list[tuple[list[int], list[int]]]:
    """Each scored token behind all that its row holds before it, from the asides alone."""
    found: list[tuple[list[int], list[int]]] = []
    before, pending = group.prompt.tolist(), list(branch.asides)
    for place, token in enumerate(branch.tokens.tolist()):
        while pending and pending[0].at == place:
            aside = pending.pop(0)
            before = [*(group.prompt.tolist() if aside.fresh else before), *aside.tokens.tolist()]
        found.append((list(before), [token]))
        before = [*before, token]
    return found


def whole_turns(model: tr.PreTrainedModel, group: Group, branch: Branch) -> Tensor:
    """Log-probabilities [n] of the scored tokens, one row for each turn."""
    rows: list[list[Any]] = []
    for before, (token,) in rows_by_hand(group, branch):
        if rows and [*rows[-1][0], *rows[-1][1]] == before:
            rows[-1][1].append(token)
        else:
            rows.append([before, [token]])
    made: list[Tensor] = []
    for before, said in rows:
        with stock_attention(model):
            logits = model(input_ids=torch.tensor([[*before, *said]]), use_cache=False).logits[0, len(before) - 1 : -1]
        made.append(logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).squeeze(1))
    return torch.cat(made)
